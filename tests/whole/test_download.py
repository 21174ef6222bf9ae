"""Bytes from a real server: whole, in part, not at all, and to clients that do not take them."""

import hashlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Server, Servers, sha256
from tests.wire import MIB, Wire, counter, until, web_server, wire

SMALL = b"minestrone"
LARGE = bytes(range(256)) * 1200  # above serve.verify_up_to, and above a piece of HTTP's


@pytest.fixture(scope="module")
def lone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with one worker and one place for a direct answer, and little patience."""
    servers = Servers(tmp_path_factory.mktemp("lone"))
    with servers.stack:
        yield servers(
            server__workers=1, serve__direct_slots=1, serve__idle_seconds=1.5, jobs__mirrors_sweep_seconds=60
        )


def reader(server: Server, path: str, *headers: str) -> Wire:
    """A client that has asked and reads nothing; its own buffers are small."""
    connection = Wire.__new__(Wire)
    connection.read = b""
    connection.socket = socket.socket()
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.socket.settimeout(15)
    connection.socket.connect(("127.0.0.1", server.port))
    return connection.ask(f"GET {path}", *headers)


@pytest.mark.row("S3", "S4")
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_whole(server: Server, method: str, data: bytes) -> None:
    """
    A direct answer has the bytes, their name and their length, and HEAD says the same.
    """
    digest = server.keep(data)

    with wire(server) as connection:
        answer = connection.ask(f"{method} /{digest}").answer(bodyless=method == "HEAD")
        after = connection.ask("GET /healthz").answer()

    assert 200 == answer.status
    assert (data if method == "GET" else b"") == answer.body
    assert str(len(data)) == answer.headers["content-length"]
    assert f'"{digest}"' == answer.headers["etag"]
    assert "public, max-age=31536000, immutable" == answer.headers["cache-control"]
    assert "nosniff" == answer.headers["x-content-type-options"]
    assert "application/octet-stream" == answer.headers["content-type"]
    assert "bytes" == answer.headers["accept-ranges"]
    assert answer.headers["repr-digest"].startswith("sha-256=:")
    assert 200 == after.status


@pytest.mark.row("S37")
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [("0-0", 0, 0), ("3-", 3, None), ("-4", -4, None), ("2-6", 2, 6), ("0-99999999999", 0, None)],
)
def test_part(server: Server, data: bytes, asked: str, first: int, last: int | None) -> None:
    """
    A range is answered with exactly its bytes.
    """
    digest = server.keep(data)
    wanted = data[first:] if last is None else data[first : last + 1]
    start = first % len(data)

    with wire(server) as connection:
        answer = connection.ask(f"GET /{digest}", f"Range: bytes={asked}").answer()
        head = connection.ask(f"HEAD /{digest}", f"Range: bytes={asked}").answer(bodyless=True)

    assert (206, wanted) == (answer.status, answer.body)
    assert f"bytes {start}-{start + len(wanted) - 1}/{len(data)}" == answer.headers["content-range"]
    volatile = {"x-request-id", "x-amz-request-id", "date"}
    assert [(n, v) for n, v in answer.headers.items() if n not in volatile] == [
        (n, v) for n, v in head.headers.items() if n not in volatile
    ]


@pytest.mark.row("S35")
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_already_there(server: Server, data: bytes) -> None:
    """
    Who has the bytes is told so, and the tag that says it never changes.
    """
    digest = server.keep(data)

    with wire(server) as connection:
        first = connection.ask(f"GET /{digest}").answer()
        again = connection.ask(f"GET /{digest}", f"If-None-Match: {first.headers['etag']}").answer()
        other = connection.ask(f"GET /{digest}", f'If-None-Match: "{"0" * 64}"').answer()

    assert (304, b"") == (again.status, again.body)
    assert first.headers["etag"] == again.headers["etag"]
    assert (200, data) == (other.status, other.body)


@pytest.mark.row("S4", "S5")
def test_a_mirror_that_falls_silent(serve: Servers) -> None:
    """
    While it reports it gets the requests; when it is silent for long enough, soup serves the bytes itself.
    """
    server = serve(cdn__silence_seconds=1.5)
    digest = server.keep(LARGE)
    server.mirror("quiet.example")
    redirect = server.client.get(f"/{digest}")

    until(lambda: server.client.get(f"/{digest}").status_code == 200)
    direct = server.client.get(f"/{digest}")

    assert 307 == redirect.status_code
    assert f"https://quiet.example/{digest}" == redirect.headers["location"]
    assert digest == hashlib.sha256(direct.content).hexdigest()


@pytest.mark.row("S3")
def test_redirects_switched_off(serve: Servers) -> None:
    """
    With redirects off the core serves, whoever is online, and what is unknown stays unknown.
    """
    server = serve(cdn__redirects=False)
    digest = server.keep(LARGE)
    server.mirror("loud.example")

    answer = server.client.get(f"/{digest}")

    assert (200, digest) == (answer.status_code, hashlib.sha256(answer.content).hexdigest())
    assert 404 == server.client.get(f"/{'0' * 64}").status_code


def altered(server: Server, data: bytes, how: str) -> str:
    digest = server.keep(data)
    file: Path = server.data / "blobs" / digest[:3] / digest
    if how == "missing":
        file.unlink()
    elif how == "truncated":
        file.write_bytes(data[:-1])
    elif how == "longer":
        file.write_bytes(data + b"!")
    else:
        file.write_bytes(b"!" + data[1:])
    return digest


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("data", "how"),
    [
        (b"lentil missing", "missing"),
        (b"lentil truncated", "truncated"),
        (b"lentil longer", "longer"),
        (b"lentil altered", "altered"),
        (LARGE + b"missing", "missing"),
        (LARGE + b"truncated", "truncated"),
        (LARGE + b"longer", "longer"),
    ],
    ids=["missing", "truncated", "longer", "altered", "large missing", "large truncated", "large longer"],
)
def test_bytes_that_are_not_right(server: Server, data: bytes, how: str, method: str) -> None:
    """
    A file that is not what its name says is answered 503 to come back later, and never sent.
    """
    digest = altered(server, data + method.encode(), how)

    with wire(server) as connection:
        answer = connection.ask(f"{method} /{digest}").answer(bodyless=method == "HEAD")

    assert 503 == answer.status
    assert int(answer.headers["retry-after"]) > 0
    assert "application/problem+json" == answer.headers["content-type"]
    assert "*" == answer.headers["access-control-allow-origin"]
    assert "no-store" == answer.headers["cache-control"]


def test_altered_after_it_was_served(server: Server) -> None:
    """
    That it was right a moment ago does not count once its file has changed.
    """
    digest = server.keep(b"barley")
    assert 200 == server.client.get(f"/{digest}").status_code
    file = server.data / "blobs" / digest[:3] / digest
    times = file.stat()
    file.write_bytes(b"barlex")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))

    assert {503} == {server.client.get(f"/{digest}").status_code for _ in range(10)}


def test_missing_here_and_held_by_a_mirror(serve: Servers, tmp_path: Path) -> None:
    """
    Where a mirror has what the store has lost, even who asked for a direct answer is sent there.
    """
    server = serve()
    digest = altered(server, LARGE, "missing")
    held = tmp_path / "held" / digest[:3]
    held.mkdir(parents=True)
    (held / digest).write_bytes(LARGE)
    with web_server(tmp_path / "web", tmp_path / "held") as port:
        server.mirror("localhost", scheme="http", port=port)

        answer = server.client.get(f"/{digest}?direct=1", follow_redirects=True)

    assert [307] == [step.status_code for step in answer.history]
    assert LARGE == answer.content


def test_every_place_is_taken(lone: Server) -> None:
    """
    One answer more than there are places is told to come back, while all else goes on.
    """
    huge = lone.keep(bytes(64 * MIB))
    with reader(lone, f"/{huge}"):
        until(lambda: counter(lone, "soup_direct_bodies") == 1)
        with wire(lone) as connection:
            refused = connection.ask(f"GET /{huge}").answer()
            unchanged = connection.ask(f"GET /{huge}", f'If-None-Match: "{huge}"').answer()
            health = connection.ask("GET /healthz").answer()
            ready = connection.ask("GET /readyz").answer()
            mirror = lone.mirror("busy.example")
            redirect = connection.ask(f"GET /{huge}").answer()
            lone.client.delete(f"/api/cdn/{mirror['id']}", headers=lone.admin)

    assert 503 == refused.status
    assert int(refused.headers["retry-after"]) > 0
    assert "*" == refused.headers["access-control-allow-origin"]
    assert [304, 200, 200, 307] == [unchanged.status, health.status, ready.status, redirect.status]
    until(lambda: lone.client.get(f"/{lone.keep(SMALL)}").status_code == 200)


@pytest.mark.parametrize("headers", [[], ["Range: bytes=1-"]], ids=["whole", "part"])
def test_a_client_that_reads_nothing(lone: Server, headers: list[str]) -> None:
    """
    It is cut when it has taken nothing for a while, and its place is free again.
    """
    huge = lone.keep(bytes(64 * MIB))
    until(lambda: counter(lone, "soup_direct_bodies") == 0)
    began = time.monotonic()
    with reader(lone, f"/{huge}", *headers) as connection:
        until(lambda: counter(lone, "soup_direct_bodies") == 1)
        until(lambda: counter(lone, "soup_direct_bodies") == 0)
        took = time.monotonic() - began
        got = 0
        try:
            while piece := connection.socket.recv(MIB):
                got += len(piece)
        except ConnectionResetError:
            pass

    assert 1.4 < took < 6
    assert got < 32 * MIB


def test_a_client_that_leaves(lone: Server) -> None:
    """
    When the client has left, no more of the blob is read for it.
    """
    data = os.urandom(MIB) * 128
    huge = lone.keep(data)
    until(lambda: counter(lone, "soup_direct_bodies") == 0)
    before = counter(lone, "soup_blob_sent_bytes_total")

    with reader(lone, f"/{huge}") as connection:
        until(lambda: counter(lone, "soup_direct_bodies") == 1)
        assert 200 == connection.head()[0]

    until(lambda: counter(lone, "soup_direct_bodies") == 0, seconds=1.4)
    assert counter(lone, "soup_blob_sent_bytes_total") - before < 64 * MIB
    assert sha256(data) == huge


def test_sent_bytes_are_counted(lone: Server) -> None:
    """
    The counter moves by what a client was sent, whole or in part, and by nothing else.
    """
    digest = lone.keep(LARGE)
    before = counter(lone, "soup_blob_sent_bytes_total")

    with wire(lone) as connection:
        connection.ask(f"GET /{digest}").answer()
        connection.ask(f"GET /{digest}", "Range: bytes=0-99").answer()
        connection.ask(f"HEAD /{digest}").answer(bodyless=True)
        connection.ask(f"GET /{digest}", f'If-None-Match: "{digest}"').answer()

    assert len(LARGE) + 100 == counter(lone, "soup_blob_sent_bytes_total") - before
