"""One listener, N workers."""

import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from granian import Granian
from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings
from granian.log import LogLevels

from soup.core.errors import Refused
from soup.settings import PARENT, RUNTIME

METRICS = "PROMETHEUS_MULTIPROC_DIR"


def claim(host: str, port: int) -> str:
    """The address to listen on. Raises Refused where the port is taken.

    Granian itself would share it, and each would get half of the requests.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise Refused(f"server.host: {host!r} is no address: {error.strerror}") from error
    family, kind, protocol, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            raise Refused(f"cannot listen on {host} port {port}: {error.strerror}") from error
    return str(address[0])


@contextmanager
def runtime() -> Iterator[None]:
    """The folder that workers share while they run. They hear of it by the environment.

    To be entered before anything imports the metrics.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # until Granian takes over
    try:
        folder = Path(tempfile.mkdtemp(prefix="soup-"))
        (folder / "metrics").mkdir()
    except OSError as error:
        raise Refused(f"cannot make a temporary folder: {error.strerror}") from error
    os.environ[RUNTIME] = str(folder)
    os.environ[METRICS] = str(folder / "metrics")
    os.environ[PARENT] = str(os.getpid())
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def serve(
    *,
    address: str,
    port: int,
    workers: int,
    backlog: int,
    stop_seconds: float,
    logging: dict[str, Any],
    application: Callable[[], Any],
    started: Callable[[], None],
) -> None:
    """Listen until told to stop. Each worker calls `application` for itself."""
    server = Granian(
        "soup",  # only a name for the process: Granian's own import goes by the folder it is started in
        address=address,
        port=port,
        interface=Interfaces.ASGI,
        workers=workers,
        loop=Loops.auto,
        http=HTTPModes.http1,  # 2,500 stalled HTTP/2 streams held 249 MiB, and uploads are five times slower
        http1_settings=HTTP1Settings(header_read_timeout=10_000),
        websockets=False,
        backlog=backlog,
        backpressure=backlog,
        respawn_failed_workers=True,
        workers_kill_timeout=max(1, round(stop_seconds)),
        log_dictconfig=logging,
        # At info it logs a line for every piece sent to a client that has left.
        log_level=LogLevels.error if logging["root"]["level"] == "ERROR" else LogLevels.warning,
        log_access=False,
    )
    server.on_startup(_end_young_workers)
    server.on_startup(started)
    server.serve(target_loader=application, wrap_loader=False)


def _end_young_workers() -> None:
    """Let a worker that is still starting obey.

    A fork has its parent's handlers until it sets its own, and Granian's would only note in the fork that the
    parent is to stop: the worker would go on, and the parent would wait for it until it kills it.
    """
    parent = os.getpid()
    for number in (signal.SIGTERM, signal.SIGINT):
        stop: Any = signal.getsignal(number)

        def obey(number: int, frame: Any, stop: Any = stop) -> None:
            if os.getpid() != parent:
                os._exit(0)
            stop(number, frame)

        signal.signal(number, obey)
