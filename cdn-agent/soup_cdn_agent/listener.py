"""A small HTTP server for the web server beside the agent: it passes on what is not here.

One request, one answer, and the connection ends: who asks is on this machine, and asks for megabytes. The
kernel copies from file to socket, so a client costs no memory for its bytes, however slow it is.
"""

import asyncio
import os
import socket
from asyncio import Future
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import h11
import structlog

from soup_cdn_agent.known import Threads

log = structlog.get_logger(__name__)

HEAD = 64 << 10  # bytes of a request: more than nginx passes on
SECONDS = 10.0  # for a request to come
AT_ONCE = 1 << 20  # bytes that one call hands to the kernel
UNSENT = 128 << 10  # bytes of an answer in the kernel: of megabytes a third has to go before it takes more
BACKLOG = 1024
PAUSE = 0.1  # seconds, where no connection can be taken: too many files are open


class Cut(Exception):
    """The client took nothing for too long, or may not have the rest: its connection ends in the middle."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: method, path as it came, headers with their names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]


class Wire:
    """A connection, from one that asks."""

    def __init__(self, sock: socket.socket, threads: Threads, idle: float) -> None:
        self._sock, self._threads, self._idle = sock, threads, idle
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD)
        self.begun = False  # the answer has

    async def asked(self) -> Asked | None:
        """What is asked; None where nothing is. Raises RemoteProtocolError, TimeoutError, OSError."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(SECONDS):
            while True:
                event = self._http.next_event()
                if isinstance(event, h11.Request):
                    named: dict[str, str] = {}
                    for name, value in event.headers:
                        key, text = name.decode(), value.decode("latin-1")
                        named[key] = f"{named[key]}, {text}" if key in named else text
                    return Asked(event.method.decode(), event.target.decode("latin-1"), named)
                if event is not h11.NEED_DATA:
                    return None
                self._http.receive_data(await loop.sock_recv(self._sock, HEAD))

    def watch(self, task: asyncio.Task[Any]) -> None:
        """End a task when the client leaves."""
        loop = asyncio.get_running_loop()

        def heard() -> None:
            with suppress(BlockingIOError):
                try:
                    if self._sock.recv(HEAD):
                        return  # more than it was to say: nobody listens
                except ConnectionError:
                    pass
                loop.remove_reader(self._sock)
                task.cancel()

        loop.add_reader(self._sock, heard)

    async def head(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        """Begin the answer; of a short one, all of it. Raises Cut, OSError."""
        sent = [*headers.items(), ("connection", "close")]
        start = self._http.send(h11.Response(status_code=status, headers=sent)) or b""
        self.begun = True
        await self.send(start + body)

    async def send(self, data: bytes) -> None:
        """Send these. Raises Cut, OSError."""
        view = memoryview(data)
        while view:
            try:
                view = view[self._sock.send(view) :]
            except BlockingIOError:
                await self._writable()

    async def send_file(self, fd: int, first: int, stop: int) -> int:
        """Send some of a part of a file; how many bytes. Raises Cut, OSError."""
        while True:
            await self._writable()
            try:
                count = min(stop - first, AT_ONCE)
                sent = await self._threads.through(os.sendfile, self._sock.fileno(), fd, first, count)
            except BlockingIOError:
                continue
            if not sent:
                raise Cut("the file is shorter than it was")
            return sent

    async def _writable(self) -> None:
        loop = asyncio.get_running_loop()
        ready: Future[None] = loop.create_future()
        loop.add_writer(self._sock, _set, ready)
        try:
            async with asyncio.timeout(self._idle):
                await ready
        except TimeoutError as error:
            raise Cut(f"the client took nothing for {self._idle:g} s") from error
        finally:
            loop.remove_writer(self._sock)

    def close(self) -> None:
        """End it. What was sent arrives."""
        loop = asyncio.get_running_loop()
        if self._sock.fileno() >= 0:
            loop.remove_reader(self._sock)
            loop.remove_writer(self._sock)
            with suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR)
            self._sock.close()


def _set(ready: Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


class Listener:
    """Takes connections on one address. `answer` answers each request."""

    def __init__(
        self, listen: str, threads: Threads, answer: Callable[[Asked, Wire], Awaitable[None]], idle: float
    ) -> None:
        """Raises OSError where it cannot listen there."""
        self._threads, self._answer, self._idle = threads, answer, idle
        host, _, port = listen.rpartition(":")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._sock = socket.create_server((host.strip("[]"), int(port)), family=family, backlog=BACKLOG)
        except (OSError, OverflowError) as error:
            raise OSError(f"cannot listen on {listen}: {error}") from error
        self._sock.settimeout(0)
        self._accepting: asyncio.Task[None] | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Answer, until it is to finish."""
        async with asyncio.TaskGroup() as group:
            self._accepting = group.create_task(self._accept(group))

    async def _accept(self, group: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(self._sock)
            except OSError as error:
                log.warning("pull.not_accepted", reason=str(error))
                await asyncio.sleep(PAUSE)
                continue
            serving = group.create_task(self._serve(sock))
            self._serving.add(serving)
            serving.add_done_callback(self._serving.discard)

    async def finish(self, seconds: float) -> None:
        """Take no more, and wait for so long until all have their answers."""
        if self._accepting:
            self._accepting.cancel()
        self._sock.close()
        if self._serving:
            await asyncio.wait(self._serving, timeout=seconds)

    async def _serve(self, sock: socket.socket) -> None:
        wire = Wire(sock, self._threads, self._idle)
        try:
            asked = await wire.asked()
            if asked is not None:
                task = asyncio.current_task()
                assert task is not None  # noqa: S101 - it is one that runs
                wire.watch(task)
                await self._answer(asked, wire)
        except h11.RemoteProtocolError as error:
            with suppress(Cut, OSError, h11.LocalProtocolError):
                await wire.head(error.error_status_hint, {"content-length": "0"})
        except (Cut, OSError, TimeoutError) as error:
            log.debug("pull.cut", reason=str(error))
        except Exception:
            log.exception("pull.failed")
        finally:
            wire.close()

    def close(self) -> None:
        """Take no more."""
        self._sock.close()
