"""Following the core's feed in mode pull: nothing is fetched, and what the core has no more goes."""

from collections.abc import Sequence
from typing import Any

import structlog

from soup_cdn_agent.answers import Stretch
from soup_cdn_agent.core import ASKED, Core
from soup_cdn_agent.feed import Feed, Holds
from soup_cdn_agent.folder import Folder
from soup_cdn_agent.index import Index
from soup_cdn_agent.known import Known, Threads
from soup_cdn_agent.pull import Pulls
from soup_cdn_agent.scan import FEW, leave

log = structlog.get_logger(__name__)


class Removals(Feed):
    """As the feed of a full mirror; where that reads the list of all blobs, this asks after those it has."""

    def __init__(
        self,
        core: Core,
        index: Index,
        folder: Folder,
        threads: Threads,
        known: Known,
        holds: Holds,
        *,
        pulls: Pulls,
        strays: str,
    ) -> None:
        super().__init__(core, index, folder, threads, known, holds)
        self._pulls, self._strays = pulls, strays

    def open(self) -> None:
        """Take up what was written down. What is not here is not wanted."""
        super().open()
        self._index.begin_pull()
        self._index.write(round=max(1, self._round))  # so that a full mirror's first list is another round

    def _limits(self) -> list[Any]:
        return ["pull", *super()._limits()]

    async def _apply(self, stretch: Stretch) -> None:
        self._pulls.gone(stretch.absent)
        await super()._apply(stretch)

    def _written(self, stretch: Stretch) -> int:
        removed = self._folder.remove(stretch.absent)
        self._index.forget(stretch.absent)
        self._index.write(cursor=stretch.next)
        return removed

    async def _merge(self) -> None:
        """Ask the core after everything that is here. What it does not have goes.

        In the history that we have read it was deleted, however much it is. In another one, and of files that
        somebody put here, it may be the core that has lost its memory: many of those stay, and it is said.
        """
        known, ledger = self._known, self._threads.ledger
        epoch, head = await self._core.head()
        if coming := self._pulls.under_way:  # where that was deleted before, neither feed nor index tells
            self._pulls.gone([*await self._core.missing(coming)])
        same = await ledger(lambda: self._index.note("epoch") == epoch and self._index.note("cursor") <= head)
        most = max(FEW, (await ledger(self._index.counts))[0] // 10)
        strays, unknown, after = list[str](), 0, None
        while some := await ledger(self._index.after, after, ASKED):
            digests = [blob.digest for blob in some]
            missing = await self._core.missing(digests)
            sure, unsure = await ledger(self._sorted, digests, missing, same)
            known.counted["removed"] += await ledger(self._drop, sure, True)  # noqa: FBT003 - as in Feed
            unknown += len(unsure)
            strays += unsure[: most + 1 - len(strays)]
            after = digests[-1]
        known.strays = None
        if self._strays == "remove" and unknown > most:
            leave(known, unknown)
        elif self._strays == "remove" and strays:
            known.counted["removed"] += await ledger(self._drop, strays, True)  # noqa: FBT003
            log.info("strays.removed", blobs=len(strays))
        await ledger(lambda: self._index.write(epoch=epoch, cursor=head, merging=False))
        known.epoch, known.cursor, known.head, known.merging = epoch, head, head, False
        known.report.ring()

    def _sorted(
        self,
        digests: Sequence[str],
        missing: set[str],
        same: bool,  # noqa: FBT001 - handed through a thread
    ) -> tuple[list[str], list[str]]:
        """Of the missing, those that were deleted, and those of which that is not sure."""
        self._index.confirm(digest for digest in digests if digest not in missing)
        if self._strays == "remove_all":
            return [*missing], []
        unsure = self._index.unconfirmed(missing) if same else missing
        return [*(missing - unsure)], sorted(unsure)
