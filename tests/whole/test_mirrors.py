"""Mirrors of a real soup: two workers, real web servers, forty real seconds.

The forty seconds pass while the other tests of this file run.
"""

import asyncio
import os
import shutil
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Server, Servers, bearer, program, sha256
from tests.databases import free_port
from tests.wire import listens, until, web_server, wire
from tests.workers import each_worker

MODULES = Path("/usr/lib/apache2/modules")


@dataclass
class Silence:
    """A soup whose one mirror reported once, and what each worker has answered since."""

    server: Server
    digest: str
    mirror: dict[str, Any]
    sent: float = 0.0  # the report arrived between these two
    heard: float = 0.0
    seen: list[tuple[float, float, set[int]]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread = field(init=False)

    def watch(self) -> None:
        """Ask both workers for the blob, four times a second."""
        with each_worker(self.server) as workers:
            while time.monotonic() < self.heard + 43 and not self.over.wait(0.25):
                began = time.monotonic()
                codes = {worker.get(f"/{self.digest}").status_code for worker in workers}
                self.seen.append((began, time.monotonic(), codes))

    def listed(self) -> dict[str, Any]:
        (mirror,) = self.server.client.get("/api/cdn:list", headers=self.server.admin).json()
        return dict(mirror)


@pytest.fixture(scope="module", autouse=True)
def silence(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Silence]:
    """Begins with the first test of this file, whichever that is."""
    servers = Servers(tmp_path_factory.mktemp("silence"))
    with servers.stack:
        server = servers()
        digest, mirror = server.keep(b"leek"), server.mirror("a.example", status=None)
        silence = Silence(server, digest, mirror)
        silence.thread = threading.Thread(target=silence.watch)
        silence.sent = time.monotonic()
        report(server.client, mirror, 2)
        silence.heard = time.monotonic()
        silence.thread.start()
        yield silence
        silence.over.set()
        silence.thread.join()


def report(client: httpx.Client, mirror: dict[str, Any], status: int | None = 1) -> None:
    query = "" if status is None else f"?status={status}"
    answer = client.patch(f"/api/cdn/{mirror['id']}{query}", headers=bearer(mirror["token"]))
    assert 200 == answer.status_code, answer.text


@contextmanager
def mirrors(server: Server, *statuses: int | None) -> Iterator[list[dict[str, Any]]]:
    """Mirrors of these statuses, for as long as the test needs them."""
    made = [server.mirror(f"m{number}.example", status) for number, status in enumerate(statuses)]
    try:
        yield made
    finally:
        for mirror in made:
            server.client.delete(f"/api/cdn/{mirror['id']}", headers=server.admin)


def codes(workers: list[httpx.Client], digest: str) -> list[int]:
    return [worker.get(f"/{digest}").status_code for worker in workers]


@pytest.mark.row("S7", "S5")
def test_three_thousand_requests(server: Server) -> None:
    """
    Both workers spread requests evenly over three mirrors online, and send none to the others.
    """
    digest = server.keep(b"leek")
    with mirrors(server, 1, 2, 1, 0, None, 3) as made, each_worker(server) as workers:
        answers = [worker.get(f"/{digest}") for _ in range(1500) for worker in workers]

    assert {307} == {answer.status_code for answer in answers}
    counts = Counter(answer.headers["location"] for answer in answers)
    assert {f"https://{mirror['fqdn']}/{digest}" for mirror in made[:3]} == set(counts)
    assert all(abs(count - 1000) < 4 * 25.8 for count in counts.values()), counts


@pytest.mark.row("S13", "S17")
def test_both_workers_hear_at_once(server: Server) -> None:
    """
    What one worker is told of a mirror decides the very next request to the other.
    """
    digest = server.keep(b"leek")
    with mirrors(server, None) as (mirror,), each_worker(server) as workers:
        found = [codes(workers, digest)]
        for turn in range(10):
            for status in (1, 0):
                report(workers[turn % 2], mirror, status)
                found.append(codes(workers[:: 1 if turn % 3 else -1], digest))

    assert [[200, 200], *[[307, 307], [200, 200]] * 10] == found


@pytest.mark.row("S36")
def test_both_workers_hear_of_changes_at_once(server: Server) -> None:
    """
    A mirror that is drained, given another name or deleted is so on both workers at once.
    """
    digest = server.keep(b"leek")
    one = {"headers": server.admin}
    with mirrors(server, 1) as (mirror,), each_worker(server) as workers:
        path = f"/api/cdn/{mirror['id']}"
        found = [codes(workers, digest)]
        workers[0].patch(path, json={"drained": True}, **one)
        found.append(codes(workers[::-1], digest))
        workers[1].patch(path, json={"drained": False, "fqdn": "new.example"}, **one)
        links = {worker.get(f"/{digest}").headers["location"] for worker in workers}
        workers[0].delete(path, **one)
        found.append(codes(workers[::-1], digest))

    assert [[307, 307], [200, 200], [200, 200]] == found
    assert {f"https://new.example/{digest}"} == links


def test_rotation_on_both_workers(server: Server) -> None:
    """
    The old token works on both workers until the new one is used on one of them, and then on neither.
    """
    with mirrors(server, 1) as (mirror,), each_worker(server) as workers:
        path = f"/api/cdn/{mirror['id']}"
        answer = workers[0].post(f"{path}/token", headers=server.admin)
        old, new = bearer(mirror["token"]), bearer(answer.json()["token"])

        def reported(token: dict[str, str]) -> list[int]:
            return [worker.patch(path, headers=token).status_code for worker in workers]

        before = reported(old)
        first = workers[1].patch(path, headers=new).status_code
        after, now = reported(old), reported(new)
        workers[0].delete(path, headers=server.admin)

        assert ([200, 200], 200, [401, 401], [200, 200]) == (before, first, after, now)
        assert [404, 404] == reported(new)


@pytest.mark.sqlite
@pytest.mark.row("S19")
def test_a_database_that_is_busy_for_eight_seconds(server: Server) -> None:
    """
    A report that is handled eight seconds late is acknowledged, counts from its arrival, and nothing flaps.
    """
    digest = server.keep(b"leek")
    with mirrors(server, 1) as (mirror,), each_worker(server) as workers:
        database = sqlite3.connect(server.data / "soup.db", isolation_level=None, check_same_thread=False)
        database.execute("begin immediate")
        release = threading.Timer(8, database.execute, ["rollback"])
        release.start()
        seen, arrived = set(), datetime.now(UTC)
        with ThreadPoolExecutor() as pool:
            reported = pool.submit(report, server.client, mirror)
            while not reported.done():
                seen |= set(codes(workers, digest))
                time.sleep(0.1)
        release.join()
        database.close()
        shown = server.client.get(f"/api/cdn/{mirror['id']}", headers=server.admin).json()

    assert reported.exception() is None
    assert {307} == seen
    assert abs(datetime.fromisoformat(shown["last_seen"]) - arrived) < timedelta(seconds=2)


@pytest.mark.row("S19")
def test_a_slow_network(server: Server) -> None:
    """
    A report that comes letter by letter is a report.
    """
    with mirrors(server, None) as (mirror,), wire(server) as slow:
        body = b'{"status": 2}'
        token = f"Authorization: Bearer {mirror['token']}"
        length = f"Content-Length: {len(body)}"
        slow.ask(f"PATCH /api/cdn/{mirror['id']}", token, length, "Content-Type: application/json")
        for letter in body:
            time.sleep(0.1)
            slow.send(bytes([letter]))

        assert 200 == slow.answer().status


@pytest.mark.row("S14", "S19")
def test_two_hundred_mirrors_report_at_once(serve: Servers) -> None:
    """
    Each of them is acknowledged, and all are online.
    """
    server = serve()
    made = [server.mirror(f"m{number}.example", status=None) for number in range(200)]
    began = datetime.now(UTC)

    async def all_at_once() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(base_url=server.url, timeout=60, limits=limits) as client:
            asks = (
                client.patch(f"/api/cdn/{mirror['id']}", json={"status": 1}, headers=bearer(mirror["token"]))
                for mirror in made
            )
            return await asyncio.gather(*asks)

    assert [200] * 200 == [answer.status_code for answer in asyncio.run(all_at_once())]
    listed = server.client.get("/api/cdn:list", headers=server.admin).json()
    assert 200 == len(listed)
    assert all(datetime.fromisoformat(m["last_seen"]) >= began - timedelta(seconds=1) for m in listed)
    assert {(1, True, None)} == {(m["status"], m["online"], m["why"]) for m in listed}


def test_what_the_log_says(serve: Servers) -> None:
    """
    No token is ever in the log, not a wrong one either; one worker, and one alone, runs the jobs.
    """
    server = serve(log__level="debug", log__requests=True, log__format="json")
    mirror = server.mirror("a.example")
    path = f"/api/cdn/{mirror['id']}"
    new = server.client.post(f"{path}/token", headers=server.admin).json()["token"]
    wrong = "soup_" + "w" * 43
    for token in (mirror["token"], new, wrong):
        for url in (path, f"{path}?status=9", f"/{'0' * 64}"):
            server.client.request("PATCH" if "api" in url else "GET", url, headers=bearer(token))
    until(lambda: "jobs.here" in server.log.read_text())
    assert 1 == server.log.read_text().count("jobs.here")
    assert 0 == server.stop()

    log = server.log.read_text()
    tokens = [mirror["token"], new, wrong, server.token]
    assert '"path": "/api/cdn/1"' in log
    assert [] == [token for token in tokens if token.removeprefix("soup_") in log]


def copied(server: Server) -> Path:
    """The blobs of a store in a folder that any web server may read: what a sync makes."""
    folder = Path(tempfile.mkdtemp(prefix="soup-mirror-"))
    shutil.copytree(
        server.data / "blobs", folder / "blobs", ignore=shutil.ignore_patterns(".spool", "*.json")
    )
    for place in (folder, *folder.rglob("*")):
        place.chmod(0o755 if place.is_dir() else 0o644)
    return folder


@contextmanager
def apache(folder: Path, blobs: Path) -> Iterator[int]:
    """A plain Apache that serves a folder of blobs. Yields its port."""
    port = free_port()
    folder.mkdir(parents=True)
    modules = "".join(
        f"LoadModule {name}_module {MODULES}/mod_{name}.so\n" for name in ("mpm_event", "authz_core", "alias")
    )
    user = "User nobody\nGroup nogroup\n" if os.getuid() == 0 else ""
    conf = folder / "apache.conf"
    conf.write_text(
        f"ServerRoot {folder}\nDefaultRuntimeDir {folder}\nPidFile {folder}/pid\nServerName localhost\n"
        f"Listen 127.0.0.1:{port}\nErrorLog {folder}/error.log\n{modules}{user}"
        f'AliasMatch "^/([0-9a-f]{{3}})([0-9a-f]{{61}})$" "{blobs}/$1/$1$2"\n'
        f'<Directory "{blobs}">\nRequire all granted\n</Directory>\n'
    )
    process = subprocess.Popen([program("apache2"), "-f", conf, "-D", "FOREGROUND"])
    try:
        until(lambda: process.poll() is not None or listens(port))
        assert process.poll() is None, (folder / "error.log").read_text()
        yield port
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.row("S20")
@pytest.mark.parametrize("kind", [web_server, apache], ids=["nginx", "apache"])
def test_a_plain_web_server(serve: Servers, tmp_path: Path, kind: Any) -> None:
    """
    A web server with a copy of the folder is a mirror, and goes on serving when nobody reports for it.
    """
    server = serve(cdn__silence_seconds=4, jobs__mirrors_sweep_seconds=0.2)
    digest = server.keep(b"leek")
    folder = copied(server)
    try:
        with kind(tmp_path / "mirror", folder / "blobs") as port:
            server.mirror("127.0.0.1", scheme="http", port=port)
            followed = httpx.get(f"{server.url}/{digest}", follow_redirects=True)
            until(lambda: 200 == httpx.get(f"{server.url}/{digest}").status_code)
            direct = httpx.get(f"http://127.0.0.1:{port}/{digest}")
    finally:
        shutil.rmtree(folder)

    assert (307, f"http://127.0.0.1:{port}/{digest}") == (followed.history[0].status_code, str(followed.url))
    assert (200, b"leek", digest) == (followed.status_code, followed.content, sha256(followed.content))
    assert (200, b"leek") == (direct.status_code, direct.content)


@pytest.mark.row("S4", "S15", "S16", "S17")
def test_forty_real_seconds(silence: Silence) -> None:
    """
    For 39 seconds after its one report the mirror gets every request, after 41 none; a sweep makes it 0.
    """
    silence.thread.join()
    online = [codes for _, ended, codes in silence.seen if ended - silence.sent <= 39]
    silent = [codes for began, _, codes in silence.seen if began - silence.heard >= 41]

    assert len(online) > 50
    assert {307} == set().union(*online)
    assert len(silent) > 2
    assert {200} == set().union(*silent)
    until(lambda: 0 == silence.listed()["status"])
    assert silence.listed()["why"].startswith("silent for ")
    with each_worker(silence.server) as workers:
        report(workers[0], silence.mirror, None)
        assert [307, 307] == codes(workers, silence.digest)
    assert 1 == silence.listed()["status"]
