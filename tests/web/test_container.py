"""The Apache of the image, as it is configured there."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import program
from tests.databases import free_port
from tests.mirror_servers import ROOT, WebServer, adapted
from tests.web.asking import LARGE, D, ask, keep

pytestmark = pytest.mark.sqlite  # rows have no part in it


@pytest.fixture
def apache(tmp_path: Path) -> Iterator[WebServer]:
    """With a tenth of the time that it gives a client for its request."""
    keep(tmp_path / "blobs", LARGE)
    (tmp_path / "ok").write_text("ok\n")
    port = free_port()
    image = {"/data/blobs": f"{tmp_path}/blobs", "/srv/healthz": str(tmp_path)}
    (tmp_path / "soup-mirror.inc").write_text(adapted(ROOT / "apache/soup-mirror.inc", image))
    (tmp_path / "mirror.conf").write_text(adapted(ROOT / "apache/mirror.conf", {"*:80": f"127.0.0.1:{port}"}))
    changes = {
        "/tmp/apache": str(tmp_path),  # noqa: S108
        "/tmp/log": str(tmp_path),  # noqa: S108
        "/dev/stderr": f"{tmp_path}/error.log",
        "${MIRROR_PORT}": f"127.0.0.1:{port}",
        "handshake=20 header=20-40,": "handshake=2 header=2-4,",
    }
    (tmp_path / "container.conf").write_text(adapted(ROOT / "apache/container.conf", changes))
    command = [program("apache2"), "-f", tmp_path / "container.conf", "-D", "FOREGROUND"]
    if os.geteuid() == 0:  # which Apache refuses to be; pytest's folders are root's own
        all_files = ("--inh-caps=+dac_override", "--ambient-caps=+dac_override")
        command[:0] = [program("setpriv"), "--reuid=nobody", "--regid=nogroup", "--clear-groups", *all_files]
    server = WebServer("apache", command, tmp_path, "127.0.0.1", port)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def test_who_never_ends_a_request_is_sent_away(apache: WebServer) -> None:
    """
    However many begin one and wait, or say a letter now and then, their places are free again.
    """
    began = time.monotonic()
    with (
        socket.create_connection((apache.address, apache.port)) as waiting,
        socket.create_connection((apache.address, apache.port)) as dripping,
    ):
        waiting.sendall(b"GET / HTTP/1.1\r\n")
        dripping.sendall(b"GET / HTTP/1.1\r\nx: ")
        waiting.settimeout(10)
        dripping.settimeout(0.1)
        while (told := said(dripping)) is None:
            assert time.monotonic() - began < 10
            dripping.sendall(b"x")

        assert told.startswith(b"HTTP/1.1 408 ")
        assert waiting.recv(100).startswith(b"HTTP/1.1 408 ")
    assert (200, b"ok\n") == ((health := ask(apache, "/healthz")).status, health.body)


def said(client: socket.socket) -> bytes | None:
    try:
        return client.recv(100)
    except TimeoutError:
        return None


def test_the_image_serves_blobs(apache: WebServer) -> None:
    """
    With as few modules as it has.
    """
    answer = ask(apache, f"/{D}")

    assert (200, LARGE) == (answer.status, answer.body)
