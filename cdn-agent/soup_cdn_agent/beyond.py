"""What there is no room for, and which of it needs none: it may lie here already, or a part of it."""

import asyncio
from collections.abc import Callable, Sequence

from soup_cdn_agent.folder import Folder
from soup_cdn_agent.index import Index, Wanted
from soup_cdn_agent.known import Threads

SOME = 10_000  # blobs looked at in one go


class Beyond:
    """Looks through all wanted blobs of some sizes, again and again, with pauses of `again` seconds.

    `lacks` is the size of one that there was no room for in this round, or in the last.
    """

    def __init__(
        self, index: Index, folder: Folder, threads: Threads, *, above: int, up_to: int, again: float
    ) -> None:
        self._index, self._folder, self._threads = index, folder, threads
        self._above, self._up_to, self._again = above, up_to, again
        self._after, self._resting_until = -1, 0.0
        self._lacks: int | None = None
        self.lacks: int | None = None

    async def found(self, most: int, left: int, may: Callable[[str], bool]) -> dict[Wanted, int]:
        """The next that fit into what is left, of those that `may`; and what is to come of each."""
        now = asyncio.get_running_loop().time()
        if now < self._resting_until:
            return {}
        above, after = max(self._above, left), self._after
        if above >= self._up_to:
            self._after, self.lacks, self._lacks = -1, None, None
            return {}
        rows = await self._threads.ledger(
            lambda: self._index.wanted(SOME, above=above, up_to=self._up_to, after=after)
        )
        fitting, seen = await self._threads.run(
            self._fit, [row for row in rows if may(row.digest)], most, left
        )
        if seen is not None:
            self._after = seen
        elif len(rows) == SOME:
            self._after = rows[-1].seq
        else:
            self._after, self._resting_until = -1, now + self._again
            self.lacks, self._lacks = self._lacks, None
        self.lacks = self.lacks or self._lacks
        return fitting

    def _fit(self, rows: Sequence[Wanted], most: int, left: int) -> tuple[dict[Wanted, int], int | None]:
        """Those that fit, and the number of the last if there may be more behind it."""
        found = dict[Wanted, int]()
        for row in rows:
            lacking = self._folder.lacking(row.digest, row.size)
            if lacking > max(0, left):
                self._lacks = self._lacks or row.size
                continue
            found[row] = lacking
            left -= lacking
            if len(found) == most:
                return found, row.seq
        return found, None
