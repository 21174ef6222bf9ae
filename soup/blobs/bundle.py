"""Many blobs in one answer: a tar that is unpacked into the folder of a mirror (D8)."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import structlog

from soup import metrics
from soup.blobs import queries
from soup.blobs.model import Facts
from soup.blobs.reading import Reading
from soup.blobs.suspects import Suspects
from soup.core import tar
from soup.core.blob import Blob, State
from soup.core.clock import Steady, steady
from soup.core.digest import Digest
from soup.core.errors import BlobMissing, CursorTooOld
from soup.core.span import Span
from soup.db.work import Database

log = structlog.get_logger(__name__)

ROWS = 500  # read from the database at once
FRESH = 1.0  # seconds for which they are believed: what is blocked or deleted later than that is not sent
LOT = 1 << 20  # bytes of blobs that are read in one go, and sent as one piece
MANY = 256  # blobs in one lot at most


@dataclass(frozen=True, slots=True)
class Stretch:
    """The changes of the feed with the numbers `after` < number <= `next`; `head` is that of the last one."""

    epoch: str
    after: int
    next: int
    head: int


class Bundles:
    """Makes them in constant memory. Nothing of the database is held while they are sent.

    What the store does not have, or has damaged, is left out and looked at. The pieces of a bundle raise
    BlobMissing when a large file becomes shorter while it is read: such a bundle must not look as if it had
    ended well.
    """

    def __init__(
        self, database: Database, reading: Reading, suspects: Suspects, *, monotonic: Steady = steady
    ) -> None:
        self._database, self._reading, self._now = database, reading, monotonic
        self._suspects = suspects

    async def stretch(self, after: int, epoch: str | None, limit: int | None) -> Stretch:
        """The next `limit` changes after a cursor, or all there are.

        A cursor of another history, or one that is ahead, counts as 0 (D7). Raises CursorTooOld; never for 0,
        because who starts with nothing has nothing to forget.
        """
        async with self._database.reading() as session:
            feed = await queries.history(session)
            if after > feed.head or epoch not in {None, feed.epoch}:
                after = 0
            if 0 < after < feed.floor:
                raise CursorTooOld(f"changes up to {feed.floor} are forgotten: begin with 0")
            last = None if limit is None else await queries.nth(session, after, limit)
        return Stretch(feed.epoch, after, feed.head if last is None else last, feed.head)

    def following(self, stretch: Stretch, largest: int | None) -> AsyncGenerator[bytes]:
        """What is present of a stretch, in its order, but for blobs of more than `largest` bytes."""
        return self._packed(self._changed(stretch, largest))

    def of(self, digests: Sequence[Digest]) -> AsyncGenerator[bytes]:
        """A bundle of those of these that are present, in this order."""
        return self._packed(self._named(list(dict.fromkeys(digests))))

    async def _changed(self, stretch: Stretch, largest: int | None) -> AsyncIterator[Facts]:
        cursor = stretch.after
        while cursor < stretch.next:
            async with self._database.reading() as session:
                rows = await queries.changes(session, cursor, ROWS)
            until = self._now() + FRESH
            for facts in rows:
                if facts.seq > stretch.next:
                    return
                cursor = facts.seq
                if facts.state is State.PRESENT and (largest is None or facts.size <= largest):
                    yield facts
                if self._now() > until:
                    break
            else:
                if len(rows) < ROWS:
                    return

    async def _named(self, digests: Sequence[Digest]) -> AsyncIterator[Facts]:
        place = 0
        while place < len(digests):
            some = digests[place : place + ROWS]
            async with self._database.reading() as session:
                found = await queries.known(session, some)
            until = self._now() + FRESH
            for digest in some:
                place += 1
                if digest in found:
                    yield found[digest]
                if self._now() > until:
                    break

    async def _packed(self, found: AsyncIterator[Facts]) -> AsyncGenerator[bytes]:
        lot: list[Facts] = []
        size = 0
        async for facts in found:
            if lot and (size + facts.size > LOT or len(lot) == MANY):
                yield await self._together(lot)
                lot, size = [], 0
            if facts.size <= LOT:
                lot.append(facts)
                size += facts.size
                continue
            async with aclosing(self._alone(facts)) as pieces:
                async for piece in pieces:
                    yield piece
        yield await self._together(lot) + tar.END

    async def _together(self, lot: Sequence[Facts]) -> bytes:
        """Small ones: one trip to the disk for all."""
        parts: list[bytes] = []
        for facts, data in zip(lot, await self._reading.whole([facts.blob for facts in lot]), strict=True):
            if isinstance(data, BlobMissing):
                self._missing(facts.blob, data)
            else:
                parts += (tar.header(facts.blob, facts.created_at), data, tar.padding(facts.size))
        return b"".join(parts)

    async def _alone(self, facts: Facts) -> AsyncGenerator[bytes]:
        begun = False
        try:
            with await self._reading.open(facts.blob) as opened:
                begun = True
                yield tar.header(facts.blob, facts.created_at)
                async for piece in opened.pieces(Span(0, facts.size - 1)):
                    yield piece
                yield tar.padding(facts.size)
        except BlobMissing as error:
            self._missing(facts.blob, error)
            if begun:
                raise

    def _missing(self, blob: Blob, error: BlobMissing) -> None:
        self._suspects.add(blob)
        metrics.BLOBS_MISSING.inc()
        log.error("blob.missing", digest=blob.digest, reason=str(error))
