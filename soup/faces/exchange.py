"""One request with a body, and an answer that arrives."""

import asyncio
import contextlib
from typing import Any

from litestar.types import Receive, Send

from soup.core.errors import ClientGone, TooSlow

DRAINED = 64 * 1024 * 1024  # bytes
DRAIN_SECONDS = 10.0
PAUSE = 0.5  # seconds without a byte after which a client has understood


def has_body(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether a request brings a body (RFC 9112, 6)."""
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in headers
    )


class Exchange:
    """Reads a body that must keep coming, and answers so that the client hears it.

    A server that answers a client in the middle of its upload and closes makes the client's kernel throw the
    answer away with a reset. So an early answer goes out but for its last byte, the rest of the body is read
    and forgotten, within limits, and then the last byte ends it. (With the last byte out, Granian takes the
    exchange for over.) A client that waits for 100 Continue never sends the body, and none is asked for.
    """

    def __init__(self, scope: Any, receive: Receive, send: Send, idle: float) -> None:
        self._receive, self._send, self._idle = receive, send, idle
        self._unread = has_body(scope["headers"])
        self._waits = (b"expect", b"100-continue") in (
            (name, value.lower()) for name, value in scope["headers"]
        )
        self.status = 0

    async def receive(self) -> Any:
        """The next message.

        Raises TooSlow after `idle` seconds without one, ClientGone in the middle of a body.
        """
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

    async def send(self, message: Any) -> None:
        """Pass a message on; drain before the last byte of an early answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self._unread:
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
        elif self._unread and not self._waits and not message.get("more_body", False) and message.get("body"):
            body = message["body"]
            await self._send({"type": "http.response.body", "body": body[:-1], "more_body": True})
            await self._drain()
            message["body"] = body[-1:]
        await self._send(message)

    async def _drain(self) -> None:
        self._idle, left = PAUSE, DRAINED
        with contextlib.suppress(TimeoutError, TooSlow, ClientGone):
            async with asyncio.timeout(DRAIN_SECONDS):
                while self._unread and left > 0:
                    left -= len((await self.receive()).get("body", b""))
