"""Room for what comes: what was served longest ago goes first."""

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from contextlib import suppress

import structlog

from soup_cdn_agent.folder import Folder
from soup_cdn_agent.index import Index
from soup_cdn_agent.known import Known, Threads
from soup_cdn_agent.traffic import Traffic

log = structlog.get_logger(__name__)

SOME = 1000  # blobs looked at, or removed, at a time
FOR_EVER = float("inf")


class Shelf:
    """Keeps `reserve` free, counting what is `promised` to blobs on their way: bytes by digest.

    What came or was served in the last `keep` seconds does not make room for others, only for the reserve.
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
        self.promised: dict[str, int] = {}

    async def run(self) -> None:
        """Give up what is not here any more, and keep the reserve, for ever."""
        while True:
            await self._threads.ledger(self._index.give_up_wanted)
            if self._known.unwritable is None:
                await self._has(0, FOR_EVER)
            await self._known.fetch.heard(self._again)

    async def promise(self, digest: str, size: int) -> bool:
        """Keep room for a blob, if there is any or can be made. Raises OSError."""
        if self._known.unwritable or not await self._has(size, time.time() - self._keep):
            return False
        self.promised[digest] = size
        return True

    async def more(self, size: int) -> bool:
        """The disk is full, whatever was promised: whether so much was removed."""
        async with self._alone:
            return await self._evict(size, time.time() - self._keep)

    async def _has(self, size: int, before: float) -> bool:
        async with self._alone:
            lacking = size - await self._left()
            if lacking <= 0:
                return True
            return await self._evict(lacking, before) and size <= await self._left()

    async def _left(self) -> int:
        room = await self._threads.run(self._folder.room)
        return room.free - self._folder.reserve(room) - sum(self.promised.values())

    async def _evict(self, size: int, before: float) -> bool:
        """Remove so many bytes of blobs that were not served since; none where there are fewer."""
        with suppress(sqlite3.OperationalError):  # no room to write that down: the older order has to do
            await self._traffic.count()
        oldest = await self._threads.ledger(self._oldest, size, before)
        if not oldest:
            return False
        for start in range(0, len(oldest), SOME):
            some = oldest[start : start + SOME]
            await self._threads.ledger(self._remove, [digest for digest, _ in some])
            self._known.counted["evicted"] += len(some)
            self._known.counted["evicted_bytes"] += sum(held for _, held in some)
        log.info("blobs.evicted", blobs=len(oldest), bytes=sum(held for _, held in oldest))
        return True

    def _oldest(self, size: int, before: float) -> list[tuple[str, int]]:
        """What was served longest ago, of so many bytes. Before now all may go: then as many as there are."""
        found, after = list[tuple[str, int]](), -FOR_EVER
        while size > 0 and (rows := self._index.longest_ago(before, after, SOME)):
            for digest, held, at in rows:
                found.append((digest, held))
                size, after = size - held, at
                if size <= 0:
                    break
        return found if size <= 0 or before == FOR_EVER else []

    def _remove(self, digests: Sequence[str]) -> None:
        """Both while nobody else gets at the index: a blob that comes again is whole or not there."""
        self._folder.remove(digests)
        self._index.forget(digests)
