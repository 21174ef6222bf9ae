"""What breaks beside an agent: nothing is claimed that is not here, and nothing sticks."""

import errno
import os
import resource
import socket
import sqlite3
import tarfile
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from soup_cdn_agent import fetch
from soup_cdn_agent.core import CoreDown
from soup_cdn_agent.index import Corrupt, Index, Wanted, damaged
from soup_cdn_agent.tar import BadBundle, members

from tests.cdn_agent.badcore import BadCore, bad_core, parts, row, soon
from tests.conftest import sha256
from tests.databases import free_port

LEEK = b"leek" * 1000
D = sha256(LEEK)


@pytest.fixture
def core() -> Iterator[BadCore]:
    with bad_core() as core:
        yield core


async def test_a_list_that_could_not_be_written_down_is_no_list(core: BadCore, tmp_path: Path) -> None:
    """
    The disk is full at its first page: it is read again, and nothing of before is forgotten or claimed.
    """
    blobs = [b"%d" % number * 100 for number in range(500)]
    core.lists(*blobs)
    async with parts(tmp_path, core.url) as agent:
        agent.index._db.execute("pragma max_page_count = 8")
        agent.feed.heard("e", 500)
        with pytest.raises(sqlite3.OperationalError, match="full"):
            await agent.feed._follow()
        assert agent.known.merging

        agent.index._db.execute("pragma max_page_count = 100000")
        await agent.feed._follow()

        assert (500, 500) == agent.index.counts()
        assert (500, False) == (agent.known.cursor, agent.known.merging)


@pytest.mark.parametrize("answer", [{"epoch": "other", "next": 9}, {"epoch": "e", "next": 0}])
async def test_a_feed_that_leads_nowhere_is_not_asked_without_end(
    core: BadCore, tmp_path: Path, answer: dict[str, object]
) -> None:
    """
    One that says there is more and gives nothing, or is another than the list: a few requests, no more.
    """
    core.lists(LEEK)
    core.says("/api/blob:changes", 200, {"head": 9, "changes": [], **answer})
    async with parts(tmp_path, core.url) as agent:
        agent.feed.heard("e", 9)
        with suppress(CoreDown):
            await agent.feed._follow()

    assert len(core.asked) <= 4


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>please log in</html>",
        [],
        {},
        {"epoch": "e", "head": None, "changes": [], "next": 1},
        {"epoch": "e", "head": 1, "next": 1, "changes": [row(b"", 1) | {"digest": "../../etc/passwd"}]},
        {"epoch": "e", "head": 1, "next": 1, "changes": [row(b"", 1) | {"size": -1}]},
        {"epoch": "e", "head": 1, "next": 1, "changes": [row(b"", 1) | {"created_at": "soon"}]},
        {"epoch": "e", "head": 1, "next": 1, "changes": [{"digest": "../x", "state": "deleted"}]},
        {"epoch": "e", "head": 1, "next": 1, "changes": 7},
    ],
)
async def test_what_no_core_would_say_is_a_core_that_is_down(
    core: BadCore, tmp_path: Path, answer: object
) -> None:
    """
    A portal that wants a password, a core of another age: the other core is asked next, and nothing breaks.
    """
    core.says("/", 200, answer)
    async with parts(tmp_path, core.url) as agent:
        with pytest.raises(CoreDown, match="not an answer of soup's"):
            await agent.core.changes(0, "e")
        with pytest.raises(CoreDown, match="not an answer of soup's"):
            await agent.core.page(None)


async def test_a_core_asks_for_no_more_than_it_may(core: BadCore, tmp_path: Path) -> None:
    """
    Reports every 0 seconds, or a pause of years: neither is done.
    """
    core.says("/api/cdn/1", 200, {"epoch": "e", "head": 1, "interval": 0})
    core.says("/api/blob:list", 503, {}, retry_after="99999999")
    async with parts(tmp_path, core.url) as agent:
        assert 0.5 == (await agent.core.report({}, 5)).interval
        with pytest.raises(CoreDown) as caught:
            await agent.core.page(None)
        assert 300 == caught.value.after


async def test_a_core_that_hangs_is_not_asked_again_while_there_is_another(
    core: BadCore, tmp_path: Path
) -> None:
    """
    It takes the connection and says nothing: the next report goes to the next core.
    """
    core.says("/api/cdn/1", 200, {"epoch": "e", "head": 1})
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with parts(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}", core.url) as agent:
            with pytest.raises(CoreDown):
                await agent.core.report({}, 0.3)
            assert 1 == (await agent.core.report({}, 5)).head


@pytest.mark.parametrize("fault", ["dead", "wrong", "short", "sends on", "itself", "a file", "no host"])
async def test_a_mirror_that_cannot_help_holds_nothing_up(core: BadCore, tmp_path: Path, fault: str) -> None:
    """
    The core sends us to another mirror that is no good from here: the core itself is asked at once.
    """
    links = {
        "dead": f"http://127.0.0.1:{free_port()}/{D}",
        "itself": f"{core.url}/{D}?from=mirrors",
        "a file": "file:///etc/passwd",
        "no host": f"http://{'x' * 70}..y/{D}",
    }
    core.says("/other/wrong", 200, b"sand" * 1000)
    core.says("/other/short", 200, b"leek")
    core.says("/other/sends on", 307, b"", location="http://127.0.0.1/")
    link = links.get(fault, f"{core.url}/other/{fault.replace(' ', '%20')}")
    core.says("/other/sends%20on", 307, b"", location="http://127.0.0.1/")
    core.says(f"/{D}", 200, LEEK)
    core.says(f"/{D}?from=mirrors", 307, b"", location=link)
    async with parts(tmp_path, core.url) as agent:
        agent.expect(LEEK)
        async with agent.fetching():
            await soon(lambda: agent.folder.size(D) == len(LEEK), 3)


async def test_a_blob_that_is_deleted_while_it_rests_is_given_up(
    core: BadCore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    It could not be had, and then the core deleted it: the mirror does not complain of it for ever, nor spin.
    """
    monkeypatch.setattr(fetch, "REST", (0.1, 0.2))
    async with parts(tmp_path, core.url) as agent:
        blob = agent.expect(LEEK)
        async with agent.fetching():
            await soon(lambda: agent.known.failing == 1)
            agent.index.forget([blob.digest])
            await soon(lambda: agent.known.failing == 0)

            assert agent.fetch._pause() > 5


async def test_what_has_rested_and_cannot_begin_wakes_nobody(core: BadCore, tmp_path: Path) -> None:
    """
    All places are taken, or the disk is full: it is looked at again in time, and not twenty times a second.
    """
    async with parts(tmp_path, core.url) as agent:
        agent.fetch._resting[D] = 1, 0.0

        assert agent.fetch._pause() > 5


async def test_a_token_that_is_refused_is_no_blobs_fault(core: BadCore, tmp_path: Path) -> None:
    """
    It is being rotated: fetching waits, and no blob counts as one that cannot be had.
    """
    core.says("/", 401, {})
    async with parts(tmp_path, core.url) as agent:
        agent.expect(LEEK)
        async with agent.fetching():
            await soon(lambda: agent.fetch._paused_until)
        assert 0 == agent.known.counted["fetch_failures"]


async def test_too_many_open_files_are_no_damage(core: BadCore, tmp_path: Path) -> None:
    """
    A scrub that cannot open a file for want of numbers leaves that file where it is.
    """
    async with parts(tmp_path, core.url) as agent:
        blob = agent.expect(LEEK)
        agent.folder.keep([(D, LEEK, 1)])
        agent.index.arrived([D])
        assert await agent.scrub.check(blob)  # all threads are there
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        try:
            with pytest.raises(OSError, match="Too many") as caught:
                await agent.scrub.check(blob)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)

        assert errno.EMFILE == caught.value.errno
        assert agent.index.here(D)
        assert agent.folder.size(D)


@pytest.mark.parametrize("there", ["a file as its folder", "a folder", "a link to itself", "a pipe"])
async def test_one_file_that_cannot_be_read_does_not_end_the_scrub(
    core: BadCore, tmp_path: Path, there: str
) -> None:
    """
    Something else lies in its place: it is reported as lacking, and the others are read.
    """
    async with parts(tmp_path, core.url) as agent:
        blob = agent.expect(LEEK)
        agent.index.arrived([D])
        path = agent.folder.path(D)
        if there == "a file as its folder":
            path.parent.write_bytes(b"a file where a folder should be")
        else:
            path.parent.mkdir()
            {"a folder": path.mkdir, "a pipe": lambda: os.mkfifo(path)}.get(
                there, lambda: path.symlink_to(path)
            )()

        await agent.scrub.round()

        assert agent.index.here(D) is False
        assert 1 == agent.known.counted["damaged"]
        agent.index.arrived([D])
        assert await agent.scrub.check(blob) is False


async def test_one_blob_that_cannot_be_removed_does_not_stop_the_feed(core: BadCore, tmp_path: Path) -> None:
    """
    What was deleted after it goes at once; that one goes with a later scan, when it can.
    """
    deleted = [{"digest": sha256(data), "state": "deleted", "seq": 3} for data in (LEEK, b"thyme")]
    core.lists(LEEK, b"thyme")
    async with parts(tmp_path, core.url) as agent:
        agent.feed.heard("e", 2)
        await agent.feed._follow()
        agent.folder.keep([(sha256(b"thyme"), b"thyme", 1)])
        agent.folder.path(D).mkdir(parents=True)
        core.says("/api/blob:changes", 200, {"epoch": "e", "head": 4, "changes": deleted, "next": 4})

        await agent.feed._follow()

        assert (4, (0, 0)) == (agent.known.cursor, agent.index.counts())
        assert not agent.folder.path(sha256(b"thyme")).exists()
        assert 1 == agent.known.counted["removed"]
        agent.folder.path(D).rmdir()
        agent.folder.keep([(D, LEEK, 1)])
        await agent.known.scan.heard(0.1)
        await agent.scan.once()
        assert not agent.folder.path(D).exists()


async def test_parts_of_blobs_that_nobody_waits_for_go(core: BadCore, tmp_path: Path) -> None:
    """
    A blob was deleted while the agent was away, half fetched: its half does not stay for ever.
    """
    async with parts(tmp_path, core.url) as agent:
        wanted = agent.expect(LEEK).digest
        for digest in (wanted, "f" * 64):
            agent.folder.part(digest).write_bytes(b"le")
        agent.known.merging = False

        await agent.scan.once()

        assert [wanted] == [*agent.folder.parts()]
        assert agent.known.scanned


async def test_what_is_lost_during_a_scan_is_found_by_the_next(core: BadCore, tmp_path: Path) -> None:
    """
    Somebody rings while it looks: what it has seen is not the last word.
    """
    async with parts(tmp_path, core.url) as agent:
        agent.known.merging = False
        agent.known.scan.ring()
        await agent.scan.once()
        assert not agent.known.scanned

        await agent.known.scan.heard(0.1)
        await agent.scan.once()
        assert agent.known.scanned


def test_an_index_is_thrown_away_only_when_it_is_damaged(tmp_path: Path) -> None:
    """
    Locked or on a full disk it is good all the same: what it says of deliveries is nowhere else.
    """
    index = Index(tmp_path / "index.db")
    other = sqlite3.connect(index.file, timeout=0, isolation_level=None)
    index._db.execute("begin immediate")
    with pytest.raises(sqlite3.OperationalError) as locked:
        other.execute("begin immediate")
    (tmp_path / "rubbish").write_bytes(b"rubbish" * 1000)
    with pytest.raises(sqlite3.DatabaseError) as rubbish:
        sqlite3.connect(tmp_path / "rubbish").execute("select * from blob")
    other.close()

    assert not damaged(locked.value)
    assert damaged(rubbish.value)


def rot(index: Path) -> None:
    """Damage all but the first pages of an index of many blobs."""
    with index.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        assert size > 20 * 4096
        file.seek(6 * 4096)
        file.write(b"\xa5" * (size - 6 * 4096))


async def test_a_damaged_index_says_so(core: BadCore, tmp_path: Path) -> None:
    """
    Not as one of many faults of a disk, after which it would be tried again for ever.
    """
    async with parts(tmp_path / "old", core.url) as agent:
        agent.index.expect([Wanted(sha256(b"%d" % n), 1, 1, n) for n in range(5000)], 0)
    rot(tmp_path / "old/.soup-cdn/index.db")
    async with parts(tmp_path / "old", core.url) as agent:
        with pytest.raises(Corrupt):
            await agent.scan.once()


async def test_a_bundle_with_a_size_below_nothing_is_refused() -> None:
    """
    It would come out again and again.
    """
    head = bytearray(tarfile.TarInfo(D).tobuf(tarfile.USTAR_FORMAT))
    head[124:136] = (-1024).to_bytes(12, "big", signed=True)
    head[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(head))[0]

    async def coming() -> AsyncIterator[bytes]:
        yield bytes(head)

    with pytest.raises(BadBundle):
        [one async for one in members(coming(), 10_000)]
