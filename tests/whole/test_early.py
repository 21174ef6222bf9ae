"""An answer that is known before the body has come: the client gets it, whether it waits or keeps sending."""

import contextlib
import http.client
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Server, Servers, program, sha256
from tests.wire import MIB, kept, wire

pytestmark = pytest.mark.sqlite  # rows have no part in it

LARGE = 20 * MIB
LEEK = b"leek"

# What is wrong: the status, and the request. `{leek}` is a blob that is here, `{token}` a good token.
REFUSED = {
    "no token": (401, "PUT /api/blob", []),
    "a wrong token": (401, "PUT /api/blob", ["Authorization: Bearer turnip"]),
    "too large": (413, "PUT /api/blob", ["Authorization: Bearer {token}"]),
    "already here": (412, "PUT /{leek}", ["Authorization: Bearer {token}", "If-None-Match: *"]),
    "a form": (
        415,
        "POST /api/blob",
        ["Authorization: Bearer {token}", "Content-Type: multipart/form-data; boundary=x"],
    ),
    "encoded": (415, "PUT /api/blob", ["Authorization: Bearer {token}", "Content-Encoding: gzip"]),
    "a part": (
        400,
        "PUT /api/blob",
        ["Authorization: Bearer {token}", "Content-Range: bytes 0-3/10"],
    ),
    "a header too long": (431, "PUT /{leek}", ["Authorization: Bearer {token}", f"X-Long: {'x' * 10_000}"]),
    "two hosts": (400, "PUT /{leek}", ["Authorization: Bearer {token}", "Host: other"]),
    "no such method": (405, "POST /{leek}", ["Authorization: Bearer {token}"]),
    "no such route": (404, "PUT /api/turnips", ["Authorization: Bearer {token}"]),
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that takes nothing above a mebibyte, and has one blob."""
    servers = Servers(tmp_path_factory.mktemp("small"))
    with servers.stack:
        server = servers(upload__largest=MIB)
        server.keep(LEEK)
        yield server


@pytest.fixture
def full(serve: Servers) -> Server:
    """A server whose disk has less room than it wants to keep free."""
    return serve(store__keep_free="500TB")


def request(server: Server, why: str) -> tuple[int, str, list[str]]:
    status, line, headers = REFUSED[why]
    names = {"leek": sha256(LEEK), "token": server.token}
    return status, line.format(**names), [header.format(**names) for header in headers]


@pytest.mark.parametrize("why", REFUSED)
def test_a_client_that_waits(small: Server, why: str) -> None:
    """
    With `Expect: 100-continue` a refusal comes before a byte of the body, and without a 100.
    """
    status, line, headers = request(small, why)
    before = kept(small)

    with wire(small) as connection:
        connection.ask(line, *headers, "Expect: 100-continue", f"Content-Length: {2 * MIB}")
        answer = connection.answer()

    assert (status, False) == (answer.status, answer.continued)
    assert "application/problem+json" == answer.headers["content-type"]
    assert before == kept(small)


@pytest.mark.parametrize("why", REFUSED)
def test_a_client_that_keeps_sending(small: Server, why: str) -> None:
    """
    A client that sends all of its body before it reads gets the refusal, not a reset.
    """
    status, line, headers = request(small, why)
    before = kept(small)

    with wire(small) as connection:
        connection.ask(line, *headers, f"Content-Length: {LARGE}")
        for _ in range(20):
            connection.send(bytes(MIB))
        answer = connection.answer()

    assert status == answer.status
    assert "application/problem+json" == answer.headers["content-type"]
    assert before == kept(small)


def test_chunks_without_an_end(small: Server) -> None:
    """
    A body that does not say its length is refused when it has become too large, and that arrives as well.
    """
    before = kept(small)

    with wire(small) as connection:
        connection.ask("PUT /api/blob", f"Authorization: Bearer {small.token}", "Transfer-Encoding: chunked")
        for _ in range(20):
            connection.send(b"100000\r\n" + bytes(MIB) + b"\r\n")
        answer = connection.send(b"0\r\n\r\n").answer()

    assert 413 == answer.status
    assert before == kept(small)


@pytest.mark.parametrize("waits", [["Expect: 100-continue"], []], ids=["waits", "sends"])
def test_a_full_disk(full: Server, waits: list[str]) -> None:
    """
    An upload that would leave too little room free gets 507, before it is sent if the client waits.
    """
    with wire(full) as connection:
        size = 4 if waits else LARGE
        connection.ask(
            "PUT /api/blob", f"Authorization: Bearer {full.token}", f"Content-Length: {size}", *waits
        )
        for _ in range(0 if waits else 20):
            connection.send(bytes(MIB))
        answer = connection.answer()

    assert (507, False) == (answer.status, answer.continued)
    assert ([], [], 0) == kept(full)


def test_chunks_on_a_full_disk(full: Server) -> None:
    """
    Chunks do not say how many they are; they are refused as they come.
    """
    answer = full.client.put("/api/blob", content=iter([bytes(MIB)] * 4), headers=full.admin)

    assert 507 == answer.status_code
    assert ([], [], 0) == kept(full)


@pytest.mark.parametrize("waits", [["Expect: 100-continue"], []], ids=["waits", "sends"])
def test_no_length(server: Server, waits: list[str]) -> None:
    """
    A body needs a length or chunks: 411 without either.
    """
    with wire(server) as connection:
        answer = connection.ask("PUT /api/blob", f"Authorization: Bearer {server.token}", *waits).answer()

    assert (411, False) == (answer.status, answer.continued)
    assert ([], [], 0) == kept(server)


def test_curl_that_keeps_sending(small: Server, tmp_path: Path) -> None:
    """
    A curl without Expect prints the refusal.
    """
    (tmp_path / "large").write_bytes(bytes(LARGE))
    command = [program("curl"), "-sS", "-w", "%{http_code}", "-o", "/dev/null", "-H", "Expect:", "-T"]

    ended = subprocess.run(
        [*command, tmp_path / "large", f"{small.url}/api/blob"], capture_output=True, text=True, check=False
    )

    assert ("401", "") == (ended.stdout, ended.stderr)


def test_curl_that_waits(small: Server, tmp_path: Path) -> None:
    """
    A curl as it is asks first and sends nothing.
    """
    (tmp_path / "large").write_bytes(bytes(LARGE))
    command = [program("curl"), "-sS", "-w", "%{http_code} %{size_upload}", "-o", "/dev/null", "-T"]

    ended = subprocess.run(
        [*command, tmp_path / "large", f"{small.url}/api/blob"], capture_output=True, text=True, check=False
    )

    assert ("401 0", "") == (ended.stdout, ended.stderr)


def test_python_that_keeps_sending(small: Server) -> None:
    """
    Python's own client reads the refusal after its body.
    """
    connection = http.client.HTTPConnection("127.0.0.1", small.port, timeout=15)
    connection.request("PUT", "/api/blob", body=bytes(LARGE))

    assert 401 == connection.getresponse().status
    connection.close()


def test_the_connection_after_a_refusal(small: Server) -> None:
    """
    What is left of a refused body is never read as the next request: only what was asked is answered.
    """
    smuggled = b"GET /healthz HTTP/1.1\r\nHost: soup\r\n\r\n"

    with wire(small) as connection:
        connection.ask("PUT /api/blob", f"Content-Length: {len(smuggled)}", body=smuggled)

        assert 401 == connection.answer().status
        connection.ask("GET /readyz", "Connection: close")
        rest = b""
        with contextlib.suppress(ConnectionError):
            while piece := connection.socket.recv(65_536):
                rest += piece

    assert rest.count(b"HTTP/1.1 ") <= 1
