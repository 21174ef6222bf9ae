"""A PostgreSQL that goes away under a soup, and comes back.

It is a PostgreSQL of these tests' own, so they run once, whatever database the others run on.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.conftest import Server, Servers, bearer, sha256
from tests.databases import Cluster, cluster, free_port, programs
from tests.wire import until
from tests.workers import each_worker

PATIENCE = 5.0  # seconds in which everybody is answered, and in which soup is itself again
Answer = tuple[str, int, float, httpx.Headers]


@dataclass
class Postgres:
    """A cluster that can be taken away."""

    cluster: Cluster

    def control(self, *arguments: str) -> None:
        user = (
            ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if not os.geteuid() else []
        )
        command = [*user, programs() / "pg_ctl", *arguments, "-w", "-D", self.cluster.folder / "data"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")

    def stop(self) -> None:
        self.control("stop", "-m", "fast")  # it runs without fsync: what ends it harder loses commits

    def start(self) -> None:
        self.control("restart", "-l", str(self.cluster.folder / "data/log"))

    def processes(self) -> list[int]:
        """The postmaster and all that it has started, itself first."""
        pid = int((self.cluster.folder / "data/postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]

    def freeze(self) -> None:
        for pid in self.processes():
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in self.processes():
            os.kill(pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with cluster(free_port()) as started:
        found = Postgres(started)
        yield found
        if (started.folder / "data/postmaster.pid").exists():
            found.stop()


@pytest.fixture(scope="module")
def there(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A soup on it."""
    servers = Servers(tmp_path_factory.mktemp("gone"))
    with servers.stack:
        yield servers(database=postgres.cluster.fresh())


@contextmanager
def away(leave: Callable[[], None], back: Callable[[], None]) -> Iterator[None]:
    leave()
    try:
        yield
    finally:
        back()


def ask(server: Server, requests: list[tuple[str, str, dict[str, object]]]) -> list[Answer]:
    """Ask all of it at once, each on a connection of its own; what came, and after how long."""

    def one(request: tuple[str, str, dict[str, object]]) -> Answer:
        method, path, more = request
        with httpx.Client(base_url=server.url, timeout=30) as client:
            began = time.monotonic()
            answer = client.request(method, path, **more)
            took = time.monotonic() - began
        return f"{method} {path}", answer.status_code, took, answer.headers

    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(one, requests))


@pytest.mark.parametrize("how", ["stopped", "frozen"])
@pytest.mark.timeout(60)
def test_gone_and_back(postgres: Postgres, there: Server, how: str) -> None:
    """
    While the database is down, or does not answer, whatever needs it is told 503 with Retry-After inside
    five seconds, and nothing is ever called unknown. Five seconds after its return everything is as before.
    """
    leek, new = there.keep(how.encode()), f"new {how}".encode()
    mirror = there.mirror(f"{how}.example", None)
    admin, other = there.admin, bearer("soup_" + "x" * 43)
    needing = [
        ("GET", f"/{sha256(b'never seen')}", {}),
        ("HEAD", f"/{sha256(b'never seen')}", {}),
        ("PUT", f"/{sha256(new)}", {"content": new, "headers": admin}),
        ("POST", "/api/blob", {"content": new, "headers": admin}),
        ("DELETE", f"/api/blob/{leek}", {"headers": admin}),
        ("PATCH", f"/api/blob/{leek}", {"json": {"blocked": True}, "headers": admin}),
        ("GET", f"/api/blob/{leek}", {"headers": admin}),
        ("GET", "/api/blob:list", {"headers": admin}),
        ("GET", "/api/blob:changes", {"headers": admin}),
        ("GET", "/api/blob:changes?after=1000&wait=25", {"headers": admin}),
        ("POST", "/api/blob:missing", {"json": {"digests": [leek]}, "headers": admin}),
        ("POST", "/api/cdn", {"json": {"fqdn": "m2.example"}, "headers": admin}),
        ("PATCH", f"/api/cdn/{mirror['id']}?status=1", {"headers": bearer(mirror["token"])}),
        ("GET", "/api/blob:list", {"headers": other}),
        ("GET", "/readyz", {}),
    ]
    leave, back = {
        "stopped": (postgres.stop, postgres.start),
        "frozen": (postgres.freeze, postgres.thaw),
    }[how]
    with away(leave, back):
        answers = ask(there, needing) + ask(there, [("GET", f"/{sha256(b'%d' % n)}", {}) for n in range(100)])
        alive = there.client.get("/healthz").status_code
        known = there.client.get(f"/{leek}").status_code

    returned = time.monotonic()
    with each_worker(there) as workers:
        until(
            lambda: all(
                200 == worker.get("/readyz").status_code
                and 404 == worker.get(f"/{sha256(b'never seen')}").status_code
                and 200 == worker.get(f"/{leek}").status_code
                for worker in workers
            ),
            20,
        )
        recovered = time.monotonic() - returned
        assert there.client.put(f"/{sha256(new)}", content=new, headers=admin).status_code in {200, 201}

    wrong = [(name, status) for name, status, _, _ in answers if 503 != status]
    slow = [(name, round(took, 1)) for name, _, took, _ in answers if took > PATIENCE]
    unsaid = [name for name, _, _, headers in answers if "retry-after" not in headers]
    assert ([], [], []) == (wrong, slow, unsaid)
    assert 200 == alive
    assert known in {200, 503}
    assert recovered < PATIENCE
    assert "present" == there.client.get(f"/api/blob/{leek}", headers=admin).json()["state"]
