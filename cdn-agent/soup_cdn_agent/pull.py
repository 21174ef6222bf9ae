"""Blobs on their way from the core, each once, for however many ask for it.

What comes is written to a file, and read from there as far as it goes: all but its last 64 KiB, which nobody
gets before the SHA-256 is right. So a body that is wrong is complete nowhere.
"""

import asyncio
import hashlib
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any

import structlog

from soup_cdn_agent import origin
from soup_cdn_agent.core import Core, CoreDown, Refused
from soup_cdn_agent.feed import Holds
from soup_cdn_agent.fetch import Wrong
from soup_cdn_agent.folder import FULL, Folder
from soup_cdn_agent.index import Corrupt, Index, Wanted
from soup_cdn_agent.known import Known, Threads
from soup_cdn_agent.pace import Pace
from soup_cdn_agent.part import put
from soup_cdn_agent.shelf import Shelf

log = structlog.get_logger(__name__)

HELD = 64 << 10  # last bytes of a blob that nobody gets before all of it is right
BATCH = 256 << 10  # bytes written at a time
OFTEN = 0.1  # seconds after which fewer are written: somebody waits for them
FIRST = 30.0  # seconds for the core to begin an answer, however many cores there are
WRONG = 10.0  # seconds until what came wrong is asked for again
DOWN = 1.0  # the same for a core that did not answer: there may be many that ask
BUSY = 30.0  # the same at most for a core that wants to be left alone
GONE = 10.0  # seconds for which what was deleted is not kept: a core may be behind by a second
ALONE = 10.0  # seconds that a large blob comes on when everybody has left
LITTLE = 64 << 20  # bytes that come to their end all the same


class No(Exception):
    """There is no blob to be had, and why; `after` is when to ask again, in seconds."""

    def __init__(self, status: int, reason: str, after: float = 0.0) -> None:
        super().__init__(reason)
        self.status, self.after = status, after


class _Alone(Exception):
    """Nobody waits for it any more."""


class Pull:
    """A blob on its way. `passed`: it is not kept here, and who wants it has to fetch it himself."""

    def __init__(self, digest: str) -> None:
        self.digest, self.size, self.written, self.fd = digest, 0, 0, -1
        self.right = self.passed = self.unwelcome = self.finishing = False
        self.fault: No | None = None
        self.began = self.left = _now()  # when it began; when the last client left
        self.clients = 0
        self.known = asyncio.Event()  # the size is, or that there is none
        self._moved = asyncio.Event()
        self._users = 1

    @property
    def released(self) -> int:
        """How many bytes clients may have by now."""
        return self.size if self.right else max(0, min(self.written, self.size - HELD))

    @property
    def rate(self) -> float:
        """Bytes a second."""
        return self.written / max(0.001, _now() - self.began)

    def open(self, part: str) -> None:
        """Begin its file. Raises OSError."""
        self.fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)

    def move(self) -> None:
        """Something has changed: wake who waits for it."""
        self._moved.set()
        self._moved = asyncio.Event()

    async def moved(self, seconds: float) -> None:
        """Wait until something changes, so long at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._moved.wait()

    def fail(self, fault: No) -> None:
        """Nobody gets the rest."""
        self.fault = fault
        self.known.set()
        self.move()

    def enter(self) -> None:
        """A client wants it."""
        self.clients += 1
        self._users += 1

    def leave(self) -> None:
        """A client has it, or has left."""
        self.clients -= 1
        self.left = _now()
        self.let_go()

    def let_go(self) -> None:
        """The last one closes the file."""
        self._users -= 1
        if not self._users and self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Pulls:
    """What is on its way, and what rests since it could not be had."""

    def __init__(
        self,
        core: Core,
        index: Index,
        folder: Folder,
        threads: Threads,
        known: Known,
        shelf: Shelf,
        *,
        holds: Holds,
        most: int,
        pace: Pace,
    ) -> None:
        self._core, self._index, self._folder = core, index, folder
        self._threads, self._known, self._shelf = threads, known, shelf
        self._holds, self._most, self._pace = holds, most, pace
        self._going: dict[str, tuple[Pull, asyncio.Task[None]]] = {}
        self._resting: dict[str, tuple[No, float]] = {}
        self._unkept: dict[str, float] = {}  # until when a blob is passed through
        self.clients = self.passing = 0  # those who are given a blob; of them, by themselves

    @property
    def busy(self) -> bool:
        """Whether no more may come at once."""
        return len(self._going) + self.passing >= self._most

    @property
    def under_way(self) -> list[str]:
        """The digests of what comes."""
        return [*self._going]

    async def coming(self, digest: str) -> Pull:
        """The blob on its way, begun if it is not; its size is known. Raises No."""
        pull = self._begun(digest)
        pull.enter()
        self.clients += 1
        try:
            await pull.known.wait()
        except BaseException:
            self.leave(pull)
            raise
        if pull.fault is not None:
            self.leave(pull)
            raise pull.fault
        return pull

    def leave(self, pull: Pull) -> None:
        """A client that wanted a blob is gone."""
        self.clients -= 1
        pull.leave()

    def _begun(self, digest: str) -> Pull:
        if digest in self._going:
            return self._going[digest][0]
        self.rested(digest)
        if self.busy:
            raise No(503, "too many blobs are fetched at once", 1)
        pull = Pull(digest)
        self._known.counted["pulls"] += 1
        self._going[digest] = pull, asyncio.create_task(self._pulled(pull))
        return pull

    def gone(self, digests: Sequence[str]) -> None:
        """The core has deleted or blocked these: who is about to get one does not."""
        now = _now()
        self._unkept = {digest: until for digest, until in self._unkept.items() if until > now}
        for digest in digests:
            self._unkept[digest] = now + GONE
            pull, task = self._going.get(digest, (None, None))
            if pull and task and not pull.unwelcome:
                pull.unwelcome = True
                pull.fail(No(404, "it was deleted"))
                if not pull.finishing:
                    task.cancel()

    async def close(self) -> None:
        """Cut everybody off."""
        tasks = [task for _, task in self._going.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _pulled(self, pull: Pull) -> None:
        """Bring it in, and say how that went."""
        part = self._folder.incoming / f"{pull.digest}.new"  # by that name a start of the agent removes it
        try:
            await self._tried(pull, str(part))
        except asyncio.CancelledError:
            if pull.fault is None:  # the agent ends
                pull.fail(No(503, "the mirror is stopping", 1))
        except Corrupt as error:
            self._shelf.damaged = error  # a pull is none of the works that end the agent's life with it
            self._known.fetch.ring()
            pull.fail(No(503, "the index is damaged", DOWN))
        except Exception as error:
            log.exception("pull.failed", digest=pull.digest)
            pull.fail(No(502, repr(error), DOWN))
        finally:
            del self._going[pull.digest]
            self._shelf.promised.pop(pull.digest, None)
            if pull.fd >= 0 and not pull.right:
                with suppress(RuntimeError):  # no thread is left: the next start removes it
                    await self._threads.run(_removed, part)
            pull.let_go()
            pull.known.set()  # of what is passed through: whoever does that needs the place

    async def _tried(self, pull: Pull, part: str) -> None:
        try:
            await self._brought(pull, part)
        except (CoreDown, Refused, Wrong, TimeoutError) as error:
            pull.fail(self.fault(pull.digest, error))
        except _Alone as error:
            pull.fail(No(503, str(error), DOWN))
        except (OSError, sqlite3.Error) as error:  # the next who asks for it is not to meet the same fault
            log.warning("pull.not_kept", digest=pull.digest, at=pull.written, reason=str(error))
            self._unkept[pull.digest] = _now() + WRONG
            pull.fail(No(503, "it cannot be kept", DOWN))

    def fault(self, digest: str, error: Exception, *, rests: bool = True) -> No:
        """What a client is told of it and, where it `rests`, for some seconds every other.

        A 404 holds for no one else.
        """
        if isinstance(error, Refused) and error.status in {404, 410}:
            return No(error.status, str(error))
        after = error.after if isinstance(error, CoreDown) else 0.0
        busy = bool(after) or (isinstance(error, Refused) and error.status == 503)  # noqa: PLR2004
        rest = WRONG if isinstance(error, Wrong) else min(max(DOWN, after), BUSY)
        fault = No(503 if busy else 502, str(error) or "the core did not answer in time", rest)
        if isinstance(error, Wrong):
            self._known.counted["pull_wrong"] += 1
            log.error("pull.wrong", digest=digest, reason=str(error))
        else:
            log.warning("pull.given_up", digest=digest, reason=str(fault))
        now = _now()
        self._resting = {one: (no, until) for one, (no, until) in self._resting.items() if until > now}
        if rests:
            self._resting[digest] = fault, now + rest
        return fault

    def rested(self, digest: str) -> None:
        """Raises No where it could not be had just now."""
        fault, until = self._resting.get(digest, (None, 0.0))
        if fault is not None and (left := until - _now()) > 0:
            raise No(fault.status, str(fault), left)

    def size(self, digest: str) -> int | None:
        """How many bytes a blob has that is on its way; None where that is not known."""
        pull, _ = self._going.get(digest, (None, None))
        return pull.size if pull and pull.known.is_set() and pull.fault is None else None

    async def _brought(self, pull: Pull, part: str) -> None:
        async with (
            asyncio.timeout(FIRST) as limit,
            origin.opened(self._core, pull.digest, self._pace) as (size, coming),
        ):
            pull.size = size
            if not await self._is_kept(pull, part):
                pull.passed = True
                return
            limit.reschedule(None)  # from here on what comes has limits of its own
            pull.known.set()
            sha = await self._written(pull, coming)
        if sha != pull.digest:
            raise Wrong(f"{pull.size} bytes came, and are not {pull.digest}")
        pull.right = True
        pull.move()
        await self._kept(pull, part)

    async def _is_kept(self, pull: Pull, part: str) -> bool:
        """Whether there is a file for it now."""
        blob = Wanted(pull.digest, pull.size, 0, 0)
        if blob not in self._holds or self._unkept.get(pull.digest, 0.0) > _now():
            return False
        try:
            if not await self._shelf.promise(pull.digest, pull.size):
                return False
            await self._threads.through(pull.open, part)
        except (OSError, sqlite3.Error) as error:
            log.warning("pull.not_kept", digest=pull.digest, reason=str(error))
            return False
        return True

    async def _written(self, pull: Pull, coming: AsyncIterator[bytes]) -> str:
        """Write it down as it comes; its SHA-256."""
        sha, waiting, last = hashlib.sha256(), bytearray(), _now()
        async for piece in coming:
            waiting += piece
            if len(waiting) >= BATCH or _now() - last > OFTEN:
                await self._put(pull, sha, waiting)
                waiting, last = bytearray(), _now()
                self._judge_alone(pull)
        if waiting:
            await self._put(pull, sha, waiting)
        return sha.hexdigest()

    async def _put(self, pull: Pull, sha: Any, data: bytearray) -> None:
        try:
            await self._threads.through(put, pull.fd, sha, pull.written, data)
        except OSError as error:
            rest = pull.size - pull.written
            if error.errno not in FULL or not await self._shelf.more(rest):
                raise
            await self._threads.through(put, pull.fd, hashlib.sha256(), pull.written, data)
        pull.written += len(data)
        self._shelf.promised[pull.digest] = pull.size - pull.written
        self._known.counted["pulled_bytes"] += len(data)
        pull.move()

    def _judge_alone(self, pull: Pull) -> None:
        """A large blob that nobody waits for any more is not fetched to its end. Raises _Alone."""
        if pull.clients or pull.size - pull.written <= LITTLE or _now() - pull.left < ALONE:
            return
        log.info("pull.left", digest=pull.digest, at=pull.written, size=pull.size)
        raise _Alone("everybody had left")

    async def _kept(self, pull: Pull, part: str) -> None:
        """Give it its name, and a row; and take both away if somebody has deleted it meanwhile."""
        pull.finishing = True
        now = time.time()
        blob = Wanted(pull.digest, pull.size, int(now), 0)
        finishing = asyncio.ensure_future(self._threads.run(self._folder.adopt, part, pull.digest, int(now)))
        try:
            await asyncio.shield(finishing)
        except OSError as error:  # everybody who asked has it; the next asks again
            log.warning("pull.not_kept", digest=pull.digest, reason=str(error))
            await self._threads.run(_removed, part)
            return
        try:
            await self._threads.ledger(self._index.pulled, blob, now)
        except sqlite3.Error as error:  # what the index does not know never makes room
            log.warning("pull.not_kept", digest=pull.digest, reason=str(error))
            await self._threads.run(self._folder.remove, [pull.digest])
            return
        if pull.unwelcome:
            await self._threads.ledger(self._dropped, pull.digest)
            return
        log.info("blob.pulled", digest=pull.digest, size=pull.size, seconds=round(_now() - pull.began, 3))
        if not self._known.looked:
            self._known.look.ring()

    def _dropped(self, digest: str) -> None:
        self._folder.remove([digest])
        self._index.forget([digest])


def _removed(part: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(part)  # noqa: PTH108 - a Path keeps the name of every file


def _now() -> float:
    return asyncio.get_running_loop().time()
