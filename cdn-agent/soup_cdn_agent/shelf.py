"""Room for what comes: what was served longest ago goes first."""

import asyncio
import sqlite3
import time
from collections.abc import Container, Sequence
from contextlib import suppress

import structlog

from soup_cdn_agent.folder import Folder, warn
from soup_cdn_agent.index import Corrupt, Index
from soup_cdn_agent.known import Known, Threads
from soup_cdn_agent.traffic import Traffic

log = structlog.get_logger(__name__)

SOME = 1000  # blobs looked at, or removed, at a time
LATE = 5.0  # seconds that a file system has to free what was removed
FOR_EVER = float("inf")


class Shelf:
    """Keeps `reserve` free, counting what is `promised` to blobs on their way: bytes by digest.

    What came or was served in the last `keep` seconds does not make room for others, only for the reserve.
    An index that others find `damaged` ends its `run`.
    """

    def __init__(
        self,
        index: Index,
        folder: Folder,
        threads: Threads,
        known: Known,
        traffic: Traffic,
        *,
        keep: float,
        again: float,
    ) -> None:
        self._index, self._folder, self._threads, self._known = index, folder, threads, known
        self._traffic, self._keep, self._again = traffic, keep, again
        self._alone = asyncio.Lock()
        self._late: list[tuple[float, int]] = []  # until when these bytes count as free that are not yet
        self.promised: dict[str, int] = {}
        self.damaged: Corrupt | None = None

    async def run(self) -> None:
        """Give up what is not here any more, and keep the reserve, for ever. Raises Corrupt."""
        while True:
            if self.damaged is not None:
                raise self.damaged
            await self._threads.ledger(self._index.give_up_wanted)
            if self._known.unwritable is None:
                await self._has(0, FOR_EVER)
            await self._known.fetch.heard(self._again)

    async def promise(self, digest: str, size: int) -> bool:
        """Keep room for a blob, if there is any or can be made. Raises OSError, sqlite3.Error, Corrupt."""
        if self._known.unwritable or not await self._has(size, time.time() - self._keep):
            return False
        self.promised[digest] = size
        return True

    async def more(self, size: int) -> bool:
        """The disk is full, whatever was promised: whether so much was removed.

        Raises OSError, sqlite3.Error, Corrupt.
        """
        async with self._alone:
            return await self._evict(size, time.time() - self._keep)

    async def _has(self, size: int, before: float) -> bool:
        async with self._alone:
            lacking = size - await self._left()
            return lacking <= 0 or await self._evict(lacking, before)

    async def _left(self) -> int:
        room = await self._threads.run(self._folder.room)
        now = time.monotonic()
        self._late = [(until, size) for until, size in self._late if until > now]
        late = sum(size for _, size in self._late)
        return room.free + late - self._folder.reserve(room) - sum(self.promised.values())

    async def _evict(self, size: int, before: float) -> bool:
        """Remove so many bytes of blobs that were not served since; none where there are fewer.

        Raises OSError where nothing can be removed.
        """
        with suppress(sqlite3.OperationalError):  # no room to write that down: the older order has to do
            await self._traffic.count()
        left, blobs, removed, stuck = await self._left(), 0, 0, dict[str, OSError]()
        while removed < size and len(stuck) < SOME:
            oldest = await self._threads.ledger(self._oldest, size - removed, before, stuck)
            if not oldest:
                break
            for start in range(0, len(oldest), SOME):
                gone, bad = await self._threads.ledger(self._remove, oldest[start : start + SOME])
                blobs, removed, stuck = blobs + len(gone), removed + sum(gone), stuck | bad
        # What is still being sent, or what the file system takes its time for, is not free yet. Whoever
        # believed only what that says would remove as much again for everybody who asks meanwhile.
        if (late := left + removed - await self._left()) > 0:
            self._late.append((time.monotonic() + LATE, min(late, removed)))
        self._say(blobs, removed, stuck)
        return removed >= size

    def _say(self, blobs: int, removed: int, stuck: dict[str, OSError]) -> None:
        if blobs:
            self._known.counted["evicted"] += blobs
            self._known.counted["evicted_bytes"] += removed
            log.info("blobs.evicted", blobs=blobs, bytes=removed)
        elif stuck:
            raise next(iter(stuck.values()))
        warn("blobs.stuck", stuck)

    def _oldest(self, size: int, before: float, stuck: Container[str]) -> list[tuple[str, int]]:
        """What was served longest ago, of so many bytes. Before now all may go: then as many as there are."""
        found, after = list[tuple[str, int]](), (-FOR_EVER, "")
        while size > 0 and (rows := self._index.longest_ago(before, after, SOME)):
            for digest, held, at in rows:
                after = at, digest
                if digest in stuck:
                    continue
                found.append((digest, held))
                size -= held
                if size <= 0:
                    break
        return found if size <= 0 or before == FOR_EVER else []

    def _remove(self, blobs: Sequence[tuple[str, int]]) -> tuple[list[int], dict[str, OSError]]:
        """The sizes of those that were here, and what cannot be removed: that goes to the end of the order.

        All while nobody else gets at the index: a blob that comes again is whole or not there.
        """
        sizes, stuck = list[int](), dict[str, OSError]()
        for digest, size in blobs:
            try:
                if self._folder.remove_one(digest):
                    sizes.append(size)
            except OSError as error:
                stuck[digest] = error
        self._index.forget(digest for digest, _ in blobs if digest not in stuck)
        if stuck:
            self._index.served(stuck, time.time())
        return sizes, stuck
