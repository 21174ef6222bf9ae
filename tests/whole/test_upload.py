"""Uploads to a real server: what is kept, and that nothing else is."""

import os
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import Server, Servers, program, sha256
from tests.wire import MIB, Wire, counter, files, kept, rows, spools, until, wire


def anonymous(pid: int) -> int:
    """Bytes of a process that no file backs."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "RssAnon" in line)
    return int(line.split()[1]) * 1024


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that wants no silence in an upload, and nothing above four mebibytes."""
    servers = Servers(tmp_path_factory.mktemp("strict"))
    with servers.stack:
        yield servers(upload__largest=4 * MIB, upload__idle_seconds=0.5)


def token(server: Server) -> str:
    return f"Authorization: Bearer {server.token}"


@pytest.mark.row("S1")
def test_a_large_blob(serve: Servers, tmp_path: Path) -> None:
    """
    A gibibyte does not stay in memory, and its redirect is under a kilobyte and sends no byte of it.
    """
    server = serve(server__workers=1)
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(1024 * MIB)
    server.client.get("/readyz")
    (worker,) = server.workers()
    before, most, done = anonymous(worker), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            most.append(anonymous(worker))

    watching = threading.Thread(target=watch)
    watching.start()
    command = [program("curl"), "-sS", "-w", "%{http_code} %{redirect_url}", "-o", tmp_path / "answer"]
    ended = subprocess.run(
        [*command, "-H", token(server), "-T", large, f"{server.url}/api/blob"],
        capture_output=True,
        text=True,
        check=False,
    )
    done.set()
    watching.join()
    host = "m" * 48 + ".example.org"
    server.mirror(host)
    digest = rows(server)[0]
    with wire(server) as connection:
        connection.ask(f"GET /{digest}", "Connection: close")
        answer = b""
        while piece := connection.socket.recv(65_536):
            answer += piece

    assert ("201 ", "") == (ended.stdout, ended.stderr)
    assert len(most) > 3
    assert max(most) - before < 64 * MIB
    assert 60 == len(host)
    assert answer.startswith(b"HTTP/1.1 307 ")
    assert f"\r\nlocation: https://{host}/{digest}\r\n".encode() in answer
    assert len(answer) < 1000
    assert 0 == counter(server, "soup_blob_sent_bytes_total")
    large.unlink()
    (server.data / "blobs" / digest[:3] / digest).unlink()  # pytest keeps folders; not this


def test_the_same_bytes_from_two_at_once(server: Server) -> None:
    """
    Both succeed, one of them is told that it was first, and there is one blob.
    """
    data = os.urandom(4 * MIB)
    together = threading.Barrier(8)

    def send(place: int) -> tuple[int, dict[str, object]]:
        with Wire(server.port) as connection:
            path = "/api/blob" if place % 2 else f"/{sha256(data)}"
            connection.ask(f"PUT {path}", token(server), f"Content-Length: {len(data)}", body=data[:-1])
            together.wait()
            answer = connection.send(data[-1:]).answer()
            return answer.status, answer.body

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, range(8)))

    assert [200] * 7 + [201] == sorted(status for status, _ in answers)
    assert 1 == len({body for _, body in answers})
    assert [f"{sha256(data)[:3]}/{sha256(data)}"] == [name for name in files(server) if sha256(data) in name]
    assert 1 == rows(server).count(sha256(data))
    assert 0 == spools(server)
    assert data == server.client.get(f"/{sha256(data)}").content


def test_a_duplicate_repairs(server: Server) -> None:
    """
    Bytes that arrived and hash right replace what lies there.
    """
    digest = server.keep(bytes(100_000))
    (server.data / "blobs" / digest[:3] / digest).write_bytes(b"short")
    assert 503 == server.client.get(f"/{digest}").status_code

    answer = server.client.put(f"/{digest}", content=bytes(100_000), headers=server.admin)

    assert 200 == answer.status_code
    assert bytes(100_000) == server.client.get(f"/{digest}").content


def test_chunks(server: Server) -> None:
    """
    A body may come in chunks of any size, and its length need not be known before.
    """
    data = os.urandom(300_000)
    with wire(server) as connection:
        connection.ask("POST /api/blob", token(server), "Transfer-Encoding: chunked")
        for start, end in [(0, 1), (1, 2), (2, 70_000), (70_000, 300_000)]:
            connection.send(b"%x;leek=1\r\n" % (end - start) + data[start:end] + b"\r\n")
        answer = connection.send(b"0\r\nX-Trailer: soup\r\n\r\n").answer()

        assert 201 == answer.status
        assert f"/{sha256(data)}" == answer.headers["location"]

        again = connection.ask(f"GET /{sha256(data)}").answer()

    assert data == again.body


@pytest.mark.parametrize("framing", ["Content-Length: 0", "Transfer-Encoding: chunked"])
def test_the_empty_blob(server: Server, framing: str) -> None:
    """
    No bytes have a digest too.
    """
    body = b"0\r\n\r\n" if "chunked" in framing else b""
    with wire(server) as connection:
        answer = connection.ask(f"PUT /{sha256(b'')}", token(server), framing, body=body).answer()
        read = connection.ask(f"GET /{sha256(b'')}").answer()
        part = connection.ask(f"GET /{sha256(b'')}", "Range: bytes=0-0").answer()
        end = connection.ask(f"GET /{sha256(b'')}", "Range: bytes=-5").answer()

    assert answer.status in {200, 201}
    assert (200, "0", b"") == (read.status, read.headers["content-length"], read.body)
    assert (416, "bytes */0") == (part.status, part.headers["content-range"])
    assert (200, b"") == (end.status, end.body)


def test_expect_continue(server: Server) -> None:
    """
    Who waits for a 100 gets it when the upload is welcome.
    """
    with wire(server) as connection:
        connection.ask("PUT /api/blob", token(server), "Expect: 100-continue", "Content-Length: 4")

        assert 100 == connection.head()[0]
        assert 201 == connection.send(b"leek").answer().status


def test_other_bytes(server: Server) -> None:
    """
    Bytes of another digest are refused with both names, and nothing of them stays.
    """
    before = kept(server)

    answer = server.client.put(f"/{sha256(b'leek')}", content=bytes(3 * MIB), headers=server.admin)

    assert 422 == answer.status_code
    assert sha256(b"leek") == answer.json()["digest"]
    assert sha256(bytes(3 * MIB)) in answer.json()["detail"]
    assert before == kept(server)


@pytest.mark.parametrize("size", [1, 3 * MIB])
@pytest.mark.parametrize("line", ["PUT /api/blob", f"PUT /{sha256(b'leek')}"])
def test_gone_in_the_middle(server: Server, line: str, size: int) -> None:
    """
    A client that leaves in its upload leaves nothing behind.
    """
    before = kept(server)
    with wire(server) as connection:
        connection.ask(line, token(server), f"Content-Length: {4 * MIB}", body=bytes(size))
        until(lambda: counter(server, "soup_uploads") == 1)

    until(lambda: counter(server, "soup_uploads") + spools(server) == 0)
    assert before == kept(server)


@pytest.mark.parametrize("framing", [f"Content-Length: {4 * MIB}", "Transfer-Encoding: chunked"])
def test_cut_off(server: Server, framing: str) -> None:
    """
    So does one whose connection breaks, in the middle of a chunk too.
    """
    before = kept(server)
    with wire(server) as connection:
        connection.ask("PUT /api/blob", token(server), framing, body=b"100000\r\n" + bytes(1000))
        until(lambda: counter(server, "soup_uploads") == 1)
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    until(lambda: counter(server, "soup_uploads") + spools(server) == 0)
    assert before == kept(server)


def test_shorter_than_announced(server: Server) -> None:
    """
    A body that ends before its length is refused, though it hashes to what was asked for.
    """
    before = kept(server)
    with wire(server) as connection:
        connection.ask(f"PUT /{sha256(b'leek')}", token(server), "Content-Length: 10", body=b"leek")
        until(lambda: counter(server, "soup_uploads") == 1)
        connection.socket.shutdown(socket.SHUT_WR)
        connection.socket.settimeout(10)
        read = connection.socket.recv(65_536)

    assert read == b"" or read.startswith(b"HTTP/1.1 400 ")
    until(lambda: counter(server, "soup_uploads") + spools(server) == 0)
    assert before == kept(server)


def test_longer_than_announced(server: Server) -> None:
    """
    What comes behind a body is the next request, and no part of the blob.
    """
    with wire(server) as connection:
        connection.ask("PUT /api/blob", token(server), "Content-Length: 5", body=b"onion and potato")

        assert 201 == connection.answer().status
        assert 400 == int(connection.head()[0])

    assert sha256(b"onion") in rows(server)
    assert sha256(b"onion and potato") not in rows(server)
    assert b"onion" == server.client.get(f"/{sha256(b'onion')}").content


def test_a_bad_chunk(server: Server) -> None:
    """
    Chunks that are none end the upload, and nothing stays.
    """
    before = kept(server)
    with wire(server) as connection:
        connection.ask("PUT /api/blob", token(server), "Transfer-Encoding: chunked", body=b"4\r\nleek\r\n")
        until(lambda: counter(server, "soup_uploads") == 1)
        connection.send(b"turnip\r\n")
        read = connection.socket.recv(65_536)

    assert read == b"" or read.startswith(b"HTTP/1.1 400 ")
    until(lambda: counter(server, "soup_uploads") + spools(server) == 0)
    assert before == kept(server)


@pytest.mark.parametrize("sent", [0, 100, MIB])
def test_a_client_that_stalls(strict: Server, sent: int) -> None:
    """
    An upload in which nothing comes for a while is answered 408, cut, and forgotten.
    """
    before = kept(strict)
    with wire(strict) as connection:
        connection.ask("PUT /api/blob", token(strict), f"Content-Length: {2 * MIB}", body=bytes(sent))

        assert 408 == connection.answer().status
        assert connection.ended()

    assert before == kept(strict)


def test_a_slow_client(strict: Server) -> None:
    """
    As long as something comes an upload may take its time.
    """
    with wire(strict) as connection:
        connection.ask("PUT /api/blob", token(strict), "Content-Length: 4")
        for letter in b"leek":
            connection.send(bytes([letter]))
            time.sleep(0.2)  # slower than the limit in all, not letter by letter

        assert 201 == connection.answer().status


def test_the_largest(strict: Server) -> None:
    """
    `upload.largest` is the largest that is taken, and one byte more is too large.
    """
    largest = os.urandom(4 * MIB)

    assert 201 == strict.client.put("/api/blob", content=largest, headers=strict.admin).status_code
    before = kept(strict)
    assert 413 == strict.client.put("/api/blob", content=largest + b"x", headers=strict.admin).status_code
    more = iter([largest, b"x"])
    assert 413 == strict.client.put("/api/blob", content=more, headers=strict.admin).status_code
    assert before == kept(strict)
