"""Looking through the folder: what is missing, cut off, or nobody's."""

import structlog

from soup_cdn_agent.folder import Folder
from soup_cdn_agent.index import Index
from soup_cdn_agent.known import Known, Threads

log = structlog.get_logger(__name__)

DAILY = 86_400.0
FEW = 100  # strays that are removed without asking, or a tenth of what should be here


class Scan:
    """Compares names and sizes with the index: at the start, when a blob is found missing, and once a day.

    Nothing is claimed before the first has ended. `strays` is what becomes of blobs the core does not have:
    `remove`, or `keep`.
    """

    def __init__(self, index: Index, folder: Folder, threads: Threads, known: Known, strays: str) -> None:
        self._index, self._folder, self._threads, self._known = index, folder, threads, known
        self._strays = strays

    async def run(self) -> None:
        """Scan whenever somebody asks for it, for ever."""
        while True:
            await self.once()
            await self._known.scan.heard(DAILY)

    async def once(self) -> None:
        """One look at all folders. What is missing or cut off is wanted again; strays go."""
        known, gone, strays = self._known, 0, list[str]()
        for prefix in self._folder.prefixes():
            lost, unknown = await self._threads.ledger(self._compare, prefix)
            gone += lost
            strays += unknown
        known.blobs, known.wanted = await self._threads.ledger(self._index.counts)
        if not known.merging:
            await self._judge(strays)
            known.scanned = True
        if gone:
            log.warning("folder.incomplete", blobs=gone)
            known.fetch.ring()
        known.report.ring()

    def _compare(self, prefix: str) -> tuple[int, list[str]]:
        """How many of a folder's blobs are not as they should be, and which files nobody wants.

        Both lists are read while nobody writes to the index: a blob that comes now is on both or on neither.
        """
        files, rows = self._folder.files(prefix), self._index.folder(prefix)
        lost = [digest for digest, (size, here) in rows.items() if here and files.get(digest) != size]
        if lost:
            self._index.lost_files(lost)
        return len(lost), [digest for digest in files if digest not in rows]

    async def _judge(self, strays: list[str]) -> None:
        """Remove blobs the core does not have, unless they are so many that it may be the core that errs."""
        known = self._known
        known.strays = None
        if not strays or self._strays == "keep":
            return
        if len(strays) > max(FEW, known.blobs // 10) and self._strays != "remove_all":
            known.strays = (
                f"{len(strays)} blobs here are unknown to soup, too many to remove unasked:"
                " set strays to remove_all or keep"
            )
            log.error("strays.kept", blobs=len(strays))
            return
        removed = await self._threads.ledger(self._remove, strays)
        log.info("strays.removed", blobs=removed)
        known.counted["removed"] += removed

    def _remove(self, strays: list[str]) -> int:
        return self._folder.remove(digest for digest in strays if self._index.here(digest) is None)
