"""One listener, N workers."""

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from granian import Granian
from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings

from soup.core.errors import Refused
from soup.settings import RUNTIME

METRICS = "PROMETHEUS_MULTIPROC_DIR"


def claim(host: str, port: int) -> None:
    """Raise Refused where the port is taken.

    Granian itself would share it, and each would get half of the requests.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise Refused(f"server.host: {host!r} is no address: {error.strerror}") from error
    family, kind, protocol, _, address = found[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            raise Refused(f"cannot listen on {host} port {port}: {error.strerror}") from error


@contextmanager
def runtime() -> Iterator[None]:
    """The folder that workers share while they run. They hear of it by the environment.

    To be entered before anything imports the metrics.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix="soup-"))
        (folder / "metrics").mkdir()
    except OSError as error:
        raise Refused(f"cannot make a temporary folder: {error.strerror}") from error
    os.environ[RUNTIME] = str(folder)
    os.environ[METRICS] = str(folder / "metrics")
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def serve(
    *,
    host: str,
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
        address=host,
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
        log_access=False,
    )
    server.on_startup(started)
    server.serve(target_loader=application, wrap_loader=False)
