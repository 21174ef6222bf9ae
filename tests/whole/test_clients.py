"""Clients everybody has follow soup to a mirror, and none of them knows soup."""

import hashlib
import http.client
import http.server
import os
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Server, Servers, bearer, program, sha256
from tests.wire import counter, until, web_server

LARGE = bytes(range(256)) * 2000


@dataclass
class Table:
    """A soup, and a plain nginx that has its blobs and is online."""

    server: Server
    digest: str
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"{self.server.url}/{self.digest}"

    def served(self) -> list[str]:
        """The requests that nginx has answered: method, path and status."""
        return [f"{line.split()[5][1:]} {line.split()[8]}" for line in self.log.read_text().splitlines()]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Table]:
    folder = tmp_path_factory.mktemp("table")
    servers = Servers(folder)
    with servers.stack:
        server = servers(cdn__silence_seconds=3600)
        digest = server.keep(LARGE)
        with web_server(folder / "web", server.data / "blobs") as port:
            server.mirror("localhost", scheme="http", port=port)
            until(lambda: {server.client.head(f"/{digest}").status_code for _ in range(9)} == {307})
            yield Table(server, digest, port, folder / "web" / "access.log")


def run(name: str, *arguments: object) -> subprocess.CompletedProcess[bytes]:
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LC_ALL": "C"}
    command = [program(name), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, check=False, timeout=60)


@pytest.mark.row("S1", "S5", "S9")
def test_curl(table: Table) -> None:
    """
    With -L curl gets the bytes from the mirror, and soup sends none.
    """
    before = counter(table.server, "soup_blob_sent_bytes_total")

    ended = run("curl", "-sSL", "-w", "%{stderr}%{num_redirects} %{http_code} %{url_effective}", table.url)

    assert table.digest == hashlib.sha256(ended.stdout).hexdigest()
    assert f"1 200 http://localhost:{table.port}/{table.digest}" == ended.stderr.decode()
    assert before == counter(table.server, "soup_blob_sent_bytes_total")


@pytest.mark.row("S37")
def test_curl_with_a_range(table: Table) -> None:
    """
    The range survives the redirect: 206 and its hundred bytes.
    """
    ended = run("curl", "-sSL", "-r", "0-99", "-w", "%{stderr}%{http_code}", table.url)

    assert (b"206", LARGE[:100]) == (ended.stderr, ended.stdout)


@pytest.mark.row("S9")
def test_curl_resumes(table: Table, tmp_path: Path) -> None:
    """
    A download that broke off goes on where it was.
    """
    (tmp_path / "part").write_bytes(LARGE[:1000])

    ended = run("curl", "-sSL", "-C", "-", "-o", tmp_path / "part", table.url)

    assert 0 == ended.returncode, ended.stderr
    assert LARGE == (tmp_path / "part").read_bytes()


@pytest.mark.row("S9")
def test_wget(table: Table, tmp_path: Path) -> None:
    """
    So does wget as it is.
    """
    ended = run("wget", "-nv", "-O", tmp_path / "got", table.url)

    assert 0 == ended.returncode, ended.stderr
    assert LARGE == (tmp_path / "got").read_bytes()
    assert "GET 200" == table.served()[-1]


@pytest.mark.row("S9")
def test_wget_resumes(table: Table, tmp_path: Path) -> None:
    """
    With -c wget asks the mirror for the rest alone.
    """
    (tmp_path / "got").write_bytes(LARGE[:1000])

    ended = run("wget", "-nv", "-c", "-O", tmp_path / "got", table.url)

    assert 0 == ended.returncode, ended.stderr
    assert LARGE == (tmp_path / "got").read_bytes()
    assert "GET 206" == table.served()[-1]


@pytest.mark.row("S9")
def test_python(table: Table) -> None:
    """
    Python's own client follows.
    """
    with urllib.request.urlopen(table.url, timeout=10) as answer:
        assert LARGE == answer.read()
        assert f"http://localhost:{table.port}/{table.digest}" == answer.url


@pytest.mark.row("S37")
def test_python_with_a_range(table: Table) -> None:
    """
    And takes its range along.
    """
    asked = urllib.request.Request(table.url, headers={"Range": "bytes=-100"})
    with urllib.request.urlopen(asked, timeout=10) as answer:
        assert (206, LARGE[-100:]) == (answer.status, answer.read())


@pytest.mark.row("S9")
def test_aria2(table: Table, tmp_path: Path) -> None:
    """
    So does aria2c, with several connections at once.
    """
    ended = run("aria2c", "-q", "-s4", "-x4", "-k1M", "-d", tmp_path, "-o", "got", table.url)

    assert 0 == ended.returncode, ended.stdout
    assert LARGE == (tmp_path / "got").read_bytes()


def test_aria2_and_a_mirror_that_lies(serve: Servers, tmp_path: Path) -> None:
    """
    The redirect says what the bytes hash to, so aria2c notices a mirror that sends others.
    """
    server = serve()
    digest = server.keep(LARGE)
    wrong = tmp_path / "wrong" / digest[:3] / digest
    wrong.parent.mkdir(parents=True)
    wrong.write_bytes(LARGE[:-1] + b"!")
    with web_server(tmp_path / "web", tmp_path / "wrong") as port:
        server.mirror("localhost", scheme="http", port=port)
        url = f"{server.url}/{digest}"

        ended = run("aria2c", "-q", "-m1", "-d", tmp_path, "-o", "got", url)

    assert 32 == ended.returncode  # "checksum validation failed"


def test_curl_uploads(server: Server, tmp_path: Path) -> None:
    """
    A file goes up with -T, a pipe in chunks, and data as it is; wget and Python can as well.
    """
    (tmp_path / "leek").write_bytes(b"leek")
    bare, url = f"Authorization: Bearer {server.token}", f"{server.url}/api/blob"
    code = ["-sS", "-o", tmp_path / "answer", "-w", "%{http_code}", "-H", bare]

    assert b"201" == run("curl", *code, "-T", tmp_path / "leek", url).stdout
    assert b"200" == run("curl", *code, "--data-binary", f"@{tmp_path / 'leek'}", url).stdout
    assert b"200" == run("curl", *code, "-T", tmp_path / "leek", f"{server.url}/{sha256(b'leek')}").stdout
    assert b"200" == run("curl", *code, "-X", "PUT", "-d", "leek", url).stdout
    assert b"415" == run("curl", *code, "-F", f"file=@{tmp_path / 'leek'}", url).stdout
    assert b"422" == run("curl", *code, "-X", "PUT", "-d", "peas", f"{server.url}/{sha256(b'leek')}").stdout
    posted = run("wget", "-nv", "-O", "-", f"--header={bare}", f"--post-file={tmp_path / 'leek'}", url)
    assert sha256(b"leek").encode() in posted.stdout
    asked = urllib.request.Request(url, b"leek", bearer(server.token), method="PUT")
    with urllib.request.urlopen(asked, timeout=10) as answer:
        assert 200 == answer.status


@pytest.mark.row("S20")
def test_the_core_is_down(serve: Servers, tmp_path: Path) -> None:
    """
    A mirror is a plain web server: who has its link goes on.
    """
    server = serve()
    digest = server.keep(LARGE)
    with web_server(tmp_path / "web", server.data / "blobs") as port:
        server.mirror("localhost", scheme="http", port=port)
        link = server.client.get(f"/{digest}").headers["location"]
        server.stop()

        assert LARGE == run("curl", "-sS", link).stdout


class Prying(http.server.BaseHTTPRequestHandler):
    """A mirror that writes down what it is told."""

    told: list[http.client.HTTPMessage]

    def do_GET(self) -> None:
        self.told.append(self.headers)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def prying() -> Iterator[tuple[int, list[http.client.HTTPMessage]]]:
    handler = type("Handler", (Prying,), {"told": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield listening.server_address[1], handler.told
        listening.shutdown()
        thread.join()


def test_credentials_and_a_mirror_that_is_not_trusted(
    serve: Servers, prying: tuple[int, list[http.client.HTTPMessage]]
) -> None:
    """
    Clients show the mirror what they showed soup, so who shows credentials is sent to trusted ones only.
    """
    port, told = prying
    server = serve()
    digest = server.keep(b"leek")
    server.mirror("localhost", scheme="http", port=port, trusted=False)
    secret = ["-H", "X-Api-Key: turnip"]

    with_secret = run("curl", "-sSL", *secret, f"{server.url}/{digest}")
    without = run("curl", "-sSL", f"{server.url}/{digest}")

    assert (b"leek", b"") == (with_secret.stdout, without.stdout)
    assert [None] == [headers["x-api-key"] for headers in told]


def test_many_on_one_connection(table: Table) -> None:
    """
    A connection carries one request after the other, also when they are sent at once.
    """
    one = f"GET /{table.digest} HTTP/1.1\r\nHost: soup\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", table.server.port), timeout=10) as connection:
        connection.sendall(one * 50 + one.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        read = b""
        while piece := connection.recv(65_536):
            read += piece

    assert 51 == read.count(b"HTTP/1.1 307 Temporary Redirect\r\n")
    assert 51 == read.count(f"location: http://localhost:{table.port}/{table.digest}\r\n".encode())
