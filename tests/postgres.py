"""A PostgreSQL that can be taken away, and what its clients hear meanwhile."""

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
import psycopg

from tests.conftest import Server
from tests.databases import Cluster, cluster, free_port, programs

PATIENCE = 5.0  # seconds in which everybody is answered, and in which soup is itself again
Answer = tuple[str, int, float, httpx.Headers]


def as_postgres() -> list[str]:
    """What to put before a command that refuses to run as root."""
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if not os.geteuid() else []


@dataclass
class Postgres:
    """A cluster that can be taken away."""

    cluster: Cluster

    def control(self, *arguments: str) -> None:
        command = [
            *as_postgres(),
            programs() / "pg_ctl",
            *arguments,
            "-w",
            "-D",
            self.cluster.folder / "data",
        ]
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

    def ask(self, statement: str, database: str = "postgres") -> list[tuple]:
        """Whatever the server says to its administrator."""
        with psycopg.connect(self.cluster.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def configure(self, name: str, value: str) -> None:
        """A setting of the server that needs no restart."""
        self.ask(f"alter system set {name} = {value}")
        self.ask("select pg_reload_conf()")


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Start one, and end it."""
    with cluster(free_port()) as started:
        found = Postgres(started)
        yield found
        if (started.folder / "data/postmaster.pid").exists():
            found.stop()


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
