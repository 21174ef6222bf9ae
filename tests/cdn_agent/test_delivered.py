"""What real web servers write into their access logs, read by the agent, while logrotate turns them over."""

import http.client
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from soup_cdn_agent.accesslog import AccessLog, Place

from tests.conftest import program, sha256
from tests.mirror_servers import ROOT, WebServer, apache_mirror, certificate, nginx_mirror
from tests.wire import MIB, until

LEEK = b"leek" * 1000
D, HUGE = sha256(LEEK), "f" * 64
SIZE = 400 * MIB


@pytest.fixture(params=[nginx_mirror, apache_mirror], ids=["nginx", "apache"])
def mirror(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[WebServer]:
    """A mirror with a blob of 4000 bytes, and one of 400 MiB that takes no room."""
    for digest in (D, HUGE):
        (tmp_path / "blobs" / digest[:3]).mkdir(parents=True)
    (tmp_path / "blobs" / D[:3] / D).write_bytes(LEEK)
    with (tmp_path / "blobs" / HUGE[:3] / HUGE).open("wb") as file:
        file.truncate(SIZE)
    with request.param(tmp_path / "web", tmp_path / "blobs", certificate(tmp_path / "authority")) as server:
        yield server


class Reader:
    """The agent's eye on the log: totals that grow."""

    def __init__(self, log: Path) -> None:
        self._log = AccessLog([log])
        self.place, self.requests, self.size = Place(), 0, 0
        self.read()

    def read(self) -> tuple[int, int]:
        self.place, requests, size = self._log.read(self.place)
        self.requests += requests
        self.size += size
        return self.requests, self.size


def ask(mirror: WebServer, method: str, path: str, **headers: str) -> int:
    client = http.client.HTTPConnection(mirror.address, mirror.plain_port, timeout=20)
    client.request(method, path, headers={"Connection": "close"} | headers)
    with client.getresponse() as answer:
        return len(answer.read())


def test_what_a_web_server_says_of_its_answers(mirror: WebServer) -> None:
    """
    Bodies of blobs count, to the byte; headers, refusals, conditions and health do not.
    """
    reader = Reader(mirror.log)
    sent = [ask(mirror, "GET", f"/{D}"), ask(mirror, "GET", f"/{D}?download=x", Range="bytes=10-109")]
    for method, path, headers in [
        ("HEAD", f"/{D}", {}),
        ("GET", f"/{D}", {"If-None-Match": f'"{D}"'}),
        ("GET", f"/{D}", {"Range": "bytes=9999-"}),
        ("GET", f"/{'0' * 64}", {}),
        ("POST", f"/{D}", {}),
        ("OPTIONS", f"/{D}", {}),
        ("GET", "/healthz", {}),
        ("GET", f"/{D[:3]}/{D}", {}),
    ]:
        ask(mirror, method, path, **headers)
    sent.append(ask(mirror, "GET", f"/{D}"))

    assert [4000, 100, 4000] == sent
    until(lambda: reader.read()[0] >= 3)
    assert (3, 8100) == reader.read()


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_a_client_that_leaves(mirror: WebServer, tls: bool) -> None:  # noqa: FBT001
    """
    What it was sent counts, with what was on its way, not the hundreds of megabytes it had asked for.
    """
    reader = Reader(mirror.log)
    url = f"https://{mirror.address}:{mirror.tls_port}" if tls else mirror.plain
    command = [program("curl"), "-sSk", "--limit-rate", "1M", f"{url}/{HUGE}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as curl:
        assert curl.stdout is not None
        assert MIB == len(curl.stdout.read(MIB))
        curl.kill()

    until(lambda: reader.read()[0] == 1, 30)
    assert MIB <= reader.size < SIZE / 4


def test_rotated_under_load(mirror: WebServer, tmp_path: Path) -> None:
    """
    Four clients ask all the time while logrotate, with soup's file, rotates three times: no answer is lost or
    counted twice.
    """
    reader, done = Reader(mirror.log), threading.Event()
    got: list[int] = []
    clients = [threading.Thread(target=keep_asking, args=(mirror, done, got)) for _ in range(4)]
    for client in clients:
        client.start()
    try:
        for _ in range(3):
            until(growing(reader), 30)
            rotate(mirror, tmp_path)
            until(
                lambda: nobody_writes(mirror, "access.log.1") and reader.read() and mirror.log.stat().st_size
            )
            reader.read()
    finally:
        done.set()
        for client in clients:
            client.join()

    assert {len(LEEK)} == set(got)
    until(lambda: reader.read()[0] >= len(got))
    assert (len(got), len(got) * len(LEEK)) == reader.read()
    assert mirror.log.with_name("access.log.3.gz").exists()


def keep_asking(mirror: WebServer, done: threading.Event, got: list[int]) -> None:
    while not done.is_set():
        got.append(ask(mirror, "GET", f"/{D}"))
        done.wait(0.002)


def growing(reader: Reader) -> object:
    """Whether there are 50 answers more than now."""
    before = reader.requests
    return lambda: reader.read()[0] > before + 50


def rotate(mirror: WebServer, tmp_path: Path) -> None:
    """Run logrotate with the shipped file, but for the log, the pid, and users that may not be here."""
    shipped = {"nginx": "nginx/soup-mirror.logrotate", "apache": "apache/soup-mirror.logrotate"}[mirror.kind]
    text = (ROOT / shipped).read_text()
    text = re.sub(r"/var/log/\w+/\*\.log", str(mirror.log), text)
    text = re.sub(r"/run/[\w/]+\.pid", f"{mirror.folder}/pid", text)
    text = re.sub(r"create 0640 \S+ adm", "create 0640", text)
    assert not re.search(r"(?m)^[^#]*/(var|run)/", text)
    conf = tmp_path / "logrotate.conf"
    conf.write_text(text)
    conf.chmod(0o644)
    command = [program("logrotate"), "-s", tmp_path / "logrotate.state", "--force", conf]
    subprocess.run(command, check=True, timeout=30)


def nobody_writes(mirror: WebServer, name: str) -> bool:
    """Whether no process of the server has this log open any more."""
    log = str(mirror.log.with_name(name))
    try:
        return not any(
            str(handle.readlink()) == log
            for process in Path("/proc").glob("[0-9]*")
            if os.getpgid(int(process.name)) == mirror.process.pid
            for handle in (process / "fd").iterdir()
        )
    except OSError:  # one ended while we looked, or closed a file
        return False
