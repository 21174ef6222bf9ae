"""Other mirrors that a redirect names: a client goes on when the first is dead; the answer stays small."""

from pathlib import Path

import pytest

from tests.conftest import Servers
from tests.databases import free_port
from tests.whole.test_clients import LARGE, run
from tests.wire import counter, web_server


def test_aria2_and_a_mirror_that_is_dead(serve: Servers, tmp_path: Path) -> None:
    """
    Sent to a port where nobody listens, aria2c asks the other mirror that soup has named.
    """
    server = serve()
    digest = server.keep(LARGE)
    with web_server(tmp_path / "web", server.data / "blobs") as port:
        server.mirror("127.0.0.1", scheme="http", port=free_port(), weight=1000)
        server.mirror("localhost", scheme="http", port=port)
        url = f"{server.url}/{digest}"

        ended = run("aria2c", "-q", "-d", tmp_path, "-o", "got", "-l", tmp_path / "log", url)

    assert 0 == ended.returncode, ended.stdout
    assert LARGE == (tmp_path / "got").read_bytes()
    assert "GET /" in (tmp_path / "web" / "access.log").read_text()
    assert b"Connection refused" in (tmp_path / "log").read_bytes()
    assert 0 == counter(server, "soup_blob_sent_bytes_total")


@pytest.mark.row("S1")
def test_a_redirect_is_small(serve: Servers) -> None:
    """
    With names of 60 characters and two other mirrors named, the whole answer is under 1 kB.
    """
    server = serve()
    digest = server.keep(LARGE)
    for name in "abc":
        server.mirror(f"{name * 50}.".ljust(60, "x"))

    answer = server.raw(f"GET /{digest} HTTP/1.1\r\nHost: soup\r\nConnection: close\r\n\r\n".encode())

    assert answer.startswith(b"HTTP/1.1 307 ")
    assert 3 == answer.count(b"xxxxx/" + digest.encode())
    assert len(answer) < 1000
