"""What the core sends of a blob, asked for again from where it broke off."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Any

import structlog

from soup_cdn_agent.core import SLOWEST, Core, CoreDown, pieces
from soup_cdn_agent.fetch import Wrong
from soup_cdn_agent.pace import Pace

log = structlog.get_logger(__name__)

PAUSE = 0.2, 5.0  # seconds until it is asked for again: first, and at most


class _Patience:
    """With a body that breaks off however often: it ends when hardly anything has come for some time.

    That is the measure of a body that does not break off, too (SLOWEST). Time in which nobody wants more does
    not count.
    """

    def __init__(self, place: int) -> None:
        self._place, self._until = place, _now() + SLOWEST[0]

    def renewed(self, place: int) -> bool:
        """Whether enough has come, up to this place, for a new beginning."""
        if place - self._place < SLOWEST[1]:
            return False
        self._place, self._until = place, _now() + SLOWEST[0]
        return True

    @contextmanager
    def idle(self) -> Iterator[None]:
        """Nobody wants more, for now."""
        began = _now()
        try:
            yield
        finally:
            self._until += _now() - began

    @property
    def over(self) -> bool:
        return _now() >= self._until


class Body:
    """The bytes of a blob from `first` to before `stop`, `size` of all of it: known once it is opened."""

    def __init__(self, core: Core, digest: str, first: int, stop: int | None, pace: Pace) -> None:
        self._core, self._digest, self._pace = core, digest, pace
        self._part = stop is not None
        self._place, self._stop = first, stop
        self.size = 0

    async def coming(self) -> AsyncGenerator[bytes, None]:
        """Nothing, once the size is known; then the bytes. Raises CoreDown, Refused, Wrong."""
        begun, failed, patience = False, 0, _Patience(self._place)
        while True:
            try:
                async with self._core.own("GET", self._digest, self._headers(begun=begun)) as answer:
                    again = self._take(answer, begun=begun)
                    if not begun:
                        begun, patience = True, _Patience(self._place)
                        with patience.idle():
                            yield b""
                    async for piece in pieces(answer):
                        new, again = piece[again:], max(0, again - len(piece))
                        self._place += len(new)
                        self._judge()
                        if patience.renewed(self._place):
                            failed = 0
                        with patience.idle():
                            await self._pace.take(len(piece))
                            yield new
                self._judge(over=True)
            except CoreDown as error:
                failed += 1
                enough = patience.over if begun else failed >= self._core.cores
                if enough:
                    raise
                log.info("pull.broken_off", digest=self._digest, at=self._place, reason=str(error))
                if begun:
                    await asyncio.sleep(min(max(error.after, PAUSE[0] * 2**failed), PAUSE[1]))
            else:
                return

    def _judge(self, *, over: bool = False) -> None:
        """Raises Wrong where more came than there is, CoreDown where it is `over` and less did."""
        if self._place > self._until:
            raise Wrong(f"the core sent more than it announced of {self._digest}")
        if over and self._place < self._until:
            raise CoreDown(f"the core sent {self._place} of {self._until} bytes")

    @property
    def _until(self) -> int:
        return self.size if self._stop is None else self._stop

    def _headers(self, *, begun: bool) -> dict[str, str]:
        if self._part:
            return {"range": f"bytes={self._place}-{self._until - 1}", "if-range": f'"{self._digest}"'}
        if begun and self._place:
            return {"range": f"bytes={self._place}-", "if-range": f'"{self._digest}"'}
        return {}

    def _take(self, answer: Any, *, begun: bool) -> int:
        """What the head of an answer says; how many bytes come again of those that were here.

        Raises Wrong where it is of something else than was asked for.
        """
        again, length = 0, _length(answer, self._digest)
        if answer.status_code == 200:  # noqa: PLR2004
            if self._part:
                raise Wrong(f"all of {self._digest} came, and not the part that was asked for")
            size, again = length, self._place
        else:
            size = self._size(answer.headers.get("content-range", ""), length)
        if begun and size != self.size:
            raise Wrong(f"{self._digest} had {self.size} bytes, and now {size}")
        self.size = size
        return again

    def _size(self, content_range: str, length: int) -> int:
        start, _, rest = content_range.removeprefix("bytes ").partition("-")
        last, _, size = rest.partition("/")
        if not (size.isdecimal() and start == str(self._place) and last == str(self._place + length - 1)):
            raise Wrong(f"another part of {self._digest} came: {content_range[:80]!r}")
        return int(size)


@asynccontextmanager
async def opened(
    core: Core, digest: str, pace: Pace, first: int = 0, stop: int | None = None
) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
    """The size of a blob, and its bytes, or those of a part of it. Raises CoreDown, Refused, Wrong."""
    body = Body(core, digest, first, stop, pace)
    async with aclosing(body.coming()) as coming:
        await anext(coming)
        yield body.size, coming


async def size(core: Core, digest: str) -> int:
    """How many bytes a blob has. Raises CoreDown, Refused, Wrong."""
    async with core.own("HEAD", digest, {}) as answer:
        return _length(answer, digest)


def _length(answer: Any, digest: str) -> int:
    """How many bytes an answer has. Raises Wrong where it is not of this blob, or does not say."""
    etag = answer.headers.get("etag", f'"{digest}"')
    if etag.removeprefix("W/") != f'"{digest}"':
        raise Wrong(f"what came has another entity tag than {digest}: {etag[:80]}")
    length = answer.headers.get("content-length", "")
    encoded = answer.headers.get("content-encoding", "identity") != "identity"
    if encoded or not (length.isascii() and length.isdecimal() and len(length) < 19):  # noqa: PLR2004 - digits of 2**63
        raise Wrong(f"what came for {digest} has no length: is something between us and soup?")
    return int(length)


def _now() -> float:
    return asyncio.get_running_loop().time()
