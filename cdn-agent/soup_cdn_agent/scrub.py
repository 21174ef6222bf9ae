"""Reading what is kept again, slowly: disks forget."""

import asyncio
import hashlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

import structlog

from soup_cdn_agent.folder import BAD, Folder
from soup_cdn_agent.index import Index, Wanted
from soup_cdn_agent.known import Known, Threads
from soup_cdn_agent.pace import Pace

log = structlog.get_logger(__name__)

SOME = 256  # blobs looked up at a time
OPENING = 64 * 1024  # bytes that opening a blob counts for
REST = 3600.0  # seconds between two rounds at least
PART = 512 * 1024


class Scrub:
    """Hashes every blob in turn, at a rate in bytes a second. 0: never."""

    def __init__(self, index: Index, folder: Folder, threads: Threads, known: Known, rate: int) -> None:
        self._index, self._folder, self._threads, self._known = index, folder, threads, known
        self._pace = Pace(rate)

    async def run(self) -> None:
        """Round after round, for ever. Where the last agent stopped, this one goes on."""
        if not self._pace.rate:
            await asyncio.Event().wait()  # for ever all the same: with one of its works the agent ends
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await self.round()
            await asyncio.sleep(max(1.0, began + REST - loop.time()))

    async def round(self) -> None:
        """Read what is left of this round."""
        after = await self._threads.ledger(self._index.note, "scrubbed")
        while some := await self._threads.ledger(self._index.after, after, SOME):
            for group in _groups(some):
                if len(group) == 1:
                    await self.check(group[0])
                else:
                    await self._check_small(group)
            after = some[-1].digest
            await self._threads.ledger(lambda digest: self._index.write(scrubbed=digest), after)
        await self._threads.ledger(lambda: self._index.write(scrubbed=None))

    async def _check_small(self, group: Sequence[Wanted]) -> None:
        """Read several at once; those that do not look right are read again, singly."""
        size = sum(blob.size for blob in group)
        await self._pace.take(size + OPENING * len(group))
        wrong = await self._threads.run(_not_whole, self._folder, group)
        self._known.counted["scrubbed_bytes"] += size
        for blob in wrong:
            await self.check(blob)

    async def check(self, blob: Wanted, *, slowly: bool = True) -> bool:
        """Read one blob; whether it is right. One that is not is set aside, and wanted again."""
        pace = self._pace if slowly else Pace(0)
        await pace.take(OPENING)
        try:
            fd = await self._threads.run(self._folder.opened, blob.digest)
        except FileNotFoundError:
            return await self._bad(blob, "its file is not there")
        except OSError as error:
            if error.errno not in BAD:
                raise  # too many open files, say: no fault of this one
            return await self._bad(blob, f"it cannot be opened: {error.strerror}")
        sha, place, fault = hashlib.sha256(), 0, None
        try:
            while piece := await self._threads.through(_read, fd, sha, place):
                place += piece
                self._known.counted["scrubbed_bytes"] += piece
                await pace.take(piece)
        except OSError as error:
            if error.errno not in BAD:
                raise
            fault = f"it cannot be read: {error.strerror}"
        finally:
            os.close(fd)
        if fault is None and sha.hexdigest() != blob.digest:
            fault = f"it has {place} bytes, not {blob.size}" if place != blob.size else "it has other bytes"
        return True if fault is None else await self._bad(blob, fault)

    async def _bad(self, blob: Wanted, fault: str) -> bool:
        if not await self._threads.ledger(self._give_up, blob.digest):
            return True  # removed, or missed already
        log.error("blob.damaged", digest=blob.digest, reason=fault)
        self._known.counted["damaged"] += 1
        self._known.report.ring()
        self._known.fetch.ring()
        return False

    def _give_up(self, digest: str) -> bool:
        """Both while nobody else gets at the index, or it may be the file that came instead that goes."""
        if not self._index.here(digest):
            return False
        self._index.lost_files([digest])
        self._folder.set_aside(digest)
        return True


def _read(fd: int, sha: Any, place: int) -> int:
    piece = os.pread(fd, PART, place)
    sha.update(piece)
    return len(piece)


def _groups(blobs: Sequence[Wanted]) -> Iterator[list[Wanted]]:
    """Small ones together: to hand one to a thread costs more than to hash it."""
    group = list[Wanted]()
    for blob in blobs:
        if group and sum(one.size for one in group) + blob.size > PART:
            yield group
            group = []
        group.append(blob)
    yield group


def _not_whole(folder: Folder, blobs: Sequence[Wanted]) -> list[Wanted]:
    return [blob for blob in blobs if not folder.whole(blob.digest)]
