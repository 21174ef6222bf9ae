"""`make bench-quick`: soup's 307/s and 404/s beside nginx's `return 307`/s, and their ratios.

One worker each, on the first core; wrk, with 64 connections that stay open, on the second; the database has a
million blobs. The rounds of the servers are interleaved and each ratio is taken within a round, because a
shared machine is never the same for long: compare ratios, not figures.
"""

import argparse
import contextlib
import os
import platform
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from soup.prepare import prepare
from soup.settings import Settings

SERVER_CORE, LOAD_CORE = "0", "1"
ASKED = 200_000  # digests in the load's file, each way

NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000000;
  client_body_temp_path {folder}/t; proxy_temp_path {folder}/t; fastcgi_temp_path {folder}/t;
  uwsgi_temp_path {folder}/t; scgi_temp_path {folder}/t;
  server {{
    listen 127.0.0.1:{port};
    location ~ "^/[0-9a-f]{{64}}$" {{ return 307 https://mirror-1.example$uri; }}
  }}
}}
"""

LOAD = """
local paths = {{}}
for line in io.lines("{file}") do paths[#paths + 1] = "/" .. line end
local next = 0
request = function()
  next = next % #paths + 1
  return wrk.format(nil, paths[next])
end
"""


def main() -> None:
    """Print a line a figure."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--blobs", type=int, default=1_000_000, help="blobs in the database")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--seconds", type=int, default=3, help="a round of each server")
    given = arguments.parse_args()
    for name in ("nginx", "wrk", "taskset"):
        if not shutil.which(name):
            sys.exit(f"{name} is missing: tests/setup-system nginx wrk")
    print(f"python {platform.python_version()}, {_build()}; {given.blobs} blobs, {given.rounds} rounds")
    with tempfile.TemporaryDirectory(prefix="soup-bench-") as name:
        _run(Path(name), given.blobs, given.rounds, given.seconds)


def _build() -> str:
    flags = sysconfig.get_config_var("CONFIG_ARGS") or ""
    return " and ".join(
        f"{'with' if option in flags else 'without'} {what}"
        for option, what in (("--enable-optimizations", "PGO"), ("--with-lto", "LTO"))
    )


def _run(folder: Path, blobs: int, rounds: int, seconds: int) -> None:
    known, unknown = _database(folder, blobs)
    hits, misses = load(folder / "hits", known), load(folder / "misses", unknown)
    with _nginx(folder) as nginx, _soup(folder) as soup:
        _mirrors(soup, folder)
        targets = {
            "redirect.nginx": (nginx, hits),
            "redirect.sqlite": (soup, hits),
            "miss.sqlite": (soup, misses),
        }
        rates: dict[str, list[float]] = {name: [] for name in targets}
        _wrk(soup, hits, 2)
        for _ in range(rounds):
            for name, (url, script) in targets.items():
                rates[name].append(_wrk(url, script, seconds))
    for name, figures in rates.items():
        print(f"{name} {statistics.median(figures):.0f}/s")
    for name in ("redirect.sqlite", "miss.sqlite"):
        pairs = zip(rates[name], rates["redirect.nginx"], strict=True)
        print(f"ratio {name} {statistics.median(ours / theirs for ours, theirs in pairs):.2f}")


def _settings(folder: Path) -> dict[str, str]:
    return {
        "SOUP_DATA": str(folder / "data"),
        "SOUP_SERVER__WORKERS": "1",
        "SOUP_CDN__SILENCE_SECONDS": "86400",
    }


def _database(folder: Path, blobs: int) -> tuple[list[str], list[str]]:
    settings = Settings.load(_settings(folder))
    prepare(settings)
    known: list[str] = []
    with contextlib.closing(sqlite3.connect(folder / "data" / "soup.db")) as handle:
        handle.execute("pragma synchronous = off")
        for start in range(0, blobs, 50_000):
            raws = [os.urandom(32) for _ in range(min(50_000, blobs - start))]
            rows = ((raw, start + place + 1) for place, raw in enumerate(raws))
            handle.executemany(
                "insert into blob (digest, size, state, seq, created_at, touched_at) "
                "values (?, 4096, 1, ?, '2026-01-01 00:00:00.000000', '2026-01-01 00:00:00.000000')",
                rows,
            )
            known.extend(raw.hex() for raw in raws[: -(-ASKED * len(raws) // blobs)])
        handle.execute("update feed set head = ?", (blobs,))
        handle.commit()
        handle.execute("pragma wal_checkpoint(truncate)")
    return known, [os.urandom(32).hex() for _ in range(ASKED)]


def load(script: Path, digests: list[str]) -> Path:
    """A load for wrk that asks for these in turn."""
    file = script.with_suffix(".txt")
    file.write_text("\n".join(digests))
    script.with_suffix(".lua").write_text(LOAD.format(file=file))
    return script.with_suffix(".lua")


def _mirrors(url: str, folder: Path) -> None:
    token = (folder / "data" / "admin-token").read_text().strip()
    for number in range(1, 4):
        body = f'{{"fqdn": "mirror-{number}.example"}}'.encode()
        for path, method, data in (
            ("/api/cdn", "POST", body),
            (f"/api/cdn/{number}?status=1", "PATCH", None),
        ):
            request = urllib.request.Request(url + path, data, method=method)  # noqa: S310 - our own server
            request.add_header("Authorization", f"Bearer {token}")
            request.add_header("Content-Type", "application/json")
            urllib.request.urlopen(request, timeout=10).close()  # noqa: S310


@contextlib.contextmanager
def _nginx(folder: Path) -> Iterator[str]:
    port = free_port()
    (folder / "t").mkdir()
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port))
    with started(["nginx", "-c", str(folder / "nginx.conf"), "-e", str(folder / "nginx.log")], port):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def _soup(folder: Path) -> Iterator[str]:
    port = free_port()
    with started(
        [sys.executable, "-m", "soup", "serve"], port, SOUP_SERVER__PORT=str(port), **_settings(folder)
    ):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def started(command: list[str], port: int, *, pinned: bool = True, **environment: str) -> Iterator[None]:
    """Run a server that listens on a port for the length of the block; `pinned` to the servers' core."""
    process = subprocess.Popen(
        ["taskset", "-c", SERVER_CORE, *command] if pinned else command,
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > until:
                    sys.exit(f"{command[0]} does not start")
                time.sleep(0.1)
        time.sleep(1)
        yield
    finally:
        process.terminate()
        process.wait(30)


def _wrk(url: str, script: Path, seconds: int) -> float:
    load = ["wrk", "-t1", "-c64", f"-d{seconds}s", "-s", str(script), url]
    printed = subprocess.run(
        ["taskset", "-c", LOAD_CORE, *load], check=True, capture_output=True, text=True
    ).stdout
    return float(next(line.split()[1] for line in printed.splitlines() if line.startswith("Requests/sec")))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
