"""What is fetched, and into which room, on a disk as small as a test wants."""

import asyncio
import io
import os
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from soup_cdn_agent import fetch, part
from soup_cdn_agent.folder import Room
from soup_cdn_agent.index import Wanted
from soup_cdn_agent.part import Part

from tests.cdn_agent.badcore import BadCore, Parts, bad_core, parts, soon
from tests.conftest import sha256

LEEK = b"leek" * 250
D = sha256(LEEK)


@pytest.fixture
def core() -> Iterator[BadCore]:
    with bad_core() as core:
        yield core


def on_a_small_disk(agent: Parts, free: int) -> None:
    agent.folder.room = lambda: Room(free, 10_000)  # type: ignore[method-assign]


def wanted(agent: Parts, *blobs: bytes) -> None:
    """They should be here; the first is the oldest."""
    agent.index.expect([Wanted(sha256(data), len(data), 1, seq) for seq, data in enumerate(blobs, 1)], 0)


def bundle(*blobs: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for data in blobs:
            member = tarfile.TarInfo(sha256(data))
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return file.getvalue()


async def test_of_a_part_only_the_rest_needs_room(core: BadCore, tmp_path: Path) -> None:
    """
    Nine tenths of it are here: half of its size is room enough.
    """
    core.says(f"/{D}", 206, LEEK[900:], content_range="bytes 900-999/1000", etag=f'"{D}"')
    async with parts(tmp_path, core.url) as agent:
        on_a_small_disk(agent, 500)
        agent.expect(LEEK)
        agent.folder.part(D).write_bytes(LEEK[:900])
        async with agent.fetching():
            await soon(lambda: agent.index.here(D), 5)

        assert LEEK == agent.folder.path(D).read_bytes()
        assert agent.known.full is None


async def test_what_is_written_needs_no_room_any_more(core: BadCore, tmp_path: Path) -> None:
    """
    The disk has counted it already: the next blob is not kept waiting by it.
    """
    async with parts(tmp_path, core.url) as agent:
        blob = agent.expect(LEEK)
        agent.fetch._busy[D] = 1000
        coming = Part(agent.folder.part(D), 1000)
        coming.open()
        await agent.fetch._write(coming, blob, bytearray(LEEK[:600]))
        coming.close()

        assert {D: 400} == agent.fetch._busy


async def test_a_large_blob_without_room_holds_up_no_other(core: BadCore, tmp_path: Path) -> None:
    """
    The oldest does not fit, and all the others come; that there is one too large is said.
    """
    others = [b"%d" % number * 50 for number in range(5)]
    for data in others:
        core.says(f"/{sha256(data)}", 200, data)
    async with parts(tmp_path, core.url) as agent:
        on_a_small_disk(agent, 500)
        wanted(agent, LEEK, *others)
        async with agent.fetching():
            await soon(lambda: agent.index.counts() == (6, 1), 5)
            await soon(lambda: agent.known.full, 5)

        assert agent.index.here(D) is False
        assert "no room for a blob of 1000 bytes" in str(agent.known.full)


async def test_small_blobs_without_room_hold_up_no_smaller_ones(
    core: BadCore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Before it are more that do not fit than go into a bundle.
    """
    monkeypatch.setattr(fetch, "BUNDLED", 2)
    core.says("/api/blob:bundle", 200, bundle(b"thyme"), content_type="application/x-tar")
    async with parts(tmp_path, core.url) as agent:
        on_a_small_disk(agent, 6)
        wanted(agent, *(b"barley %d" % number for number in range(5)), b"thyme")
        async with agent.fetching():
            await soon(lambda: agent.index.here(sha256(b"thyme")), 5)


async def test_what_lies_here_is_taken_on_a_full_disk(core: BadCore, tmp_path: Path) -> None:
    """
    Somebody has filled the disk by hand, to the last byte: nothing has to come of that.
    """
    blobs = [b"1" * 2000, b"small", b"2" * 2000]
    async with parts(tmp_path, core.url) as agent:
        on_a_small_disk(agent, -1)
        wanted(agent, LEEK, *blobs, b"barley")
        for data in blobs:
            agent.folder.path(sha256(data)).parent.mkdir()
            agent.folder.path(sha256(data)).write_bytes(data)
        async with agent.fetching():
            await soon(lambda: agent.index.counts() == (5, 2), 5)
            await soon(lambda: "the disk is full" in str(agent.known.full), 5)

        assert [] == core.asked


async def test_there_is_room_again(core: BadCore, tmp_path: Path) -> None:
    """
    What was too large comes, and nobody says any more that the disk is full.
    """
    core.says(f"/{D}", 200, LEEK)
    async with parts(tmp_path, core.url) as agent:
        on_a_small_disk(agent, 500)
        agent.expect(LEEK)
        async with agent.fetching():
            await soon(lambda: agent.known.full, 5)
            on_a_small_disk(agent, 5000)
            agent.known.fetch.ring()
            await soon(lambda: agent.index.here(D) and agent.known.full is None, 5)


async def test_a_file_that_is_written_is_not_closed(
    core: BadCore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Fetching is cancelled in the middle of a write: its number may be that of another file by then.
    """
    core.says(f"/{D}", 200, LEEK)
    begun, go_on, found = threading.Event(), threading.Event(), list[Any]()

    def slow(fd: int, *_: Any) -> None:
        begun.set()
        go_on.wait(5)
        try:
            found.append(os.fstat(fd).st_ino)
        except OSError as error:
            found.append(error)

    monkeypatch.setattr(part, "put", slow)
    async with parts(tmp_path, core.url) as agent:
        agent.expect(LEEK)
        fetching = asyncio.create_task(agent.fetch.run())
        await soon(begun.is_set, 5)
        fetching.cancel()
        await asyncio.sleep(0.1)
        go_on.set()
        await asyncio.gather(fetching, return_exceptions=True)

        assert [agent.folder.part(D).stat().st_ino] == found


@pytest.mark.parametrize("data", [LEEK, b"thyme"], ids=["large", "small"])
async def test_what_is_removed_before_it_is_written_down_is_not_claimed(
    core: BadCore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    """
    It has its name; then the core deletes it, and has it once more: it is fetched once more.
    """
    monkeypatch.setattr(fetch, "REST", (0.1, 0.2))
    digest = sha256(data)
    core.says(f"/{digest}", 200, data)
    core.says("/api/blob:bundle", 200, bundle(data), content_type="application/x-tar")
    async with parts(tmp_path, core.url) as agent:
        named, came = agent.folder._name, list[str]()

        def name(file: str | Path, digest: str) -> None:
            named(file, digest)
            came.append(digest)
            if len(came) == 1:
                agent.folder.remove([digest])
                agent.index.forget([digest])
                agent.expect(data)

        agent.folder._name = name  # type: ignore[method-assign]
        agent.expect(data)
        async with agent.fetching():
            await soon(lambda: agent.index.here(digest), 5)

        assert [digest, digest] == came
        assert len(data) == agent.folder.size(digest)
