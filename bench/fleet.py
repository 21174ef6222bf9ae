"""`make bench-fleet`: how fast an agent fills a mirror, beside rsync, and what it needs for that.

A soup, an agent and an rsync daemon over the same blobs on this machine, all on the same cores. Rounds are
interleaved and each ratio is taken within a round: a shared machine is never the same for long.
"""

import argparse
import contextlib
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.blobs import file
from bench.servers import free_port, started
from bench.soak import anonymous
from soup.prepare import prepare
from soup.settings import Settings

SMALL = 16 * 1024
MIB, GIB = 1 << 20, 1 << 30
PIECE = 4 * MIB
SETTLED = 20  # seconds after which an agent has nothing left to do

NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log; {user}
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/t; proxy_temp_path {folder}/t; fastcgi_temp_path {folder}/t;
  uwsgi_temp_path {folder}/t; scgi_temp_path {folder}/t;
  server {{
    listen 127.0.0.1:{port};
    location ~ "^/([0-9a-f]{{3}})([0-9a-f]{{61}})$" {{ alias {blobs}/$1/$1$2; }}
  }}
}}
"""


def main() -> None:
    """Print a line a figure."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--blobs", type=int, default=10_000, help="blobs of 16 KiB beside rsync")
    arguments.add_argument("--many", type=int, default=100_000, help="blobs of 16 KiB for the memory")
    arguments.add_argument("--gib", type=float, default=5, help="the large blob")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument(
        "--idle", type=float, default=60, help="seconds to watch an agent that has nothing to do"
    )
    given = arguments.parse_args()
    for name in ("nginx", "rsync", "taskset"):
        if not shutil.which(name):
            sys.exit(f"{name} is missing: tests/setup-system nginx rsync")
    with tempfile.TemporaryDirectory(prefix="soup-bench-") as name:
        beside_rsync(Path(name), given.blobs, given.rounds)
    with tempfile.TemporaryDirectory(prefix="soup-bench-") as name:
        alone(Path(name), "many", given.many, SMALL, given.idle)
    if given.gib:
        with tempfile.TemporaryDirectory(prefix="soup-bench-") as name:
            alone(Path(name), "large", 1, int(given.gib * GIB), 0)


def beside_rsync(folder: Path, blobs: int, rounds: int) -> None:
    """An agent and `rsync --fsync` fill a folder each, in turns."""
    with _soup(_seed(folder, blobs, SMALL)) as core, _rsyncd(folder) as module:
        agents, rsyncs = list[float](), list[float]()
        for round in range(rounds):
            target = folder / f"rsync-{round}"
            began = time.monotonic()
            subprocess.run(["rsync", "-r", "--fsync", "--exclude=.*", module, target], check=True)
            rsyncs.append(time.monotonic() - began)
            shutil.rmtree(target)
            with _agent(folder, core, f"agent-{round}") as agent:
                agents.append(agent.filled(blobs)[0])
            shutil.rmtree(agent.blobs)
    print(f"fill.agent {blobs / statistics.median(agents):.0f}/s")
    print(f"fill.rsync {blobs / statistics.median(rsyncs):.0f}/s")
    ratio = statistics.median(theirs / ours for ours, theirs in zip(agents, rsyncs, strict=True))
    print(f"ratio fill.rsync {ratio:.2f}")


def alone(folder: Path, name: str, blobs: int, size: int, idle: float) -> None:
    """One agent fills a folder, and is then left alone for a while."""
    with _soup(_seed(folder, blobs, size)) as core, _agent(folder, core, name) as agent:
        seconds, peak = agent.filled(blobs)
        print(f"{name}.rate {blobs * size / seconds / MIB:.0f} MiB/s")
        print(f"{name}.memory {peak / MIB:.0f} MiB")
        if idle:
            time.sleep(SETTLED)
            before = agent.cpu()
            time.sleep(idle)
            print(f"{name}.idle {(agent.cpu() - before) / idle:.2%} of a core")


@dataclass
class _Agent:
    process: subprocess.Popen[bytes]
    blobs: Path
    port: int
    began: float

    def filled(self, blobs: int) -> tuple[float, int]:
        """Seconds from its start until everything is here and claimed, and the most memory it had."""
        peak = 0
        while True:
            peak = max(peak, anonymous(self.process.pid))
            with contextlib.suppress(OSError), urllib.request.urlopen(self._status, timeout=5) as answer:  # noqa: S310
                metrics = json.load(answer)["metrics"]
                if metrics["synced_to"] >= blobs:
                    return time.monotonic() - self.began, peak
            if self.process.poll() is not None:
                sys.exit("the agent ended")
            time.sleep(0.05)

    @property
    def _status(self) -> str:
        return f"http://127.0.0.1:{self.port}/status"

    def cpu(self) -> float:
        """Seconds of a core that it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def _agent(folder: Path, core: str, name: str) -> Iterator[_Agent]:
    blobs, port, web = folder / name, free_port(), free_port()
    blobs.mkdir()
    (folder / "t").mkdir(exist_ok=True)
    user = "user root;" if os.geteuid() == 0 else ""
    conf = folder / "nginx.conf"
    conf.write_text(NGINX.format(folder=folder, port=web, blobs=blobs, user=user))
    mirror = _mirror(folder, core, web)
    environment = {
        "SOUP_AGENT_CORE": core,
        "SOUP_AGENT_ID": str(mirror["id"]),
        "SOUP_AGENT_TOKEN": str(mirror["token"]),
        "SOUP_AGENT_BLOBS": str(blobs),
        "SOUP_AGENT_WEB": f"http://127.0.0.1:{web}",
        "SOUP_AGENT_LISTEN": f"127.0.0.1:{port}",
        "SOUP_AGENT_LOG_LEVEL": "error",
    }
    with started(["nginx", "-c", str(conf), "-e", str(folder / "nginx.log")], web, pinned=False):
        began = time.monotonic()
        process = subprocess.Popen([sys.executable, "-m", "soup_cdn_agent"], env=os.environ | environment)
        try:
            yield _Agent(process, blobs, port, began)
        finally:
            process.terminate()
            process.wait(30)


def _mirror(folder: Path, core: str, port: int) -> dict[str, object]:
    token = (folder / "data" / "admin-token").read_text().strip()
    body = json.dumps({"fqdn": "127.0.0.1", "scheme": "http", "port": port}).encode()
    request = urllib.request.Request(f"{core}/api/cdn", body, method="POST")  # noqa: S310 - our own server
    request.add_header("Authorization", f"Bearer {token}")
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        return dict(json.load(answer))


@contextlib.contextmanager
def _soup(settings: dict[str, str]) -> Iterator[str]:
    port = free_port()
    with started(
        [sys.executable, "-m", "soup", "serve"], port, pinned=False, SOUP_SERVER__PORT=str(port), **settings
    ):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def _rsyncd(folder: Path) -> Iterator[str]:
    port, conf = free_port(), folder / "rsyncd.conf"
    owner = f"uid = {os.geteuid()}\ngid = {os.getegid()}\n" if os.geteuid() == 0 else ""
    conf.write_text(f"use chroot = no\n{owner}[blobs]\npath = {folder / 'data' / 'blobs'}\nread only = yes\n")
    command = [
        "rsync",
        "--daemon",
        "--no-detach",
        f"--config={conf}",
        f"--port={port}",
        "--address=127.0.0.1",
    ]
    with started(command, port, pinned=False):
        yield f"rsync://127.0.0.1:{port}/blobs/"


def _seed(folder: Path, blobs: int, size: int) -> dict[str, str]:
    """A data folder with so many blobs of this size, as a soup would have them."""
    settings = {"SOUP_DATA": str(folder / "data"), "SOUP_SCRUB__BYTES_PER_SECOND": "0"}
    prepare(Settings.load(settings))
    store = folder / "data" / "blobs"
    digests = [file(store, size) for _ in range(blobs)]
    os.sync()
    with contextlib.closing(sqlite3.connect(folder / "data" / "soup.db")) as handle:
        _rows(handle, digests, size)
    return settings


def _rows(handle: sqlite3.Connection, digests: Sequence[bytes], size: int) -> None:
    (store,) = handle.execute("select id from store").fetchone()
    moment = "2026-01-01 00:00:00.000000"
    handle.executemany(
        "insert into blob (id, digest, size, state, seq, created_at, touched_at)"
        " values (?, ?, ?, 1, ?, ?, ?)",
        ((place, raw, size, place, moment, moment) for place, raw in enumerate(digests, 1)),
    )
    handle.executemany(
        "insert into placement (blob_id, store_id, state) values (?, ?, 1)",
        ((place, store) for place in range(1, len(digests) + 1)),
    )
    handle.execute("update feed set head = ?", (len(digests),))
    handle.commit()


if __name__ == "__main__":
    main()
