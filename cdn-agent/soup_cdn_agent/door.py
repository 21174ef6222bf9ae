"""What the web server beside the agent is told when it passes on a request for a blob that is not here."""

import asyncio
import hashlib
import math
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from pathlib import Path

import structlog

from soup_cdn_agent import origin
from soup_cdn_agent.conditions import CORS, NEVER, Reply, decide, names, unsatisfied
from soup_cdn_agent.core import Core, CoreDown, Refused
from soup_cdn_agent.fetch import Wrong
from soup_cdn_agent.folder import Folder
from soup_cdn_agent.known import Known, Threads
from soup_cdn_agent.listener import Asked, Cut, Wire
from soup_cdn_agent.pace import Pace
from soup_cdn_agent.pull import FIRST, HELD, No, Pull, Pulls

log = structlog.get_logger(__name__)

PATIENCE = 10.0  # seconds that a range may have to wait for, before it is fetched by itself
SOON = 1.0  # seconds until it is known how fast a blob comes
UNASKED = 5.0  # seconds without such fetches, after one that failed
LONG = 60.0, 120.0  # seconds that last bytes are waited for; until they are to be asked for again, at most
_PATH = re.compile(r"/([0-9a-f]{64})(?:\?.*)?").fullmatch
OURS = "soup-cdn-agent"


class Door:
    """Answers as the web server would if the blob were here, once the core has begun to send it."""

    def __init__(
        self, core: Core, pulls: Pulls, folder: Folder, threads: Threads, known: Known, pace: Pace
    ) -> None:
        self._core, self._pulls, self._folder = core, pulls, folder
        self._threads, self._known, self._pace = threads, known, pace
        self._directly_from = 0.0  # when parts may be fetched by themselves

    async def answer(self, asked: Asked, wire: Wire) -> None:
        """Answer one request. Raises Cut where its body may not be completed, OSError."""
        match = _PATH(asked.path)
        digest = match[1] if match else None
        try:
            await self._blob(_allowed(digest, asked), asked, wire)
        except (No, CoreDown, Refused, Wrong, TimeoutError) as error:
            no = error if isinstance(error, No) else self._pulls.fault(digest or "", error)
            if wire.begun:
                raise Cut(str(no)) from error
            await self._refuse(no, asked, wire)

    async def _refuse(self, no: No, asked: Asked, wire: Wire) -> None:
        """Say no. Nobody is to keep it."""
        if no.status >= 500:  # noqa: PLR2004
            self._known.counted["pull_refused"] += 1
        body = b"" if asked.method == "HEAD" else f"{HTTPStatus(no.status).phrase}\n".encode()
        headers = {"content-type": "text/plain", "content-length": str(len(body))} | NEVER | CORS
        if no.after:
            headers["retry-after"] = str(math.ceil(no.after))
        if no.status == 405:  # noqa: PLR2004
            headers["allow"] = "GET, HEAD, OPTIONS"
        await wire.head(no.status, headers, body)

    async def _blob(self, digest: str, asked: Asked, wire: Wire) -> None:
        file = _File()
        try:
            await self._threads.through(file.open, self._folder.path(digest))
            if file.fd >= 0:  # it came after the web server had looked
                await self._whole(file.fd, digest, asked, wire)
                return
        finally:
            file.close()
        await self._not_here(digest, asked, wire)

    async def _not_here(self, digest: str, asked: Asked, wire: Wire) -> None:
        known = names(asked.headers.get("if-none-match", ""), digest) or unsatisfied(asked.headers, digest)
        if asked.method == "HEAD" or known:
            self._pulls.rested(digest)
            reply = decide(asked.method, asked.headers, digest, await self._size(digest))
            await wire.head(reply.status, reply.headers)
            return
        pull, stays = await self._pulls.coming(digest), 0.0
        try:
            reply = decide(asked.method, asked.headers, digest, pull.size)
            if reply.first == reply.stop and reply.status != HTTPStatus.OK:
                await wire.head(reply.status, reply.headers)
            elif pull.passed:
                await self._pass(digest, reply, wire)
            else:
                if reply.first >= pull.size - HELD:  # then it can be said in words that it is wrong
                    stays = await self._long(pull)
                    if stays:
                        raise No(503, "its last bytes come when all of it is here", stays)
                await wire.head(reply.status, reply.headers)
                await self._stream(pull, reply.first, reply.stop, wire)
        finally:
            self._pulls.leave(pull)
            pull.left += stays  # who is to come again for it has not left it alone

    async def _size(self, digest: str) -> int:
        """How many bytes a blob has. Raises No: for this no other rests."""
        size = self._pulls.size(digest)
        if size is not None:
            return size
        try:
            async with self._passing():
                return await origin.size(self._core, digest)
        except (CoreDown, Refused, Wrong, TimeoutError) as error:
            raise self._pulls.fault(digest, error, rests=False) from error

    @asynccontextmanager
    async def _passing(self) -> AsyncIterator[asyncio.Timeout]:
        """One more who asks the core by himself, and a limit until it answers. Raises No, TimeoutError."""
        if self._pulls.busy:
            raise No(503, "too many blobs are fetched at once", 1)
        self._pulls.passing += 1
        try:
            async with asyncio.timeout(FIRST) as limit:
                yield limit
        finally:
            self._pulls.passing -= 1

    @asynccontextmanager
    async def _opened(
        self, digest: str, first: int = 0, stop: int | None = None
    ) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        """The size of a blob, and bytes that are not kept.

        Raises No, CoreDown, Refused, Wrong, TimeoutError.
        """
        async with (
            self._passing() as limit,
            origin.opened(self._core, digest, self._pace, first, stop) as opened,
        ):
            limit.reschedule(None)
            self._known.counted["pull_passed"] += 1
            yield opened

    async def _long(self, pull: Pull) -> float:
        """Wait until all of a blob is here and right; for how many seconds, where that would be long.

        Raises No.
        """
        before, asked = pull.written, _now()
        while not pull.right:
            if pull.fault is not None:
                raise pull.fault
            waited = _now() - asked
            if pull.size > HELD and pull.written and waited >= SOON:
                rate = max(pull.rate, (pull.written - before) / waited)
                if (left := (pull.size - pull.written) / rate) > LONG[0]:
                    return min(left, LONG[1])
            await pull.moved(SOON)
        return 0.0

    async def _whole(self, fd: int, digest: str, asked: Asked, wire: Wire) -> None:
        """From a file that is here and right."""
        size = (await self._threads.run(os.fstat, fd)).st_size
        reply = decide(asked.method, asked.headers, digest, size)
        await wire.head(reply.status, reply.headers)
        place = reply.first
        while place < reply.stop:
            place += await wire.send_file(fd, place, reply.stop)

    async def _stream(self, pull: Pull, place: int, stop: int, wire: Wire) -> None:
        """From a file that grows. Raises Cut where it turns out to be wrong."""
        while place < stop or not pull.right:
            if pull.fault is not None:
                raise Cut(str(pull.fault))
            if place < (ready := min(pull.released, stop)):
                place += await wire.send_file(pull.fd, place, ready)
            elif place == stop and stop <= pull.size - HELD:
                return  # a part before the last bytes is not waited for
            elif self._is_far(pull, place):
                place = await self._directly(pull, place, min(stop, pull.size - HELD), wire)
            else:
                await pull.moved(SOON)

    def _is_far(self, pull: Pull, place: int) -> bool:
        """Whether these bytes would be long in coming, and may come by themselves."""
        if place >= pull.size - HELD or self._pulls.busy:
            return False
        if _now() < self._directly_from:
            return False
        return _now() - pull.began >= SOON and place - pull.written > pull.rate * PATIENCE

    async def _directly(self, pull: Pull, place: int, stop: int, wire: Wire) -> int:
        """A part from the core, until what comes as a whole is as far; up to where it went."""
        try:
            async with self._opened(pull.digest, place, stop) as (_, coming):
                async for piece in coming:
                    await wire.send(piece)
                    place += len(piece)
                    if pull.fault is not None or pull.released > place:
                        break
        except (CoreDown, Refused, Wrong, TimeoutError) as error:
            log.info("pull.waited_for", digest=pull.digest, at=place, reason=str(error))
            self._directly_from = _now() + UNASKED
        return place

    async def _pass(self, digest: str, reply: Reply, wire: Wire) -> None:
        """From the core, and not kept. A part cannot be checked; the whole is, before its last bytes go."""
        part = (reply.first, reply.stop) if reply.status == HTTPStatus.PARTIAL_CONTENT else (0, None)
        async with self._opened(digest, *part) as (size, coming):
            await wire.head(reply.status, reply.headers)
            if part[1] is None:
                await self._checked(digest, size, coming, wire)
                return
            async for piece in coming:
                await wire.send(piece)

    async def _checked(self, digest: str, size: int, coming: AsyncIterator[bytes], wire: Wire) -> None:
        """The whole of a blob. Raises Wrong, Cut."""
        sha, place, held = hashlib.sha256(), 0, bytearray()
        async for piece in coming:
            sha.update(piece)
            may = max(0, min(len(piece), size - HELD - place))
            await wire.send(piece[:may])
            held += piece[may:]
            place += len(piece)
        if sha.hexdigest() != digest:
            raise Wrong(f"{size} bytes came, and are not {digest}")
        await wire.send(bytes(held))


def _allowed(digest: str | None, asked: Asked) -> str:
    """The digest, of a request that is to be answered. Raises No."""
    if digest is None:
        raise No(404, "no blob has this path")
    if asked.method not in {"GET", "HEAD"}:
        raise No(405, "blobs are read")
    if OURS in asked.headers.get("via", "") or asked.headers.get("user-agent", "").startswith(OURS):
        raise No(508, "an agent asks an agent: `core` of one of them is a mirror")
    return digest


class _File:
    """The file of a blob, if there is one."""

    def __init__(self) -> None:
        self.fd = -1

    def open(self, path: Path) -> None:
        with suppress(OSError):
            self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


def _now() -> float:
    return asyncio.get_running_loop().time()
