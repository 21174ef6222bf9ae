"""Looking through the folder: what is missing, cut off, or nobody's."""

import structlog

from soup_cdn_agent.folder import Folder
from soup_cdn_agent.index import Index
from soup_cdn_agent.known import Known, Threads

log = structlog.get_logger(__name__)

DAILY = 86_400.0
SOME = 250  # files removed while nobody else gets at the index
FEW = 100  # strays that are removed without asking, or a tenth of what should be here


class Scan:
    """Compares names and sizes with the index: at the start, when a blob is found missing, and once a day.

    Nothing is claimed before the first has ended. `strays` is what becomes of blobs the core does not have:
    `remove`, `remove_all`, or `keep`.
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
        known, ledger = self._known, self._threads.ledger
        merging, gone, unknown = known.merging, 0, 0
        known.blobs, known.wanted = await ledger(self._index.counts)
        most = max(FEW, known.blobs // 10)
        strays: list[str] = []
        for prefix in self._folder.prefixes():
            lost, found = await ledger(self._compare, prefix)
            gone += lost
            if found and self._strays == "remove_all" and not known.merging:
                known.counted["removed"] += await ledger(self._remove, found)
            elif self._strays == "remove":
                unknown += len(found)
                strays += found[: most - len(strays)]
        known.blobs, known.wanted = await ledger(self._index.counts)
        # Rung: a list was begun and read meanwhile, and what we have counted is half of one, half of another.
        if not merging and not known.merging and not known.scan.rung:
            await self._judge(strays, unknown)
        if not known.merging:
            await ledger(self._remove_parts)
            if not known.scan.rung:  # else there is more to be found
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

    async def _judge(self, strays: list[str], unknown: int) -> None:
        """Remove blobs the core does not have, unless they are so many that it may be the core that errs."""
        known = self._known
        known.strays = None
        if unknown > len(strays):
            leave(known, unknown)
            return
        removed = 0
        for start in range(0, len(strays), SOME):
            removed += await self._threads.ledger(self._remove, strays[start : start + SOME])
        if removed:
            log.info("strays.removed", blobs=removed)
        known.counted["removed"] += removed

    def _remove(self, strays: list[str]) -> int:
        return self._folder.remove(digest for digest in strays if self._index.here(digest) is None)

    def _remove_parts(self) -> None:
        """Parts of blobs that nobody waits for any more: deleted while the agent was away."""
        self._folder.remove_parts(
            part for part in self._folder.parts() if self._index.here(part) is not False
        )


def leave(known: Known, unknown: int) -> None:
    """Say that so many blobs stay though the core does not have them: it may be the core that errs."""
    known.strays = (
        f"{unknown} blobs here are unknown to soup, too many to remove unasked:"
        " set strays to remove_all or keep"
    )
    log.error("strays.kept", blobs=unknown)
