"""A web server for blobs that does as it is told, well or badly."""

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from tests.conftest import sha256
from tests.databases import free_port

PAGE = b"<!DOCTYPE html><title>It works!</title>"


class Odd:
    """Serves what is in `blobs`, in its `way`, on a port of loopback. `asked` has the requests, as they came.

    well, hang, close (no answer), 404, 500, page (200 with a web page), short, long, wrong (bytes), another
    (blob's bytes), elsewhere (a redirect to the right bytes), whole (knows no ranges), other range, endless
    range (one of 20,000 digits), halfway (hangs in the middle), not HTTP, once (close, and from then on
    well). `meanwhile` is done before it answers.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.way, self.port = "well", free_port()
        self.blobs: dict[str, bytes] = {}
        self.asked: list[bytes] = []
        self.meanwhile: Callable[[], Awaitable[object]] | None = None
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def terms(self) -> dict[str, object]:
        """Its address, as an administrator tells it."""
        return {"fqdn": "127.0.0.1", "scheme": "http", "port": self.port}

    def add(self, data: bytes) -> str:
        self.blobs[sha256(data)] = data
        return sha256(data)

    async def start(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._tls)

    async def stop(self) -> None:
        """Nobody listens any more."""
        if self._server is not None:
            self._server.close()
            for writer in self._open:
                writer.close()
            await self._server.wait_closed()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            request = await reader.readuntil(b"\r\n\r\n")
            self.asked.append(request)
            if self.meanwhile is not None:
                await self.meanwhile()
            await self._answer(request, reader, writer)
        self._open.discard(writer)
        writer.close()

    async def _answer(
        self, request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        path = request.split()[1].decode().lstrip("/")
        data = self.blobs.get(path.partition("?")[0])
        way = self.way if data is not None else "404"
        if way == "once":
            self.way, way = "well", "close"
        if way == "close":
            return
        if way == "hang":
            await reader.read()
            return
        if way == "not HTTP":
            writer.write(b"220 soup.example ESMTP\r\n")
        elif way in {"404", "500"}:
            writer.write(head(int(way), 0))
        elif way == "page":
            writer.write(head(200, len(PAGE)) + PAGE)
        elif way == "elsewhere" and "?" not in path:
            writer.write(head(302, 0, f"Location: /{path}?"))
        else:
            assert data is not None
            await self._send(request, data, way, reader, writer)
        await writer.drain()

    async def _send(
        self,
        request: bytes,
        data: bytes,
        way: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        if way == "another":
            data = hashlib.sha256(data).digest() * (len(data) // 32 + 1)
        if way == "wrong":
            data = bytes(byte ^ 1 for byte in data)
        status, more, size = 200, (), len(data)
        asked = [line for line in request.lower().split(b"\r\n") if line.startswith(b"range: bytes=")]
        if asked and way != "whole":
            first, last = map(int, asked[0].removeprefix(b"range: bytes=").split(b"-"))
            first += way == "other range"
            status, more = 206, (f"Content-Range: bytes {first}-{last}/{size}",)
            if way == "endless range":
                more = (f"Content-Range: bytes {'9' * 20_000}",)
            data = data[first : last + 1]
        if way == "long":
            data += b"and more"
        writer.write(head(status, len(data), *more))
        if way in {"short", "halfway"}:
            data = data[: len(data) // 2]
        writer.write(data)
        if way == "halfway":
            await reader.read()


def head(status: int, length: int, *more: str) -> bytes:
    lines = [f"HTTP/1.1 {status} So", f"Content-Length: {length}", "Connection: close", *more, "", ""]
    return "\r\n".join(lines).encode()


@asynccontextmanager
async def odd(tls: ssl.SSLContext | None = None) -> AsyncIterator[Odd]:
    server = Odd(tls)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
