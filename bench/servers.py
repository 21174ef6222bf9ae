"""Servers that are measured: started on a core of their own, and looked at while they run."""

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench import processes
from bench.machine import SERVER_CORE

# Where soup differs from its defaults. Mirrors are names that nobody has: they report once.
SETTINGS = {
    "SOUP_SERVER__WORKERS": "1",
    "SOUP_CDN__SILENCE_SECONDS": "86400",
    "SOUP_CDN__AUDIT": "off",
    "SOUP_SERVER__DRAIN_SECONDS": "0",  # nothing is asked of it any more when it ends
}
PATIENCE = 30.0  # seconds for a server to start

NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log; {user}
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000000; sendfile on;
  client_body_temp_path {folder}/t; proxy_temp_path {folder}/t; fastcgi_temp_path {folder}/t;
  uwsgi_temp_path {folder}/t; scgi_temp_path {folder}/t;
  server {{
    listen 127.0.0.1:{port};
    {location}
  }}
}}
"""
REDIRECTS = 'location ~ "^/[0-9a-f]{64}$" { return 307 https://mirror-1.example$uri; }'
FILES = (
    "root %s; default_type application/octet-stream;"
    ' location ~ "^/(?<p>[0-9a-f]{3})[0-9a-f]{61}$" { try_files /$p$uri =404; }'
)
REGISTRY = """
version: 0.1
log: {{accesslog: {{disabled: true}}, level: error}}
storage:
  cache: {{blobdescriptor: inmemory}}
  filesystem: {{rootdirectory: {folder}}}
middleware:
  storage:
    - name: redirect
      options: {{baseurl: "https://mirror-1.example/"}}
http: {{addr: "127.0.0.1:{port}"}}
"""


@dataclass
class Server:
    """One that runs. `roots` are the processes whose time is its own, with all below them."""

    name: str
    port: int
    roots: tuple[int, ...]
    token: str = ""
    idle: int = 0  # bytes of anonymous memory of its workers before the first request
    most: int = field(default=0)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def cpu(self) -> float:
        """Seconds of all cores it has used."""
        return processes.cpu(*self.roots)

    def anonymous(self) -> int:
        """Anonymous memory of its largest worker, in bytes."""
        return max(map(processes.anonymous, processes.children(self.roots[0])), default=0)

    def look(self) -> None:
        """Take note of its memory."""
        self.most = max(self.most, self.anonymous())


@contextlib.contextmanager
def nginx(folder: Path, location: str = REDIRECTS, name: str = "nginx") -> Iterator[Server]:
    """One worker of nginx that answers as told, with its files in `folder`."""
    port = free_port()
    (folder / "t").mkdir(parents=True, exist_ok=True)
    user = "" if os.geteuid() else "user root;"
    conf = folder / "nginx.conf"
    conf.write_text(NGINX.format(folder=folder, port=port, user=user, location=location))
    with started(["nginx", "-c", str(conf), "-e", str(folder / "nginx.log")], port) as process:
        yield Server(name, port, (process.pid,))


@contextlib.contextmanager
def registry(folder: Path, root: Path) -> Iterator[Server]:
    """docker-registry that redirects, with its blobs in `root`."""
    port, conf = free_port(), folder / "registry.yml"
    conf.write_text(REGISTRY.format(folder=root, port=port))
    with started(["docker-registry", "serve", str(conf)], port, GOMAXPROCS="1") as process:
        yield Server("docker-registry", port, (process.pid,))


@contextlib.contextmanager
def soup(
    data: Path,
    log: Path,
    name: str = "soup",
    *,
    database: str = "",
    roots: tuple[int, ...] = (),
    module: str = "soup",
    cores: str = SERVER_CORE,
    **more: str,
) -> Iterator[Server]:
    """`python -m soup serve`, ready; `roots` are other processes that work for it, such as its database."""
    port = free_port()
    environment = {
        "SOUP_DATA": str(data),
        "SOUP_DATABASE": database,
        "SOUP_SERVER__PORT": str(port),
        **SETTINGS,
        **more,
    }
    command = [sys.executable, "-m", module, "serve"]
    with started(command, port, cores=cores, log=log, **environment) as process:
        _ready(port, log)
        token = (data / "admin-token").read_text().strip()
        server = Server(name, port, (process.pid, *roots), token)
        time.sleep(1)
        server.idle = server.anonymous()
        yield server


def _ready(port: int, log: Path) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        with contextlib.suppress(OSError, http.client.HTTPException):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5).close()
            return
        time.sleep(0.05)
    sys.exit(f"soup does not start:\n{log.read_text()[-2000:]}")


@contextlib.contextmanager
def started(
    command: list[str],
    port: int,
    *,
    pinned: bool = True,
    cores: str = SERVER_CORE,
    log: Path | None = None,
    wait: bool = True,
    **environment: str,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server for the length of the block, `pinned` to `cores`; `wait` until it listens on its port."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SOUP_")}
    with contextlib.ExitStack() as stack:
        said = stack.enter_context(log.open("ab")) if log is not None else subprocess.DEVNULL
        process = subprocess.Popen(
            ["taskset", "-c", cores, *command] if pinned else command,
            env=inherited | environment,
            stdout=said,
            stderr=said,
        )
        stack.callback(_ended, process)
        if wait:
            _listening(process, command, port, log)
        yield process


def _listening(process: subprocess.Popen[bytes], command: list[str], port: int, log: Path | None) -> None:
    until = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > until:
                said = log.read_text()[-2000:] if log is not None else ""
                sys.exit(f"{' '.join(command[:4])} does not start, {process.poll()}\n{said}")
            time.sleep(0.05)
        else:
            return


def _ended(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(PATIENCE)


def free_port() -> int:
    """A port that nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
