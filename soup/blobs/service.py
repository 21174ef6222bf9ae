"""What can be done with blobs."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from soup import metrics
from soup.blobs import queries
from soup.blobs.index import Ask, Index
from soup.blobs.known import Found
from soup.blobs.model import Changes, Facts, Feed, Kept
from soup.blobs.reading import Opened, Reading
from soup.blobs.suspects import Suspects
from soup.blobs.sweep import sweep
from soup.core.blob import Blob, State
from soup.core.digest import Digest
from soup.core.errors import (
    BlobBlocked,
    BlobUnknown,
    Busy,
    CursorTooOld,
    DatabaseDown,
    DigestMismatch,
    NotAsExpected,
    SoupError,
    StillBlocked,
)
from soup.core.gather import Gather
from soup.db.lease import Held
from soup.db.work import Contended, Database, Work
from soup.stores.base import Source, Store
from soup.stores.spool import Spool

log = structlog.get_logger(__name__)

GROUP = 256  # blobs in one transaction at most
COUNTED = 100_000  # rows looked at in one question
TRIMMED = 5000  # rows that are forgotten in one transaction


@dataclass(frozen=True, slots=True)
class _Arrival:
    blob: Blob
    source: Source


class Blobs:
    """What exists.

    `swept_after` is how long the bytes of a gone blob stay, for answers that are under way (D17); `kept` is
    how long its row does, for readers of the feed (D7).
    """

    def __init__(
        self,
        database: Database,
        index: Index,
        store: Store,
        store_name: str,
        spool: Spool,
        reading: Reading,
        suspects: Suspects,
        *,
        swept_after: timedelta,
        kept: timedelta,
    ) -> None:
        self._database, self._index = database, index
        self._store, self._store_name, self._spool, self._reading = store, store_name, spool, reading
        self._suspects, self._swept_after, self._kept = suspects, swept_after, kept
        self._store_id = 0
        self.epoch, self._head = "", -1
        self._moved = asyncio.Event()  # set, and replaced, when the feed's head has moved
        self._asking: asyncio.Future[Feed] | None = None
        self._stopping = False
        self._arriving = 0
        self._arrivals: Gather[_Arrival, bool] = Gather(
            self._commit, pause=0.005, most=GROUP, limit=database.seconds
        )

    async def start(self) -> None:
        """Find out which store this is, and which history. Raises DatabaseDown."""
        await self._index.start()
        async with self._database.reading() as session:
            self._store_id = await queries.store_id(session, self._store_name)
        await self.feed()

    def peek(self, raw: bytes) -> Found | Ask | None:
        """seq, size and state of a digest in its 32 bytes; ASK where only the database knows.

        Raises DatabaseDown.
        """
        return self._index.peek(raw)

    async def ask(self, raw: bytes) -> Found | None:
        """seq, size and state of a digest in its 32 bytes. Raises DatabaseDown."""
        return await self._index.ask(raw)

    async def feed(self) -> Feed:
        """Which history of changes this is, and how far it goes. Raises DatabaseDown."""
        feed = await self._index.feed()
        if (feed.epoch, feed.head) != (self.epoch, self._head):
            self.epoch, self._head = feed.epoch, feed.head
            metrics.FEED_HEAD.set(feed.head)
            self._tell()
        return feed

    async def lately(self) -> Feed:
        """As `feed`; many who ask in one moment are told by one question. Raises DatabaseDown."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.ensure_future(self.feed())
        return await asyncio.shield(self._asking)

    def _tell(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    def stop_waiting(self) -> None:
        """Answer now whoever waits for a change, and from now on at once: this process is to end."""
        self._stopping = True
        self._tell()

    async def refresh(self) -> None:
        """Hear of what other cores have changed. Raises DatabaseDown."""
        reached = metrics.WORKERS.labels("database")
        try:
            await self._index.refresh()
            await self.feed()
        except DatabaseDown:
            reached.set(0)
            raise
        reached.set(1)

    async def measure(self) -> None:
        """Tell the metrics how much room there is. Raises StoreDown."""
        for which, size in (await self._spool.room()).items():
            metrics.STORE_BYTES.labels(which).set(size)

    async def open(self, blob: Blob) -> Opened:
        """The bytes of a blob that is present. Raises BlobMissing when they are not where they should be."""
        return await self._reading.open(blob)

    def suspect(self, blob: Blob) -> None:
        """Somebody has found its bytes to be missing or others: it is looked into, and written down if so."""
        self._suspects.add(blob)

    @contextmanager
    def place(self, most: int) -> Iterator[None]:
        """One of so many places for uploads. Raises Busy where all are taken."""
        if self._arriving >= most:
            metrics.REFUSED.labels("uploads").inc()
            raise Busy("every place for an upload is taken")
        self._arriving += 1
        try:
            with metrics.UPLOADS.track_inprogress():
                yield
        finally:
            self._arriving -= 1

    async def expect(self, digest: Digest | None, announced: int | None, *, only_new: bool) -> None:
        """Refuse, before it is sent, an upload that cannot come to anything.

        `announced` is its length in bytes, if it is known. Raises BlobBlocked, NotAsExpected, TooLarge,
        NoRoom.
        """
        if digest is not None:
            found = await self.ask(digest.raw)
            _refuse_blocked(digest, found[2] if found else None)
            if only_new and found and found[2] == State.PRESENT:
                raise NotAsExpected("it is already here", digest=digest)
        await self._spool.expect(announced)

    async def keep(
        self, body: AsyncIterator[bytes], wanted: Digest | None, *, only_new: bool = False
    ) -> Kept:
        """Keep these bytes, durably, under their digest.

        When this returns, file, folder and row are on disk (D5). Raises DigestMismatch when they are not the
        bytes of `wanted`, BlobBlocked, TooLarge, NoRoom, StoreDown, DatabaseDown; nothing is kept then.
        """
        async with self._spool.receive(body) as spooled:
            blob = spooled.blob
            if wanted is not None and blob.digest != wanted:
                raise DigestMismatch(f"these bytes are {blob.digest}", digest=wanted)
            await self.expect(blob.digest, None, only_new=only_new)
            await self._store.put(blob, spooled)
            new = await self._arrivals.ask(_Arrival(blob, spooled))
        metrics.BLOBS_RECEIVED.labels("new" if new else "known").inc()
        metrics.BLOB_RECEIVED_BYTES.inc(blob.size)
        return Kept(blob.digest, blob.size, new)

    async def _commit(self, arrivals: Sequence[_Arrival]) -> Sequence[bool | BaseException]:
        """Write down what arrived together.

        A digest that another core adds meanwhile is known at the next try, and a database that another
        process writes to may be free by then: these bytes have come all the way and are on disk.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + self._database.seconds
        with metrics.COMMIT_SECONDS.time():
            while True:
                try:
                    return await self._record(arrivals)
                except Contended:
                    if loop.time() >= until:
                        raise

    async def _record(self, arrivals: Sequence[_Arrival]) -> Sequence[bool | BaseException]:
        """One transaction: whether each is new."""
        async with self._database.begin() as work:
            session = work.session
            now = await self._database.now(session)
            first = {arrival.blob.digest: arrival for arrival in reversed(arrivals)}
            rows = await queries.states(session, first)
            fresh = [arrival.blob for digest, arrival in first.items() if digest not in rows]
            present = {digest: row for digest, (row, state) in rows.items() if state is State.PRESENT}
            absent = [digest for digest, (_, state) in rows.items() if state is State.GONE]
            damaged = await queries.damaged(session, [*present.values()], self._store_id) if present else ()
            failed: dict[Digest, SoupError] = {}

            async def put(digest: Digest) -> None:
                try:
                    await self._store.put(first[digest].blob, first[digest].source)
                except SoupError as error:  # no reason to refuse those who came along with it
                    failed[digest] = error

            # The sweep or the scrub may have taken the file after it was put and before we had this lock.
            again = [*absent, *(digest for digest, row in present.items() if row in damaged)]
            await asyncio.gather(*map(put, again))
            gone = [digest for digest in absent if digest not in failed]
            known = [row for digest, row in present.items() if digest not in failed]
            if known:
                await queries.touch(session, known, now)
            changes = len(fresh) + len(gone)
            numbers = await queries.numbers(session, changes) if changes else range(0)
            await queries.add(session, fresh, numbers, now)
            for digest, number in zip(gone, numbers[len(fresh) :], strict=True):
                await queries.move(session, rows[digest][0], State.PRESENT, number, now, anew=True)
            await queries.place(session, known, self._store_id)
            await queries.place_numbered(session, numbers, self._store_id)
        if changes:
            self._index.forget(digest.raw for digest in gone)
            self._tell()
        return [failed.get(arrival.blob.digest) or _outcome(arrival, first, rows) for arrival in arrivals]

    async def facts(self, digest: Digest) -> Facts:
        """Raises BlobUnknown when it is gone or never was."""
        async with self._database.reading() as session:
            found = await queries.facts(session, digest)
        if found is None or found.state is State.GONE:
            raise BlobUnknown("no such blob", digest=digest)
        return found

    async def listed(self, after: Digest | None, limit: int, state: State) -> tuple[Feed, list[Facts]]:
        """Up to `limit` blobs of a state, in digest order, from behind `after`; and the feed of then."""
        async with self._database.reading() as session:
            return await queries.history(session), await queries.listed(session, after, limit, state)

    async def changes(self, after: int, epoch: str | None, limit: int, wait: float) -> Changes:
        """What has changed since the cursor `after`, at most `limit` blobs; waits up to `wait` s for any.

        A cursor of another history, or one that is ahead, counts as 0 (D7). Raises CursorTooOld.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + wait
        while True:
            moved = self._moved
            found = await self._changes(after, epoch, limit)
            if found.changes or self._stopping or loop.time() >= until:
                return found
            after, epoch = found.next, found.feed.epoch  # head may reach a cursor that was above it
            with suppress(TimeoutError), metrics.POLLS.track_inprogress():
                async with asyncio.timeout_at(until):
                    await moved.wait()

    async def _changes(self, after: int, epoch: str | None, limit: int) -> Changes:
        async with self._database.reading() as session:
            feed = await queries.history(session)
            if after > feed.head or epoch not in {None, feed.epoch}:
                after = 0
            if after < feed.floor:
                raise CursorTooOld(
                    f"changes up to {feed.floor} are forgotten: list the blobs, then follow on"
                )
            found = await queries.changes(session, after, limit)
        return Changes(feed, tuple(found), found[-1].seq if len(found) == limit else feed.head)

    async def trim(self, held: Held) -> int:
        """Forget blobs that have been gone for long; how many. Raises LeaseLost."""
        trimmed = 0
        while not held.over.is_set():
            async with self._database.begin() as work:
                await held.check(work.session)
                before = await self._database.now(work.session) - self._kept
                some = await queries.trim(work.session, before, TRIMMED)
            trimmed += some
            if some < TRIMMED:
                break
        return trimmed

    async def missing(self, digests: Sequence[Digest]) -> list[Digest]:
        """Those of these digests that are not here, in the order they were asked."""
        async with self._database.reading() as session:
            here = await queries.present(session, digests)
        return [digest for digest in digests if digest not in here]

    async def delete(self, digest: Digest) -> None:
        """Gone at once; its bytes go later. Raises BlobUnknown, StillBlocked."""
        async with self._database.begin() as work:
            row, state = await _living(work.session, digest)
            if state is State.BLOCKED:
                raise StillBlocked(
                    "it is blocked; unblock it first, or its block would go with it", digest=digest
                )
            await self._move(work, digest, row, State.GONE)

    async def block(self, digest: Digest, *, blocked: bool) -> None:
        """Refuse it to everybody, or stop doing so. Raises BlobUnknown."""
        target = State.BLOCKED if blocked else State.PRESENT
        async with self._database.begin() as work:
            row, state = await _living(work.session, digest)
            if state is not target:
                await self._move(work, digest, row, target)

    async def _move(self, work: Work, digest: Digest, row: int, state: State) -> None:
        (number,) = await queries.numbers(work.session, 1)
        await queries.move(work.session, row, state, number, await self._database.now(work.session))

        async def told() -> None:
            self._index.forget([digest.raw])
            self._tell()

        work.after(told)

    async def sweep(self, held: Held) -> int:
        """Remove bytes of blobs that have been gone for long enough, and of uploads that died; how many.

        Raises LeaseLost.
        """
        swept = await self._spool.swept()
        return swept + await sweep(self._database, self._store, held, self._swept_after)

    async def counted(self) -> tuple[int, int]:
        """How many blobs are present, and their bytes.

        In pieces: of a database of many millions that is more than any one question may take.
        """
        blobs, size, after = 0, 0, 0
        while True:
            async with self._database.reading() as session:
                last, more, bytes_more = await queries.counted(session, after, COUNTED)
            if last is None:
                return blobs, size
            blobs, size, after = blobs + more, size + bytes_more, last

    async def count(self, _: Held) -> int:
        """Tell the metrics how many blobs there are; how many."""
        blobs, size = await self.counted()
        metrics.BLOBS.set(blobs)
        metrics.BLOB_BYTES.set(size)
        return blobs

    async def idle(self) -> None:
        """Wait for what is being committed."""
        await self._arrivals.idle()
        await self._suspects.close()


async def _living(session: AsyncSession, digest: Digest) -> tuple[int, State]:
    row, state = (await queries.states(session, [digest])).get(digest, (0, State.GONE))
    if state is State.GONE:
        raise BlobUnknown("no such blob", digest=digest)
    return row, state


def _refuse_blocked(digest: Digest, state: int | None) -> None:
    if state == State.BLOCKED:
        raise BlobBlocked("it is blocked here", digest=digest)


def _outcome(
    arrival: _Arrival, first: dict[Digest, _Arrival], rows: dict[Digest, tuple[int, State]]
) -> bool | BaseException:
    digest = arrival.blob.digest
    state = rows[digest][1] if digest in rows else None
    if state is State.BLOCKED:
        return BlobBlocked("it is blocked here", digest=digest)
    return state is not State.PRESENT and first[digest] is arrival
