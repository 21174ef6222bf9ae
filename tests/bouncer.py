"""PgBouncer in transaction mode: a few connections to PostgreSQL for many clients."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import program
from tests.databases import Cluster, free_port
from tests.postgres import as_postgres

CONNECTIONS = 4  # to PostgreSQL; far fewer than the clients have
CONFIG = """
[databases]
* = host=127.0.0.1 port={postgres} user=postgres

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {connections}
max_client_conn = 1000
"""


@dataclass
class Bouncer:
    """One in front of a cluster."""

    cluster: Cluster
    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def url(self, name: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def start(self) -> None:
        config = self.folder / "pgbouncer.ini"
        text = CONFIG.format(postgres=self.cluster.port, port=self.port, connections=CONNECTIONS)
        config.write_text(text)
        with (self.folder / "log").open("ab") as log:
            command = [*as_postgres(), program("pgbouncer"), config]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/")
        end = time.monotonic() + 10
        while True:
            assert self.process.poll() is None, (self.folder / "log").read_text()
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                assert time.monotonic() < end, (self.folder / "log").read_text()
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """At once: clients are cut off in the middle of what they do."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(10)
            self.process = None


@contextmanager
def bouncer(cluster: Cluster) -> Iterator[Bouncer]:
    """Start one, and end it."""
    folder = Path(tempfile.mkdtemp(prefix="soup-pgbouncer-"))
    if os.geteuid() == 0:
        os.chown(folder, pwd.getpwnam("postgres").pw_uid, -1)
    found = Bouncer(cluster, folder)
    try:
        found.start()
        yield found
    finally:
        found.stop()
        shutil.rmtree(folder, ignore_errors=True)
