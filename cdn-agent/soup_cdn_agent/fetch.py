"""Fetching what should be here: small blobs many at a time, large ones singly and from where they stopped."""

import asyncio
import errno
import random
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import structlog

from soup_cdn_agent import tar
from soup_cdn_agent.beyond import Beyond
from soup_cdn_agent.core import CORE, Core, CoreDown, MirrorDown, Refused
from soup_cdn_agent.folder import FULL, PIECE, Folder
from soup_cdn_agent.index import Corrupt, Index, Wanted
from soup_cdn_agent.known import Known, Threads
from soup_cdn_agent.pace import Pace
from soup_cdn_agent.part import Part

log = structlog.get_logger(__name__)

BUNDLES = 2  # at once
BUNDLED = 1000  # blobs in one
HEAVY = 8 << 20  # bytes of one
LARGEST = 1 << 62
BATCH = 1 << 20  # bytes written at a time
THREADS = 8
PAUSE = 5.0  # seconds, and less, that a core which is down is left alone
RESTING = 10_000  # blobs that rest at most: where there are more, it is not the blobs' fault, and all rest
TURNED_AWAY = 30.0  # seconds until a core that refuses all of us is asked again
STRAITENED = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}  # no blob's fault
REST = 10.0, 600.0  # seconds until a blob that could not be fetched is tried again: first, and at most


Act = Callable[[dict[str, Wanted]], Awaitable[None]]


class Wrong(Exception):
    """What came is not the blob."""


class Fetch:
    """Brings in what the index says is not here. A blob that cannot be had rests, and holds up no other."""

    def __init__(
        self,
        core: Core,
        index: Index,
        folder: Folder,
        threads: Threads,
        known: Known,
        *,
        bundle_up_to: int,
        parallel: int,
        bandwidth: int,
        from_mirrors: bool,
        again: float,
    ) -> None:
        self._core, self._index, self._folder = core, index, folder
        self._threads, self._known = threads, known
        self._small, self._parallel, self._from_mirrors = bundle_up_to, parallel, from_mirrors
        self._pace, self._again = Pace(bandwidth), again
        self._busy: dict[str, int] = {}  # bytes still to come of what is on its way
        self._resting: dict[str, tuple[int, float]] = {}  # tries, and the time until which it rests
        self._paused_until = 0.0
        self._bundles = self._singles = 0
        beyond = partial(Beyond, index, folder, threads, again=again)
        self._too_large = beyond(above=-1, up_to=bundle_up_to), beyond(above=bundle_up_to, up_to=LARGEST)
        self._tight: str | None = None
        self._full_until = 0.0  # what there was no room for rests about as long

    async def run(self) -> None:
        """Fetch whatever is wanted, for ever."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._start(group)
                await self._known.fetch.heard(self._pause())

    def _pause(self) -> float:
        """Seconds until something may have changed by itself: a pause is over, or there is room again."""
        now = _now()
        due = [now + self._again, *(until for _, until in self._resting.values() if until > now)]
        return max(0.05, max(min(due), self._paused_until) - now)

    async def _start(self, group: asyncio.TaskGroup) -> None:
        """Begin as much as may be under way at once."""
        if _now() < self._paused_until or self._known.unwritable:
            return
        coming = sum(self._busy.values())  # first: what comes meanwhile is rather counted twice than not
        room = await self._threads.run(self._folder.room)
        left = room.free - self._folder.reserve(room) - coming
        self._tight = "the disk is full" if _now() < self._full_until else None
        while self._bundles < BUNDLES and (batch := await self._candidates(BUNDLED, left, single=False)):
            left -= sum(batch.values())
            self._bundles += 1
            self._begin(group, self._bundle, batch)
        while self._singles < self._parallel and (batch := await self._candidates(1, left, single=True)):
            left -= sum(batch.values())
            self._singles += 1
            self._begin(group, self._single, batch)
        for beyond in self._too_large:
            if beyond.lacks is not None and beyond.lacks > left:
                self._lack(beyond.lacks)
        self._known.full = self._tight

    def _lack(self, size: int) -> None:
        self._tight = f"the disk is full: no room for a blob of {size} bytes"

    async def _candidates(self, most: int, left: int, *, single: bool) -> dict[Wanted, int]:
        """The next that are neither on their way nor resting, as many as there is room for.

        With each is how many bytes of it are still to come. What could not be had in a bundle is asked for
        singly from then on: other mirrors may have it.
        """
        above, up_to = (self._small, LARGEST) if single else (-1, self._small)
        limit = most + len(self._busy) + len(self._resting)
        fitting = min(up_to, left)
        rows = await self._threads.ledger(lambda: self._index.wanted(limit, above=above, up_to=fitting))
        if single:
            again = [digest for digest, (_, until) in self._resting.items() if until <= _now()]
            rested = await self._threads.ledger(self._index.wanted_of, again)
            self._give_up({*again} - {blob.digest for blob in rested})
            rows += rested

        def may(digest: str) -> bool:
            tries, until = self._resting.get(digest, (0, 0.0))
            return digest not in self._busy and until <= _now() and (single or not tries)

        found, heavy = dict[Wanted, int](), 0
        for blob in rows:
            if not may(blob.digest):
                continue
            lacking = self._folder.lacking(blob.digest, blob.size) if single else blob.size
            if lacking > max(0, left - heavy):
                if blob.size > left:
                    self._lack(blob.size)
                continue
            if found and (len(found) == most or heavy + blob.size > HEAVY):
                break
            found[blob] = lacking
            heavy += blob.size
        return found or await self._too_large[single].found(most, left, may)

    def _give_up(self, digests: set[str]) -> None:
        """These have been deleted while they rested."""
        for digest in digests:
            del self._resting[digest]
        if digests:
            self._count()

    def _begin(self, group: asyncio.TaskGroup, act: Act, batch: dict[Wanted, int]) -> None:
        left = {blob.digest: blob for blob in batch}
        self._busy |= {blob.digest: lacking for blob, lacking in batch.items()}

        async def fetched() -> None:
            try:
                await self._tried(act, left)
            except Corrupt:
                raise
            except Exception as error:
                log.exception("fetch.failed")
                self._rest(left, repr(error))
            finally:
                for blob in batch:
                    del self._busy[blob.digest]
                if act == self._bundle:
                    self._bundles -= 1
                else:
                    self._singles -= 1
                self._known.fetch.ring()

        group.create_task(fetched())

    async def _tried(self, act: Act, left: dict[str, Wanted]) -> None:
        """Do it; what is `left` after that rests."""
        try:
            await self._adopt(left)
            if left:
                await act(left)
        except CoreDown as error:
            self._leave_alone(max(error.after, PAUSE), str(error))
        except sqlite3.Error as error:
            self._leave_alone(PAUSE, f"the index: {error}")
        except Refused as error:
            if error.all_of_us:
                self._leave_alone(TURNED_AWAY, str(error))
            else:
                self._rest(left, str(error))
        except (Wrong, MirrorDown, tar.BadBundle) as error:
            self._rest(left, str(error))
        except OSError as error:
            if error.errno in FULL:
                self._full_until = _now() + REST[0]
                self._tight = self._known.full = "the disk is full"
                await self._threads.run(self._folder.remove_parts, [*left])
            if error.errno in STRAITENED:
                self._leave_alone(PAUSE, str(error))
            else:
                self._rest(left, str(error))

    def _leave_alone(self, seconds: float, reason: str) -> None:
        """Fetch nothing for a while, or for a part of it: there are many agents."""
        self._paused_until = _now() + seconds * random.uniform(0.2, 1)  # noqa: S311
        log.warning("fetch.paused", reason=reason)

    def _rest(self, left: dict[str, Wanted], reason: str) -> None:
        if not left:
            return
        log.warning("blob.not_fetched", digest=min(left), blobs=len(left), reason=reason)
        self._known.counted["fetch_failures"] += len(left)
        for digest in left:
            tries = self._resting.get(digest, (0, 0.0))[0] + 1
            pause = min(REST[1], REST[0] * 2 ** min(tries - 1, 10))
            self._resting[digest] = tries, _now() + pause * random.uniform(0.5, 1)  # noqa: S311 - many agents at once
        if len(self._resting) > RESTING:
            self._resting.clear()
            self._paused_until = _now() + REST[1]
        self._count()

    def _count(self) -> None:
        self._known.failing = sum(tries > 1 for tries, _ in self._resting.values())

    async def _adopt(self, left: dict[str, Wanted]) -> None:
        """Take those of these that lie here already: somebody has copied them by hand."""
        blobs = [(blob.digest, blob.size, blob.created_at) for blob in left.values()]
        if right := await self._threads.run(self._folder.right, blobs):
            self._known.counted["adopted"] += len(await self._arrived(right, left))

    async def _arrived(self, digests: Sequence[str], left: dict[str, Wanted]) -> list[str]:
        """These have their names: those of them that still lie there are here now."""
        sizes = {digest: left[digest].size for digest in digests}
        here = await self._threads.ledger(self._claim, sizes)
        for digest in here:
            del left[digest]
            self._busy[digest] = 0
            self._resting.pop(digest, None)
        self._count()
        self._known.report.ring()
        if not self._known.looked:
            self._known.look.ring()  # there is something to look at now
        return here

    def _claim(self, sizes: dict[str, int]) -> list[str]:
        """All while nobody else gets at the index: the feed may have removed one and want it again."""
        here = [digest for digest, size in sizes.items() if self._folder.size(digest) == size]
        self._folder.remove(self._index.arrived(here))
        return here

    async def _bundle(self, left: dict[str, Wanted]) -> None:
        asked, some, weight = dict(left), list[tuple[str, bytes, int]](), 0
        writing: asyncio.Task[None] | None = None
        try:
            async with self._core.bundle(list(asked)) as pieces:
                async for digest, data in tar.members(pieces, self._small):
                    blob = asked.pop(digest, None)
                    if blob is None:
                        raise tar.BadBundle(f"{digest!r} was not asked for, or is there twice"[:200])
                    await self._pace.take(len(data))
                    some.append((digest, data, blob.created_at))
                    weight += len(data)
                    if weight >= BATCH:
                        if writing is not None:
                            await writing
                        writing = asyncio.create_task(self._keep(some, left))
                        some, weight = [], 0
        finally:
            if writing is not None:
                await writing
            await self._keep(some, left)
        self._rest(left, "a bundle of the core had it not, or with other bytes")

    async def _keep(self, blobs: Sequence[tuple[str, bytes, int]], left: dict[str, Wanted]) -> None:
        """Write these down, several at once: a disk takes many syncs in the time of one."""
        parts = [blobs[start::THREADS] for start in range(min(THREADS, len(blobs)))]
        writing = (self._threads.run(self._folder.keep, part) for part in parts)
        done = await asyncio.gather(*writing, return_exceptions=True)  # none goes on behind our back
        kept = [digest for part in done if isinstance(part, list) for digest in part]
        self._known.counted["fetched"] += len(await self._arrived(kept, left))
        self._known.counted["fetched_bytes"] += sum(len(data) for _, data, _ in blobs)
        for fault in done:
            if isinstance(fault, BaseException):
                raise fault

    async def _single(self, left: dict[str, Wanted]) -> None:
        (blob,) = left.values()
        tries = self._resting.get(blob.digest, (0, 0.0))[0]
        try:
            source = await self._into_part(blob, from_mirrors=self._from_mirrors and tries == 0)
        except (MirrorDown, Wrong) as error:
            if tries or not self._from_mirrors:
                raise
            log.warning(
                "mirror.no_help", digest=blob.digest, reason=str(error)
            )  # it may be well, and not from here
            source = await self._into_part(blob, from_mirrors=False)
        await self._threads.run(
            self._folder.adopt, self._folder.part(blob.digest), blob.digest, blob.created_at
        )
        if not await self._arrived([blob.digest], left):
            return
        self._known.counted["fetched"] += 1
        log.info("blob.fetched", digest=blob.digest, size=blob.size, source=source)

    async def _into_part(self, blob: Wanted, *, from_mirrors: bool) -> str:
        """Bring in the rest of a blob and check all of it; who sent it.

        Raises Wrong, and forgets what came then; MirrorDown; CoreDown.
        """
        part, through = Part(self._folder.part(blob.digest), blob.size), self._threads.through
        try:
            await through(part.open)
            while await through(part.read_on):
                pass
            source = "here"
            if part.length < blob.size:
                async with self._core.blob(blob.digest, part.length, from_mirrors=from_mirrors) as coming:
                    source = coming.source
                    if coming.start != part.length:
                        await through(part.clear)
                    self._busy[blob.digest] = blob.size - part.length
                    waiting = bytearray()
                    async for piece in coming.pieces:
                        await self._pace.take(len(piece))
                        waiting += piece
                        if len(waiting) >= PIECE:
                            await self._write(part, blob, waiting)
                            waiting = bytearray()
                        if part.length > blob.size:
                            break
                    await self._write(part, blob, waiting)
            if part.length < blob.size:
                short = f"{source} sent {part.length} of {blob.size} bytes of {blob.digest}"
                raise CoreDown(short) if source == CORE else MirrorDown(short)
            if part.length > blob.size or part.sha.hexdigest() != blob.digest:
                await self._threads.run(self._folder.remove_parts, [blob.digest])
                raise Wrong(f"{source} sent other bytes than those of {blob.digest}")
        finally:
            part.close()
        return source

    async def _write(self, part: Part, blob: Wanted, data: bytearray) -> None:
        if data:
            await self._threads.through(part.write, data)
            self._busy[blob.digest] = max(0, blob.size - part.length)
            self._known.counted["fetched_bytes"] += len(data)


def _now() -> float:
    return asyncio.get_running_loop().time()
