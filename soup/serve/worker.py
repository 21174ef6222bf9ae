"""The life of a worker: one event loop, with Granian embedded in it."""

import asyncio
import gc
import json
import os
import shutil
import signal
import socket
from collections.abc import Callable
from importlib.metadata import version

import structlog
import uvloop
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.embed import Server
from pydantic import ValidationError

from soup import logs, metrics
from soup.app import Soup, build
from soup.core.errors import SoupError
from soup.serve.listener import Listener
from soup.settings import RUNTIME, Settings

log = structlog.get_logger(__name__)


def work(
    listener: Listener,
    settings: Settings,
    line: socket.socket,
    admit: Callable[[], None],
    prepared: bool,  # noqa: FBT001 - one fact of several that a parent hands over
) -> int:
    """Answer at a listener until told to stop, or until the parent is gone; the exit status.

    `line` brings the parent's orders, and its end; `admit` lets in the signals that have waited.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches everybody at once; the parent decides
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    return uvloop.run(_work(listener, settings, line, admit, prepared=prepared))


async def _work(
    listener: Listener,
    settings: Settings,
    line: socket.socket,
    admit: Callable[[], None],
    *,
    prepared: bool,
) -> int:
    over, ready = asyncio.Event(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    admit()
    metrics.begin(version("soup"))
    if prepared:
        ready.set()
    try:
        soup = build(settings, prepared=ready, control=listener.control)
    except SoupError as error:
        log.error("worker.refused", reason=str(error))  # noqa: TRY400 - the reason says it all
        return os.EX_CONFIG
    orders = asyncio.ensure_future(_obey(line, soup, ready, over))
    try:
        async with soup.running():
            gc.freeze()  # what was built stays: to look through it for garbage would hold up every request
            status = await _serve(soup, listener, settings, over)
    finally:
        orders.cancel()
    return status


async def _serve(soup: Soup, listener: Listener, settings: Settings, over: asyncio.Event) -> int:
    """Listen until it is over, then let answers finish."""
    server = _server(soup, listener, settings)
    serving = asyncio.ensure_future(server.serve())
    stopping = asyncio.ensure_future(over.wait())
    await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        log.error("worker.deafened", reason=str(serving.exception()))
        return os.EX_SOFTWARE
    # Whoever balances the load is told first, and new connections are refused only then.
    soup.drain()
    limit = settings.server.stop_seconds
    open_for = 0.0 if listener.control else min(settings.server.drain_seconds, limit)
    await asyncio.sleep(open_for)
    server.stop()  # type: ignore[no-untyped-call]  # it has no types
    _, late = await asyncio.wait([serving], timeout=limit - open_for)
    if late:
        log.warning("stopping.cut", seconds=limit)
    return os.EX_OK


def _server(soup: Soup, listener: Listener, settings: Settings) -> Server:
    backlog = settings.server.backlog
    return Server(
        soup.face,
        address=listener.address,
        port=listener.port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,  # 2,500 stalled HTTP/2 streams held 249 MiB, and uploads are five times slower
        http1_settings=HTTP1Settings(header_read_timeout=10_000),
        websockets=False,
        backlog=backlog,
        backpressure=backlog,
        log_dictconfig=logs.dictconfig(settings.log.format, settings.log.level),
        # At info it logs a line for every piece sent to a client that has left, and warns of being embedded.
        log_level=LogLevels.error,
    )


async def _obey(line: socket.socket, soup: Soup, ready: asyncio.Event, over: asyncio.Event) -> None:
    """Do what the parent says, a line of JSON each, and end when it is gone."""
    line.settimeout(0)
    reader, _ = await asyncio.open_unix_connection(sock=line, limit=1 << 20)
    try:
        while (said := await reader.readline()).endswith(b"\n"):
            order = json.loads(said)
            if "prepared" in order:
                ready.set()
            if "settings" in order:
                _adopt(soup, order["settings"])
        log.error("parent.gone")
        if RUNTIME in os.environ:
            shutil.rmtree(os.environ[RUNTIME], ignore_errors=True)  # what the parent would have done
    finally:
        over.set()  # whatever went wrong: who cannot hear the parent is of no use to it


def _adopt(soup: Soup, said: object) -> None:
    """Go by these settings, or as before where a file they name has gone since the parent has read it."""
    try:
        settings = Settings.model_validate(said)
    except ValidationError as error:
        # Not the error itself: it quotes what it was given, passwords as well.
        faults = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        log.error("settings.not_taken", process=os.getpid(), reason="; ".join(faults))  # noqa: TRY400 - see above
        return
    logs.set_up(settings.log.format, settings.log.level)
    soup.adopt(settings)
