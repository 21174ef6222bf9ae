"""Several cores on one database and one folder: what one knows all know (D6, D15).

On PostgreSQL as behind a load balancer, on SQLite as two soups of one machine.
"""

import contextlib
import json
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.command import Ended, refusal, soup
from tests.conftest import Server, Servers, bearer, sha256
from tests.databases import KIND
from tests.wire import Wire, until
from tests.workers import each_worker

SOON = 1.5  # seconds: the promise is one, the rest is for a machine that does something else as well


@dataclass
class Cores:
    """Cores that share what is to be shared, and nothing else."""

    servers: Servers
    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.store = self.folder / "blobs"
        self.database = KIND.url(self.folder) or f"sqlite:///{self.folder / 'soup.db'}"

    def start(self) -> Server:
        return self.servers(database=self.database, store__folder=self.store)

    def command(self, *arguments: str, **environment: str) -> Ended:
        """The `soup` command with their database."""
        data = self.folder / "command"
        return soup(
            *arguments, cwd=self.folder, SOUP_DATA=str(data), SOUP_DATABASE=self.database, **environment
        )


@pytest.fixture(scope="module")
def cores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cores]:
    folder = tmp_path_factory.mktemp("cores")
    servers = Servers(folder)
    with servers.stack:
        yield Cores(servers, folder / "shared")


@pytest.fixture(scope="module")
def a(cores: Cores) -> Server:
    """The core that has made the database, and so has the administrator's token."""
    return cores.start()


@pytest.fixture(scope="module")
def b(cores: Cores, a: Server) -> Server:
    assert a.token
    return cores.start()


@pytest.fixture
def workers(b: Server) -> Iterator[list[httpx.Client]]:
    """Each worker of b."""
    with each_worker(b) as found:
        yield found


def soon(true: Callable[[], bool]) -> None:
    """Wait for it, and see that it stays so."""
    began = time.monotonic()
    until(true, 10)
    took = time.monotonic() - began
    assert took < SOON, f"it took {took:.2f} s"
    assert all(true() for _ in range(5))


def statuses(workers: list[httpx.Client], path: str) -> set[int]:
    return {worker.get(path).status_code for worker in workers}


def known(server: Server, workers: list[httpx.Client], data: bytes) -> str:
    """A blob that every worker of the other core has been asked for."""
    path = f"/{server.keep(data)}"
    for _ in range(3):
        assert {200} == statuses(workers, path)
    return path


def test_only_one_makes_the_token(a: Server, b: Server) -> None:
    """
    The core that makes the database makes the administrator's token, and every core takes it.
    """
    assert not (b.data / "admin-token").exists()
    assert 200 == b.client.get("/api/cdn:list", headers=a.admin).status_code


@pytest.mark.row("S2", "S3")
def test_put_here_get_there(a: Server, b: Server, workers: list[httpx.Client]) -> None:
    """
    What one core has acknowledged another finds at once, also when it said a moment before that it is not
    there.
    """
    for number in range(50):
        data = b"%d" % number
        path = f"/{sha256(data)}"
        assert {404} == statuses(workers, path)
        put = a.client.put(path, content=data, headers=a.admin)
        assert 201 == put.status_code

        answers = [worker.get(path) for worker in workers]

        assert [(200, data)] * 2 == [(answer.status_code, answer.content) for answer in answers]
    assert 200 == b.client.put(path, content=data, headers=a.admin).status_code


def test_delete_here(a: Server, workers: list[httpx.Client]) -> None:
    """
    What is deleted at one core is gone at the others within a second, and back at once when it is uploaded
    again.
    """
    for number in range(4):
        path = known(a, workers, b"deleted %d" % number)
        assert 204 == a.client.delete(f"/api/blob{path}", headers=a.admin).status_code

        soon(lambda path=path: {404} == statuses(workers, path))

        a.keep(b"deleted %d" % number)
        assert {200} == statuses(workers, path)


def test_block_here(a: Server, b: Server, workers: list[httpx.Client]) -> None:
    """
    What is blocked at one core is refused by the others within a second; and unblocked likewise.
    """
    for number in range(3):
        path = known(a, workers, b"blocked %d" % number)
        for blocked, status in ((True, 410), (False, 200)):
            answer = a.client.patch(f"/api/blob{path}", json={"blocked": blocked}, headers=a.admin)
            assert 200 == answer.status_code

            soon(lambda path=path, status=status: {status} == statuses(workers, path))
            put = b.client.put(path, content=b"blocked %d" % number, headers=a.admin)
            assert status == put.status_code


@pytest.mark.row("S5", "S13", "S17")
def test_report_here(a: Server, workers: list[httpx.Client]) -> None:
    """
    A mirror that reports to one core gets the others' requests within a second, and none within a second of
    saying that it leaves.
    """
    path = known(a, workers, b"mirrored")
    mirror = a.mirror("m1.example", None)
    url, token = f"/api/cdn/{mirror['id']}", bearer(mirror["token"])
    try:
        for status, code in ((1, 307), (0, 200), (2, 307)):
            answer = a.client.patch(url, json={"status": status}, headers=token)
            assert 200 == answer.status_code

            soon(lambda code=code: {code} == statuses(workers, path))
        places = {worker.get(path).headers["location"] for worker in workers}
        assert {f"https://m1.example{path}"} == places
    finally:
        assert a.client.delete(url, headers=a.admin).is_success
    soon(lambda: {200} == statuses(workers, path))


def test_token_revoked(cores: Cores, workers: list[httpx.Client]) -> None:
    """
    A token that was made elsewhere works at once, and stops within a second of being revoked.
    """
    made = cores.command("token", "new", "read")
    assert 0 == made.returncode, made.stderr
    token = bearer(made.stdout.split()[-1])

    def codes() -> set[int]:
        return {worker.get("/api/blob:list", headers=token).status_code for worker in workers}

    assert {200} == codes()
    id = cores.command("token", "ls").stdout.splitlines()[-1].split()[0]

    ended = cores.command("token", "revoke", id)

    assert 0 == ended.returncode, ended.stderr
    soon(lambda: {401} == codes())


def test_a_token_of_a_newer_release(cores: Cores, workers: list[httpx.Client]) -> None:
    """
    Of what it may this release knows nothing: it may nothing, and all others go on as before.
    """
    digits = "ab" * 32
    hash = f"x'{digits}'" if KIND.name == "sqlite" else f"'\\x{digits}'"
    row = f"values ('peer', {hash}, '2026-01-01 12:00:00') returning id"
    KIND.ask(cores.folder, f"insert into token (kind, hash, created_at) {row}")

    test_token_revoked(cores, workers)

    KIND.ask(cores.folder, "delete from token where kind = 'peer' returning id")


def test_the_same_at_both(a: Server, b: Server) -> None:
    """
    Of those who upload the same blob at the same moment to different cores exactly one is told that it is
    new, and everybody is told that it is kept.
    """
    together = threading.Barrier(8)

    def put(server: Server, number: int) -> int:
        data = b"same %d" % number
        with httpx.Client(base_url=server.url, headers=a.admin, timeout=30) as client:
            client.get("/healthz")
            together.wait(30)
            return client.put(f"/{sha256(data)}", content=data).status_code

    with ThreadPoolExecutor(8) as pool:
        for number in range(10):
            codes = list(pool.map(put, [a, b] * 4, [number] * 8))

            assert [200] * 7 + [201] == sorted(codes)


def test_a_third_starts_during_an_upload(cores: Cores, a: Server, b: Server) -> None:
    """
    A core that starts, and one that stops, leave the others' uploads alone, though they share a folder.
    """
    data = os.urandom(200_000)
    with Wire(a.port, 30) as upload:
        head = f"PUT /{sha256(data)} HTTP/1.1\r\nHost: soup\r\nContent-Length: {len(data)}\r\n"
        upload.send(f"{head}Authorization: Bearer {a.token}\r\n\r\n".encode() + data[:100_000])

        third = cores.start()
        assert 200 == third.client.get("/readyz").status_code
        assert 0 == third.stop()

        upload.send(data[100_000:])
        assert 201 == upload.answer().status
    assert data == b.client.get(f"/{sha256(data)}").content


def test_an_empty_folder(cores: Cores, a: Server, tmp_path: Path) -> None:
    """
    A core whose folder is empty refuses to start, says which store it wants, and leaves the folder empty: a
    disk that is not mounted is no new store.
    """
    ours = json.loads((cores.store / "soup-store.json").read_text())["uuid"]
    path = f"/{a.keep(b'leek')}"

    said = refusal(cores.command("serve", SOUP_STORE__FOLDER=str(tmp_path)))

    assert f"the database belongs to store {ours}" in said
    assert str(tmp_path) in said
    assert [] == list(tmp_path.iterdir())
    assert b"leek" == a.client.get(path).content


def test_a_foreign_folder(cores: Cores, a: Server, tmp_path: Path) -> None:
    """
    A core whose folder is another soup's refuses to start, and says which store it found and which it wants.
    """
    assert 200 == a.client.get("/readyz").status_code
    ours = json.loads((cores.store / "soup-store.json").read_text())["uuid"]
    theirs = str(uuid.uuid4())
    (tmp_path / "soup-store.json").write_text(json.dumps({"uuid": theirs, "layout": 1}))

    said = refusal(cores.command("serve", SOUP_STORE__FOLDER=str(tmp_path)))

    assert f"the database belongs to store {ours}" in said
    assert f"is store {theirs}" in said
    assert ["soup-store.json"] == [file.name for file in tmp_path.iterdir()]


@dataclass
class Load:
    """A client of one core, which puts blobs and reads what anybody has put."""

    server: Server
    admin: dict[str, str]
    shared: list[str]
    over: threading.Event
    wrong: list[str]
    done: int = 0

    def run(self, name: str) -> None:
        with httpx.Client(base_url=self.server.url, headers=self.admin, timeout=30) as client:
            while not self.over.is_set():
                data = f"{name} {self.done}".encode()
                put = client.post("/api/blob", content=data)
                if 201 != put.status_code:
                    self.wrong.append(f"{put.status_code} {put.text}")
                    continue
                self.shared.append(sha256(data))
                got = client.get(f"/{self.shared[-1 - self.done % 5 % len(self.shared)]}")
                if 200 != got.status_code:
                    self.wrong.append(f"{got.status_code} {got.text}")
                self.done += 1


def kill(server: Server) -> None:
    """All its processes at once, as when the machine is gone."""
    for pid in (server.process.pid, *server.workers()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    server.process.wait(10)


def test_one_is_killed_under_load(serve: Servers, tmp_path: Path) -> None:
    """
    When a core dies in the middle of everything the other answers every request, at once, and has every blob
    that the dead one had acknowledged.
    """
    cores = Cores(serve, tmp_path / "shared")
    a, b = cores.start(), cores.start()
    over, shared, wrong, dying = threading.Event(), list[str](), list[str](), list[str]()
    dead = [Load(a, a.admin, shared, over, dying) for _ in range(3)]
    living = [Load(b, a.admin, shared, over, wrong) for _ in range(3)]
    with ThreadPoolExecutor(6) as pool:
        ending = [pool.submit(load.run, f"a{number}") for number, load in enumerate(dead)]
        going = [pool.submit(load.run, f"b{number}") for number, load in enumerate(living)]
        try:
            until(lambda: all(load.done > 20 for load in (*dead, *living)), 20)
            kill(a)
            before = [load.done for load in living]
            until(lambda: all(now.done > was + 50 for now, was in zip(living, before, strict=True)), 20)
        finally:
            over.set()
        assert all(isinstance(one.exception(30), httpx.TransportError) for one in ending)
        assert [None] * 3 == [one.exception(30) for one in going]

    assert [] == wrong
    assert [] == dying
    got = {b.client.get(f"/{digest}").status_code for digest in shared}
    assert {200} == got
    listed = b.client.get("/api/blob:list?limit=10000", headers=a.admin).json()["blobs"]
    assert set(shared) <= {one["digest"] for one in listed}
