"""Room for what comes to a mirror in mode pull: on a disk that is as small as a test wants."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from soup_cdn_agent.folder import OWN, Folder, Room
from soup_cdn_agent.index import Index, Wanted
from soup_cdn_agent.known import Known, Threads
from soup_cdn_agent.shelf import Shelf
from soup_cdn_agent.traffic import Traffic

from tests.cdn_agent.spigot import Spigot, pull_mirror
from tests.conftest import sha256
from tests.wire import until

LINE = '127.0.0.1 - - [22/Nov/2026:00:00:00 +0000] "GET /%s HTTP/1.1" 200 %d "-" "%s"\n'


class Small(Folder):
    """On a disk of 1000 bytes."""

    def room(self) -> Room:
        files = (path for path in self.root.rglob("*") if path.is_file() and OWN not in path.parts)
        return Room(1000 - sum(path.stat().st_size for path in files), 1000)


class Parts:
    """A shelf over such a disk, its reserve 100 bytes."""

    def __init__(self, folder: Path, keep: float) -> None:
        self.threads, self.known, self.log = Threads(), Known(), folder / "access.log"
        self.log.touch()
        self.folder = Small(folder / "blobs", 100)
        self.folder.open()
        self.index = Index(self.folder.own / "index.db")
        self.traffic = Traffic([self.log], self.index, self.threads, digests=True)
        parts = self.index, self.folder, self.threads, self.known
        self.shelf = Shelf(*parts, self.traffic, keep=keep, again=0.05)

    def put(self, name: bytes, size: int, ago: float) -> str:
        """A blob that came so many seconds ago."""
        data = name * size
        self.folder.keep([(sha256(data), data, 1)])
        self.index.pulled(Wanted(sha256(data), size, 1, 0), time.time() - ago)
        return sha256(data)

    def serve(self, digest: str, agent: str = "curl") -> None:
        with self.log.open("a") as log:
            log.write(LINE % (digest, 100, agent))

    @property
    def here(self) -> set[str]:
        return {path.name for path in self.folder.root.glob("???/*")}


@asynccontextmanager
async def parts(folder: Path, keep: float = 50) -> AsyncIterator[Parts]:
    made = Parts(folder, keep)
    await made.traffic.count()  # a log begins at its end
    try:
        yield made
    finally:
        made.threads.close()
        made.index.close()
        made.folder.close()


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
