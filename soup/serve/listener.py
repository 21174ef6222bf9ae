"""Where soup listens."""

import socket
from dataclasses import dataclass

from soup.core.errors import Refused
from soup.settings import Settings


@dataclass(frozen=True, slots=True)
class Listener:
    """An address that so many workers answer at.

    `control`: mirrors report there, and health and metrics are told; nothing else is (D10).
    """

    address: str
    port: int
    workers: int
    control: bool = False


def listeners(settings: Settings) -> tuple[list[Listener], list[socket.socket]]:
    """Every listener these settings ask for, and the sockets that hold their ports until they are closed.

    Raises Refused where a port is taken.
    """
    public = (settings.server.host, settings.server.port, settings.server.workers, False)
    wanted: list[tuple[str, int, int, bool]] = [public]
    if settings.server.control:
        name, _, number = settings.server.control.rpartition(":")
        wanted.append((name.strip("[]"), int(number), 1, True))
    found: list[Listener] = []
    held: list[socket.socket] = []
    try:
        for host, port, workers, control in wanted:
            name = "server.control" if control else "server.host"
            address, socket_ = claim(host, port, name)
            held.append(socket_)
            found.append(Listener(address, port, workers, control))
    except Refused:
        for one in held:
            one.close()
        raise
    return found, held


def claim(host: str, port: int, name: str) -> tuple[str, socket.socket]:
    """The address to listen on, and a socket that keeps its port from others.

    Raises Refused where it is taken, under the `name` of the setting.

    Workers share a port (SO_REUSEPORT), and so could a second soup: each would get half of the requests. The
    socket never listens, so no request comes to it; while it is there nobody else can have the port, even
    when every worker has just died.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise Refused(f"{name}: {host!r} is no address: {error.strerror}") from error
    family, kind, protocol, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    try:
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
        held = socket.socket(family, kind, protocol)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(address)
    except OSError as error:
        raise Refused(f"cannot listen on {host} port {port}: {error.strerror}") from error
    return str(address[0]), held
