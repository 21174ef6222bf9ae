"""Looking through the folder in mode pull: what is missing is given up, and what lies there is taken in."""

import time

import structlog

from soup_cdn_agent.folder import Folder
from soup_cdn_agent.index import Index, Wanted
from soup_cdn_agent.known import Known, Threads
from soup_cdn_agent.scan import DAILY

log = structlog.get_logger(__name__)


class Survey:
    """Compares names and sizes with the index: at the start, when a blob is found missing, and once a day.

    A file that the index does not know is read; one with other bytes than its name says is set aside. Whether
    the core has the others is asked then.
    """

    def __init__(self, index: Index, folder: Folder, threads: Threads, known: Known) -> None:
        self._index, self._folder, self._threads, self._known = index, folder, threads, known

    async def run(self) -> None:
        """Look whenever somebody asks for it, for ever."""
        while True:
            await self.once()
            await self._known.scan.heard(DAILY)

    async def once(self) -> None:
        """One look at all folders."""
        known, gone, found = self._known, 0, 0
        for prefix in self._folder.prefixes():
            lost, unknown = await self._threads.ledger(self._compare, prefix)
            gone += lost
            for digest in unknown:
                found += await self._take_in(digest)
        await self._threads.ledger(lambda: self._folder.remove_parts([*self._folder.parts()]))
        if gone:
            log.warning("folder.incomplete", blobs=gone)
            known.fetch.ring()
        if found:
            known.counted["adopted"] += found
            await self._threads.ledger(lambda: self._index.write(merging=True))
            known.merging = True
            known.feed.ring()
        known.blobs, known.wanted = await self._threads.ledger(self._index.counts)
        known.scanned = True
        known.report.ring()
        known.look.ring()

    def _compare(self, prefix: str) -> tuple[int, list[str]]:
        """How many of a folder's blobs are not as they should be, and which files nobody knows."""
        files, rows = self._folder.files(prefix), self._index.folder(prefix)
        lost = [digest for digest, (size, _) in rows.items() if files.get(digest) != size]
        if lost:
            self._index.lost_files(lost)
        return len(lost), [digest for digest in files if digest not in rows]

    async def _take_in(self, digest: str) -> bool:
        """Read a file, and know it if it is right."""
        seen = await self._threads.run(self._folder.seen, digest)
        if seen is None:
            return False
        size, changed = seen
        if not await self._threads.run(self._folder.right, [(digest, size, changed)]):
            log.warning("blob.set_aside", digest=digest, size=size)
            return False
        await self._threads.ledger(self._index.found, [Wanted(digest, size, changed, 0)], time.time())
        return True
