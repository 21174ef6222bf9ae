"""A PostgreSQL of the bench's own, as it is by default: what is committed is on disk."""

import contextlib
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

from bench.machine import SERVER_CORE
from bench.servers import free_port
from tests.databases import programs


@dataclass(frozen=True, slots=True)
class Postgres:
    """One that runs on the servers' core."""

    port: int
    pid: int

    def url(self, name: str) -> str:
        """Of a database."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def create(self, name: str) -> bool:
        """Whether a database of this name had to be made."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            asked = connection.execute("select 1 from pg_database where datname = %s", [name])
            if asked.fetchone():
                return False
            connection.execute(f'create database "{name}"')
            return True

    def drop(self, name: str) -> None:
        """Forget a database, if there is one."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f'drop database if exists "{name}" with (force)')


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[Postgres]:
    """One with its files in `folder`, which are made if they are not there and left when it ends."""
    user: list[str] = []
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:  # it refuses to run as root
        user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        os.chown(folder, pwd.getpwnam("postgres").pw_uid, -1)
        for above in folder.absolute().parents:
            if not above.stat().st_mode & 0o001:
                sys.exit(f"the user postgres cannot enter {above}: choose another folder")
    if not (folder / "data").exists():
        make: list[str | Path] = [
            *user,
            programs() / "initdb",
            "-D",
            folder / "data",
            "-A",
            "trust",
            "-U",
            "postgres",
        ]
        subprocess.run(make, check=True, capture_output=True, cwd="/")
    port = free_port()
    options = [f"--port={port}", "--listen_addresses=127.0.0.1", f"--unix_socket_directories={folder}"]
    run: list[str | Path] = [
        "taskset",
        "-c",
        SERVER_CORE,
        *user,
        programs() / "postgres",
        "-D",
        folder / "data",
        *options,
    ]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(run, stdout=log, stderr=log, cwd="/")
    try:
        _wait(port, folder / "log")
        yield Postgres(port, process.pid)
    finally:
        process.send_signal(signal.SIGINT)  # on SIGTERM it would wait for its clients to leave
        process.wait(60)


def _wait(port: int, log: Path) -> None:
    until = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(f"postgresql://postgres@127.0.0.1:{port}/postgres", connect_timeout=2).close()
        except psycopg.OperationalError:
            if time.monotonic() > until:
                sys.exit(f"PostgreSQL does not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.1)
        else:
            return
