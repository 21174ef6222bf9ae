"""What tests of processes share."""

import os
import socket
from pathlib import Path

import httpx

from tests.conftest import Server
from tests.wire import until

LARGE = 48 * 1024 * 1024  # more than the buffers between soup and a client that does not read


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def answered_by(server: Server) -> bool:
    """Whether a fresh connection is answered."""
    try:
        return httpx.get(f"{server.url}/healthz", timeout=5).is_success
    except httpx.TransportError:
        return False


def ready(url: str) -> bool:
    """Whether a listener answers, and says that it is ready."""
    try:
        return httpx.get(f"{url}/readyz", timeout=5).is_success
    except httpx.TransportError:
        return False


def downloading(server: Server) -> socket.socket:
    """A client that has asked for a large blob and has read only the start of it."""
    digest = server.keep(os.urandom(1024) * (LARGE // 1024))
    client = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    client.sendall(f"GET /{digest} HTTP/1.1\r\nHost: soup\r\nConnection: close\r\n\r\n".encode())
    assert client.recv(15) == b"HTTP/1.1 200 OK"
    return client


def rest(client: socket.socket) -> int:
    """How many bytes of body still come."""
    read, head = 0, b""
    while b"\r\n\r\n" not in head:
        head += client.recv(4096)
    read = len(head.partition(b"\r\n\r\n")[2])
    while piece := client.recv(1 << 20):
        read += len(piece)
    return read


def mark(server: Server) -> str:
    """Which worker answers a fresh connection."""
    return httpx.get(f"{server.url}/healthz", timeout=5).headers["x-request-id"][:12]


def both(server: Server) -> None:
    """Wait until two workers answer."""
    until(lambda: len({mark(server) for _ in range(8)}) == 2)
