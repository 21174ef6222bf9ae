"""Following the core's feed: the index learns what should be here, and the folder loses what should not."""

import asyncio
import random
from dataclasses import dataclass
from typing import Any

import structlog

from soup_cdn_agent.answers import Stretch
from soup_cdn_agent.core import Core, CoreDown, CursorTooOld, Refused
from soup_cdn_agent.folder import Folder
from soup_cdn_agent.index import Index, Wanted
from soup_cdn_agent.known import Known, Threads

log = structlog.get_logger(__name__)

PAUSE = 5.0  # seconds after which a core that was down is asked again
SOME = 1000


@dataclass(frozen=True, slots=True)
class Holds:
    """The sizes of blobs that are kept here, in bytes."""

    smallest: int = 0
    largest: int | None = None

    def __contains__(self, blob: Wanted) -> bool:
        return self.smallest <= blob.size and (self.largest is None or blob.size <= self.largest)


@dataclass(slots=True)
class Listing:
    """The list of blobs while it is read: the feed at its first page, and up to where it was read."""

    epoch: str = ""
    head: int | None = None
    after: str | None = None
    done: bool = False


class Feed:
    """Reads changes from where it was left, or the whole list where that is no way to go on (D7)."""

    def __init__(
        self, core: Core, index: Index, folder: Folder, threads: Threads, known: Known, holds: Holds
    ) -> None:
        self._core, self._index, self._folder = core, index, folder
        self._threads, self._known, self._holds = threads, known, holds
        self._round = 0  # how often the list was read
        self._listing: Listing | None = None

    def open(self) -> None:
        """Take up what was written down. Other limits than then: the whole list has to be read."""
        index, known = self._index, self._known
        limits = self._limits()
        same = index.note("holds") == limits
        known.epoch, known.cursor = index.note("epoch") or "", index.note("cursor") or 0
        known.merging = not same or not known.epoch or bool(index.note("merging"))
        self._round = int(index.note("round") or 0)
        index.write(holds=limits, merging=known.merging)

    def _limits(self) -> list[Any]:
        """What is kept here: of what was kept by other limits, other blobs are missing."""
        return [self._holds.smallest, self._holds.largest]

    def heard(self, epoch: str, head: int) -> None:
        """The core has said how far the feed goes."""
        known = self._known
        known.head = head
        if known.epoch and epoch != known.epoch:
            log.warning("feed.renewed", epoch=epoch)
        elif head < known.cursor:
            log.warning("feed.went_back", head=head, cursor=known.cursor)
        if (epoch, head) != (known.epoch, known.cursor) or known.merging:
            if known.epoch != epoch or head < known.cursor:
                self._begin_anew()
            known.feed.ring()

    async def run(self) -> None:
        """Follow the feed whenever its head has moved, for ever."""
        while True:
            await self._known.feed.heard(3600)
            try:
                await self._follow()
            except (CoreDown, Refused) as error:
                log.warning("feed.unread", reason=str(error))
                after = error.after if isinstance(error, CoreDown) else 0.0
                await asyncio.sleep(max(after, PAUSE * random.uniform(0.5, 1)))  # noqa: S311 - many agents at once
                self._known.feed.ring()

    async def _follow(self) -> None:
        known, merged = self._known, False
        while True:
            if known.merging:
                if merged:
                    raise CoreDown("its feed does not go on where its list of blobs ended")
                await self._merge()
                merged = True
            try:
                stretch = await self._core.changes(known.cursor, known.epoch)
            except CursorTooOld:
                self._begin_anew()
                continue
            if stretch.epoch != known.epoch or stretch.head < known.cursor:
                self._begin_anew()
                continue
            known.head = stretch.head
            if stretch.next <= known.cursor:
                return  # nothing, for now: the next report tells
            await self._apply(stretch)
            if stretch.next >= stretch.head:
                return

    def _begin_anew(self) -> None:
        """What is claimed is of another history: the list has to be read."""
        self._known.merging = True
        self._known.report.ring()

    async def _apply(self, stretch: Stretch) -> None:
        removed = await self._threads.ledger(self._written, stretch)
        self._known.cursor = stretch.next
        self._known.counted["removed"] += removed
        self._known.fetch.ring()

    def _written(self, stretch: Stretch) -> int:
        removed = self._folder.remove(stretch.absent)  # first: on a full disk this makes room for the rest
        self._index.forget(stretch.absent)
        self._index.expect((blob for blob in stretch.present if blob in self._holds), self._round)
        self._index.write(cursor=stretch.next)
        return removed

    async def _merge(self) -> None:
        """Read the list of all blobs. What it does not name should not be here.

        A core that goes away in the middle is asked for the next page when it is back.
        """
        known, ledger = self._known, self._threads.ledger
        if self._listing is None:
            self._round = await ledger(self._begin_round)
            self._listing = Listing()
            log.info("list.read", round=self._round)
        listing = self._listing
        while not listing.done:
            page = await self._core.page(listing.after)
            if listing.head is None:
                listing.epoch, listing.head = page.epoch, page.head
            elif page.epoch != listing.epoch or page.head < listing.head:
                self._listing = None
                raise CoreDown("its feed is another than when the list was begun")
            blobs = [blob for blob in page.present if blob in self._holds]
            await ledger(self._index.expect, blobs, self._round)
            known.fetch.ring()
            listing.after, listing.done = page.next, page.next is None
        epoch, head = listing.epoch, listing.head or 0
        same = await ledger(lambda: self._index.note("epoch") == epoch and self._index.note("cursor") <= head)
        while outdated := await ledger(self._index.outdated, self._round, SOME):
            known.counted["removed"] += await ledger(self._drop, outdated, same)
        await ledger(lambda: self._index.write(epoch=epoch, cursor=head, merging=False))
        self._listing = None
        known.epoch, known.cursor, known.head, known.merging = epoch, head, head, False
        known.scanned = False  # files nobody knows are to be found
        known.scan.ring()

    def _begin_round(self) -> int:
        round = self._round + 1
        self._index.write(round=round, merging=True)
        return round

    def _drop(self, outdated: list[str], same: bool) -> int:  # noqa: FBT001 - handed through a thread
        """Forget blobs that the list does not name; how many files were removed.

        In the history that we have read they were deleted, however many they are. In another one it may be
        the core that has lost them: then their files are strays, and the scan judges.
        """
        removed = self._folder.remove(outdated) if same else 0
        self._index.forget(outdated)
        return removed
