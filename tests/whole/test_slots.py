"""Places for uploads: more than `upload.slots` at once are told to come back."""

import socket
from contextlib import ExitStack, contextmanager

import httpx
import pytest

from tests.conftest import Server, Servers, sha256
from tests.wire import until

BODY = b"minestrone" * 100


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One worker with two places."""
    servers = Servers(tmp_path_factory.mktemp("slots"))
    with servers.stack:
        yield servers(server__workers=1, upload__slots=2)


@contextmanager
def half_an_upload(server: Server):
    """A client that has sent half of its body, and waits."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        head = f"PUT /api/blob HTTP/1.1\r\nHost: soup\r\nAuthorization: Bearer {server.token}\r\n"
        client.sendall(f"{head}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY[:10])
        yield client


def put(server: Server, body: bytes) -> httpx.Response:
    return httpx.put(f"{server.url}/{sha256(body)}", content=body, headers=server.admin, timeout=10)


def test_one_too_many(server) -> None:
    """
    It is told to come back, nothing of it is kept, and everything else is answered as ever.
    """
    with ExitStack() as stack:
        first = stack.enter_context(half_an_upload(server))
        stack.enter_context(half_an_upload(server))
        until(lambda: put(server, b"leek").status_code == 503)

        refused = put(server, b"barley" * 500_000)

        assert 503 == refused.status_code
        assert "1" == refused.headers["retry-after"]
        assert "urn:soup:error:busy" == refused.json()["type"]
        assert 404 == httpx.get(f"{server.url}/{sha256(b'barley' * 500_000)}").status_code
        assert 200 == httpx.get(f"{server.url}/api/blob:list", headers=server.admin).status_code

        first.sendall(BODY[10:])
        assert b"HTTP/1.1 201" == first.recv(12)
        assert 201 == put(server, b"barley" * 500_000).status_code


def test_a_place_of_somebody_who_left(server) -> None:
    """
    Uploads that break off give their places back.
    """
    for _ in range(5):
        with half_an_upload(server), half_an_upload(server):
            pass

    until(lambda: put(server, b"thyme").status_code in {200, 201})
