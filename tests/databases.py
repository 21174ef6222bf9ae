"""A PostgreSQL of our own, and a fresh database in either kind for whoever asks."""

import itertools
import os
import pwd
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg

from soup.db.migrate import migrate

# Nothing here has to survive a power cut; what has to is traced on SQLite.
SPEED = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=300")


class Cluster:
    """A PostgreSQL server on a socket in a folder of its own."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        self._count = itertools.count(1)
        self._template = False

    def url(self, name: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def fresh(self) -> str:
        """The URL of a database that soup has prepared the tables of, and nobody has used."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            if not self._template:
                connection.execute("create database template_soup")
                migrate(self.url("template_soup"))
                self._template = True
            name = f"soup_{next(self._count)}"
            connection.execute(f"create database {name} template template_soup")
        return self.url(name)

    def drop(self, url: str) -> None:
        """A database is done with."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"drop database if exists {url.rsplit('/', 1)[1]} with (force)")


def programs() -> Path:
    """Where PostgreSQL's own programs are: Debian keeps them out of the PATH."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    assert folders, "PostgreSQL is missing: run tests/setup-system"
    return folders[-1]


@contextmanager
def cluster(port: int) -> Iterator[Cluster]:
    """Start one, and end it."""
    folder = Path(tempfile.mkdtemp(prefix="soup-pg-"))
    user: list[str] = []
    if os.geteuid() == 0:  # it refuses to run as root
        os.chown(folder, pwd.getpwnam("postgres").pw_uid, -1)
        user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    make = [*user, programs() / "initdb", "-D", folder / "data", "-A", "trust", "-U", "postgres", "-N"]
    subprocess.run(make, check=True, capture_output=True, cwd="/")
    options = [f"port={port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={folder}", *SPEED]
    run = [*user, programs() / "postgres", "-D", folder / "data", *(f"--{option}" for option in options)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(run, stdout=log, stderr=log, cwd="/")
    try:
        started = Cluster(folder, port)
        _wait(started, folder / "log")
        yield started
    finally:
        process.send_signal(signal.SIGINT)  # on SIGTERM it would wait for its clients to leave
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def _wait(started: Cluster, log: Path) -> None:
    until = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(started.url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.1)
        else:
            return


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Kind:
    """Which database the tests run on: `pytest --database postgresql` is the other one."""

    def __init__(self) -> None:
        self.name = "sqlite"
        self.stack = ExitStack()
        self.cluster: Cluster | None = None
        self.urls: dict[Path, str] = {}

    def url(self, data: Path) -> str:
        """The database of a data folder: empty for the file in it, the same each time for PostgreSQL."""
        if self.name == "sqlite":
            return ""
        if self.cluster is None:
            self.cluster = self.stack.enter_context(cluster(free_port()))
        if data not in self.urls:
            self.urls[data] = self.cluster.fresh()
        return self.urls[data]

    def ask(self, data: Path, statement: str) -> list[tuple[Any, ...]]:
        """What is in the database of a data folder, asked behind soup's back."""
        if self.name == "sqlite":
            with closing(sqlite3.connect(data / "soup.db")) as handle, handle:
                return handle.execute(statement).fetchall()
        with psycopg.connect(self.url(data)) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []


KIND = Kind()
