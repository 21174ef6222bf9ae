"""What every answer of the framework gets on its way out, and what becomes of a body nobody read."""

import asyncio
import contextlib
import time
from typing import Any

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from soup import metrics
from soup.core.errors import ClientGone, TooSlow

log = structlog.get_logger(__name__)

DRAINED = 64 * 1024 * 1024  # bytes
DRAIN_SECONDS = 10.0


class Envelope:
    """Adds the id of the request and CORS, and sees to it that an early answer arrives.

    A server that answers a client in the middle of its upload and closes makes the client's kernel throw the
    answer away with a reset. So the answer goes out whole, the rest of the body is read and forgotten, within
    limits, and only then is the exchange over. A client that waits for 100 Continue never sends the body and
    none is asked for.

    A body must keep coming: reading one raises TooSlow when nothing came for `idle` seconds, ClientGone when
    the client has left. Granian has no such limit.
    """

    def __init__(self, inner: ASGIApp, *, idle: float, log_requests: bool) -> None:
        self._inner, self._idle, self._log = inner, idle, log_requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != ScopeType.HTTP:
            await self._inner(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self._idle)
        began = time.perf_counter()
        await self._inner(scope, exchange.receive, exchange.send)
        metrics.API_REQUESTS.labels(scope["method"], str(exchange.status)).inc()
        if self._log:
            log.info(
                "request",
                method=scope["method"],
                path=scope["path"][:200],
                status=exchange.status,
                seconds=round(time.perf_counter() - began, 4),
                request=exchange.ids[0][1].decode(),
            )


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Any, receive: Receive, send: Send, idle: float) -> None:
        self._receive, self._send, self._idle = receive, send, idle
        headers: dict[bytes, bytes] = scope["soup.headers"]
        self._unread = headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
        self._waits = headers.get(b"expect", b"").lower() == b"100-continue"
        self.ids = scope["soup.ids"]
        self._extra = [*self.ids, *scope.get("soup.cors", ())]
        self.status = 0

    async def receive(self) -> Any:
        if not self._unread:
            return await self._receive()
        self._waits = False
        try:
            async with asyncio.timeout(self._idle):
                message: Any = await self._receive()
        except TimeoutError as error:
            raise TooSlow(f"nothing came for {self._idle:g} s") from error
        self._unread = bool(message.get("more_body", False))
        if message["type"] != "http.request":
            raise ClientGone("the client left before its body was whole")
        return message

    async def send(self, message: Message) -> None:
        sent: Any = message
        if sent["type"] == "http.response.start":
            self.status = sent["status"]
            sent["headers"] = [*sent.get("headers", ()), *self._extra]
            if self._unread:
                sent["headers"].append((b"connection", b"close"))
            await self._send(sent)
        elif self._unread and not self._waits and not sent.get("more_body", False):
            sent["more_body"] = True
            await self._send(sent)
            await self._drain()
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            await self._send(message)

    async def _drain(self) -> None:
        left = DRAINED
        with contextlib.suppress(TimeoutError, TooSlow, ClientGone):
            async with asyncio.timeout(DRAIN_SECONDS):
                while self._unread and left > 0:
                    left -= len((await self.receive()).get("body", b""))
