"""Room for what comes to a mirror in mode pull: on a disk that is as small as a test wants."""

import asyncio
import os
import time
from pathlib import Path

import httpx
import pytest
from soup_cdn_agent import shelf
from soup_cdn_agent.index import Corrupt, Wanted
from soup_cdn_agent.pull import No

from tests.cdn_agent.spigot import Spigot, parts, pull_mirror
from tests.conftest import sha256
from tests.wire import until


async def test_what_was_served_longest_ago_goes_first(tmp_path: Path) -> None:
    """
    Of eight that came one after the other the first was served just now: the next three go, and no more.
    """
    async with parts(tmp_path) as made:
        blobs = [made.put(b"%d" % place, 100, 400 - place) for place in range(8)]
        made.serve(blobs[0])
        made.serve(blobs[1], "soup-cdn-agent/0.1.0 probe")

        assert await made.shelf.promise("new", 350)

        assert {blobs[0], *blobs[4:]} == made.here
        assert (3, 300) == (made.known.counted["evicted"], made.known.counted["evicted_bytes"])
        assert (5, 0) == made.index.counts()


@pytest.mark.parametrize(("ago", "size"), [(400, 950), (10, 200)], ids=["too large", "all too new"])
async def test_nothing_goes_where_that_would_not_help(tmp_path: Path, ago: float, size: int) -> None:
    """
    What can never have room drives nothing out; neither does it drive out what came a moment ago.
    """
    async with parts(tmp_path) as made:
        kept = {made.put(b"%d" % place, 200, ago) for place in range(4)}

        assert not await made.shelf.promise("new", size)

        assert kept == made.here


async def test_what_is_promised_is_counted(tmp_path: Path) -> None:
    """
    Two that come at once do not get the same room.
    """
    async with parts(tmp_path) as made:
        assert [True, False] == await asyncio.gather(
            made.shelf.promise("one", 500), made.shelf.promise("other", 500)
        )


async def test_the_reserve_is_kept_whoever_fills_the_disk(tmp_path: Path) -> None:
    """
    Something else takes the room: blobs go until the reserve is free again, new ones too.
    """
    async with parts(tmp_path) as made:
        old, new = made.put(b"o", 400, 90), made.put(b"n", 400, 1)
        (made.folder.root / "other").write_bytes(b"x" * 200)
        task = asyncio.create_task(made.shelf.run())
        try:
            async with asyncio.timeout(5):
                while old in made.here:  # noqa: ASYNC110 - it may be anything
                    await asyncio.sleep(0.02)
        finally:
            task.cancel()

        assert {new} == made.here


async def test_no_room_is_made_where_the_folder_cannot_be_written(tmp_path: Path) -> None:
    """
    Who cannot write will not be helped by removing.
    """
    async with parts(tmp_path) as made:
        made.known.unwritable = "read-only"

        assert not await made.shelf.promise("new", 1)


@pytest.mark.parametrize("late", [True, False])
async def test_what_is_removed_while_it_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, late: bool
) -> None:
    """
    It counts as free for some seconds, and once: nothing else goes in its stead. Then the disk is believed.
    """
    monkeypatch.setattr(shelf, "LATE", 1.0)
    async with parts(tmp_path) as made:
        blobs = [made.put(b"%d" % place, 100, 400 - place) for place in range(8)]
        made.folder.frees = not late

        assert await made.shelf.promise("new", 350)
        assert {*blobs[3:]} == made.here
        assert await made.shelf.promise("newer", 100)
        assert {*blobs[4:]} == made.here

        made.shelf.promised.clear()
        await asyncio.sleep(1.1)
        assert await made.shelf.promise("newest", 200)
        assert {*blobs[5 if late else 4 :]} == made.here


async def test_what_cannot_be_removed_is_left_out(tmp_path: Path) -> None:
    """
    Another goes in its stead; it is kept in mind, and is not the first to be tried the next time.
    """
    async with parts(tmp_path) as made:
        blobs = [made.put(b"%d" % place, 100, 400 - place) for place in range(8)]
        made.spoil(blobs[0])

        assert await made.shelf.promise("new", 350)

        assert {blobs[0], *blobs[3:]} == made.here
        assert (6, 0) == made.index.counts()
        assert blobs[0] == made.index.longest_ago(time.time() + 1, (0, ""), 10)[-1][0]


async def test_where_nothing_can_be_removed_that_is_said(tmp_path: Path) -> None:
    """
    Of all that could go, nothing does: keeping the reserve fails, and does not try for ever.
    """
    async with parts(tmp_path) as made:
        kept = [made.put(b"%d" % place, 100, 400 - place) for place in range(3)]
        for digest in kept:
            made.spoil(digest)
        (made.folder.root / "other").write_bytes(b"x" * 950)

        with pytest.raises(IsADirectoryError):
            await asyncio.wait_for(made.shelf.run(), 5)
        assert (3, 0) == made.index.counts()


async def test_rows_without_files_make_no_room(tmp_path: Path) -> None:
    """
    Somebody has removed the files of the oldest: their bytes are not counted, and others go.
    """
    async with parts(tmp_path) as made:
        blobs = [made.put(b"%d" % place, 100, 400 - place) for place in range(8)]
        made.index.found([Wanted("0" * 64, 500, 1, 0)], 0)

        assert await made.shelf.promise("new", 350)

        assert {*blobs[3:]} == made.here
        assert 300 == made.known.counted["evicted_bytes"]


async def test_many_that_came_in_one_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    They are all looked at, a few at a time.
    """
    monkeypatch.setattr(shelf, "SOME", 3)
    async with parts(tmp_path) as made:
        blobs = [made.put(b"%d" % place, 100, 400) for place in range(8)]
        made.index._db.execute("update served set at = 1")

        assert await made.shelf.promise("new", 800)

        assert {max(blobs)} == made.here


async def test_an_index_that_cannot_be_written(core: Spigot, tmp_path: Path) -> None:
    """
    No row can go, so no room is made: what comes is passed through, and the client need not know.
    """
    digest = core.keep(b"n" * 300)
    async with parts(tmp_path, core.url) as made:
        for place in range(8):
            made.put(b"%d" % place, 100, 400)
        made.index._db.execute("pragma query_only = on")

        pull = await made.pulls.coming(digest)

        assert (True, None) == (pull.passed, pull.fault)


async def test_an_index_that_cannot_be_written_any_more(core: Spigot, tmp_path: Path) -> None:
    """
    The disk is full in the middle, and no row can go: the client is cut off, the next has it passed through.
    """
    digest = core.keep(b"n" * 200_000, stop=100)
    async with parts(tmp_path, core.url, disk=1_000_000) as made:
        made.put(b"o", 300_000, 400)
        pull = await made.pulls.coming(digest)
        made.index._db.execute("pragma query_only = on")
        full = os.open("/dev/full", os.O_RDWR)
        os.dup2(full, pull.fd)
        os.close(full)
        core.taps[digest].open.set()
        async with asyncio.timeout(5):
            while pull.fault is None:
                await pull.moved(1)

        assert (503, False) == (pull.fault.status, pull.passed)
        again = await made.pulls.coming(digest)
        assert (True, None) == (again.passed, again.fault)


async def test_a_pull_that_finds_the_index_damaged(core: Spigot, tmp_path: Path) -> None:
    """
    The client is to come again, and the work that keeps room ends of it, and the agent with that.
    """
    digest = core.keep(b"n" * 1200)
    async with parts(tmp_path) as made:
        made.index.found([Wanted(sha256(b"%d" % number), 1, 1, 0) for number in range(5000)], 1)
    with made.index.file.open("r+b") as file:
        size = file.seek(6 * 4096, os.SEEK_END)
        file.seek(6 * 4096)
        file.write(b"\xa5" * (size - 12 * 4096))
    async with parts(tmp_path, core.url) as made:
        keeping = asyncio.create_task(made.shelf.run())
        await asyncio.sleep(0.2)
        assert not keeping.done()

        with pytest.raises(No):
            await made.pulls.coming(digest)

        with pytest.raises(Corrupt):
            await asyncio.wait_for(keeping, 5)


@pytest.mark.sqlite
def test_a_reserve_that_grew(core: Spigot, tmp_path: Path) -> None:
    """
    An agent that has to keep more free gives up what is too much, and passes through from then on.
    """
    digests = [core.keep(b"%d" % number * 1000) for number in range(3)]
    with pull_mirror(tmp_path, core.url) as mirror:
        for digest in digests:
            assert 200 == httpx.get(f"{mirror.url}/{digest}").status_code
        until(lambda: mirror.agent.has(*digests))

    with pull_mirror(tmp_path, core.url, reserve=1 << 60) as mirror:
        until(lambda: not mirror.agent.files())
        assert 3 == mirror.agent.metric("evicted_total")
        assert b"0" * 1000 == httpx.get(f"{mirror.url}/{digests[0]}").content
        until(lambda: mirror.agent.status()["status"] == 1)
