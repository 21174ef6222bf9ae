"""Fetching what should be here: small blobs many at a time, large ones singly and from where they stopped."""

import asyncio
import errno
import hashlib
import os
import random
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import structlog

from soup_cdn_agent import tar
from soup_cdn_agent.core import CORE, Core, CoreDown, MirrorDown, Refused
from soup_cdn_agent.folder import FULL, PIECE, Folder
from soup_cdn_agent.index import Corrupt, Index, Wanted
from soup_cdn_agent.known import Known, Threads
from soup_cdn_agent.pace import Pace

log = structlog.get_logger(__name__)

BUNDLES = 2  # at once
BUNDLED = 1000  # blobs in one
HEAVY = 8 << 20  # bytes of one
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
        self._busy: dict[str, int] = {}  # sizes of what is on its way
        self._resting: dict[str, tuple[int, float]] = {}  # tries, and the time until which it rests
        self._paused_until = 0.0
        self._bundles = self._singles = 0
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
        room = await self._threads.run(self._folder.room)
        left = room.free - self._folder.reserve(room) - sum(self._busy.values())
        self._tight = "the disk is full" if _now() < self._full_until else None
        while self._bundles < BUNDLES and (batch := await self._candidates(BUNDLED, left, up_to=self._small)):
            left -= sum(blob.size for blob in batch)
            self._bundles += 1
            self._begin(group, self._bundle, batch)
        while self._singles < self._parallel and (
            batch := await self._candidates(1, left, above=self._small)
        ):
            left -= batch[0].size
            self._singles += 1
            self._begin(group, self._single, batch)
        self._known.full = self._tight

    async def _candidates(
        self, most: int, left: int, *, above: int = -1, up_to: int = 1 << 62
    ) -> list[Wanted]:
        """The next that are neither on their way nor resting, as many as there is room for.

        What could not be had in a bundle is asked for singly from then on: other mirrors may have it.
        """
        limit = most + len(self._busy) + len(self._resting)
        rows = await self._threads.ledger(lambda: self._index.wanted(limit, above=above, up_to=up_to))
        if above >= 0:
            again = [digest for digest, (_, until) in self._resting.items() if until <= _now()]
            rested = await self._threads.ledger(self._index.wanted_of, again)
            self._give_up({*again} - {blob.digest for blob in rested})
            rows += rested
        found, heavy = list[Wanted](), 0
        for blob in rows:
            tries, until = self._resting.get(blob.digest, (0, 0.0))
            if blob.digest in self._busy or until > _now() or (tries and above < 0):
                continue
            if blob.size > left - heavy and self._folder.size(blob.digest) != blob.size:
                self._tight = f"the disk is full: no room for a blob of {blob.size} bytes"
                continue
            if found and (len(found) == most or heavy + blob.size > HEAVY):
                break
            found.append(blob)
            heavy += blob.size
        return found

    def _give_up(self, digests: set[str]) -> None:
        """These have been deleted while they rested."""
        for digest in digests:
            del self._resting[digest]
        if digests:
            self._count()

    def _begin(self, group: asyncio.TaskGroup, act: Act, batch: list[Wanted]) -> None:
        left = {blob.digest: blob for blob in batch}
        self._busy |= {blob.digest: blob.size for blob in batch}

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
            await self._arrived(right, left)
            self._known.counted["adopted"] += len(right)

    async def _arrived(self, digests: Sequence[str], left: dict[str, Wanted]) -> None:
        unwelcome = await self._threads.ledger(self._index.arrived, digests)
        if unwelcome:
            await self._threads.run(self._folder.remove, unwelcome)
        for digest in digests:
            left.pop(digest, None)
            self._resting.pop(digest, None)
        self._count()
        self._known.report.ring()
        if not self._known.looked:
            self._known.look.ring()  # there is something to look at now

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
        await self._arrived(kept, left)
        self._known.counted["fetched"] += len(kept)
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
        await self._arrived([blob.digest], left)
        self._known.counted["fetched"] += 1
        log.info("blob.fetched", digest=blob.digest, size=blob.size, source=source)

    async def _into_part(self, blob: Wanted, *, from_mirrors: bool) -> str:
        """Bring in the rest of a blob and check all of it; who sent it.

        Raises Wrong, and forgets what came then; MirrorDown; CoreDown.
        """
        part, run = self._folder.part(blob.digest), self._threads.run
        fd, sha, start = await run(_resume, part, blob.size)
        try:
            source = "here"
            if start < blob.size:
                async with self._core.blob(blob.digest, start, from_mirrors=from_mirrors) as coming:
                    source = coming.source
                    if coming.start != start:
                        sha, start = hashlib.sha256(), 0
                        await run(os.ftruncate, fd, 0)
                    waiting = bytearray()
                    async for piece in coming.pieces:
                        await self._pace.take(len(piece))
                        waiting += piece
                        if len(waiting) >= PIECE:
                            start = await self._write(fd, sha, start, waiting)
                            waiting = bytearray()
                        if start > blob.size:
                            break
                    start = await self._write(fd, sha, start, waiting)
            if start < blob.size:
                short = f"{source} sent {start} of {blob.size} bytes of {blob.digest}"
                raise CoreDown(short) if source == CORE else MirrorDown(short)
            if start > blob.size or sha.hexdigest() != blob.digest:
                await run(self._folder.remove_parts, [blob.digest])
                raise Wrong(f"{source} sent other bytes than those of {blob.digest}")
        finally:
            os.close(fd)
        return source

    async def _write(self, fd: int, sha: Any, start: int, data: bytearray) -> int:
        if data:
            await self._threads.run(put, fd, sha, start, data)
            self._known.counted["fetched_bytes"] += len(data)
        return start + len(data)


def put(fd: int, sha: Any, start: int, data: bytearray) -> None:
    """Write on in a part, and hash it. Raises FileNotFoundError where it was deleted meanwhile."""
    sha.update(data)
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, start)
        view, start = view[written:], start + written
    if not os.fstat(fd).st_nlink:
        raise FileNotFoundError("it was deleted meanwhile")


def _resume(part: Path, size: int) -> tuple[int, Any, int]:
    """The part of a blob that is here: open, hashed, and how long it is."""
    fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    sha, start = hashlib.sha256(), 0
    while piece := os.pread(fd, PIECE, start):
        sha.update(piece)
        start += len(piece)
    if start > size:
        os.ftruncate(fd, 0)
        return fd, hashlib.sha256(), 0
    return fd, sha, start


def _now() -> float:
    return asyncio.get_running_loop().time()
