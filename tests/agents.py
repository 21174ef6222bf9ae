"""Agents of mirrors as processes of their own."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.databases import free_port
from tests.wire import until


@dataclass
class Agent:
    """`soup-cdn-agent run` beside a folder."""

    process: subprocess.Popen[bytes]
    blobs: Path
    log: Path
    port: int

    def status(self) -> dict[str, Any]:
        """What `soup-cdn-agent status --json` would say; {} while it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/status", timeout=5) as answer:
                return dict(json.load(answer))
        except OSError:
            return {}

    def metric(self, name: str) -> float:
        return float(self.status()["metrics"][name])

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log's events of a name."""
        lines = (json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{"))
        return [line for line in lines if line["event"] == name]

    def files(self) -> set[str]:
        """The digests in the folder, as the web server may serve them."""
        return {path.name for path in self.blobs.glob("[0-9a-f][0-9a-f][0-9a-f]/*")}

    def has(self, *digests: str) -> bool:
        return set(digests) <= self.files()

    def anonymous(self) -> int:
        """Bytes of memory that are its own and not a file's."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("the kernel does not say")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(15)


def start(folder: Path, core: str, mirror: dict[str, Any], blobs: Path, web: str, **settings: Any) -> Agent:
    """An agent for a mirror as `POST /api/cdn` gave it. `check_seconds=1` is SOUP_AGENT_CHECK_SECONDS."""
    folder.mkdir(parents=True, exist_ok=True)
    port, log = free_port(), folder / "agent.log"
    given = {
        "core": core,
        "id": mirror["id"],
        "token": mirror["token"],
        "blobs": blobs,
        "web": web,
        "listen": f"127.0.0.1:{port}",
        "check_seconds": 1,
        "reserve": 0,
        "log_format": "json",
    } | settings
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SOUP_")}
    environment |= {f"SOUP_AGENT_{name.upper()}": str(value) for name, value in given.items()}
    with log.open("ab") as written:
        process = subprocess.Popen(
            [sys.executable, "-m", "soup_cdn_agent", "run"],
            env=environment,
            cwd=folder,
            stdout=written,
            stderr=subprocess.STDOUT,
        )
    return Agent(process, blobs, log, port)


@contextmanager
def agent(
    folder: Path, core: str, mirror: dict[str, Any], blobs: Path, web: str, **settings: Any
) -> Iterator[Agent]:
    """One that ends with the block. Yielded when it answers."""
    started = start(folder, core, mirror, blobs, web, **settings)
    try:
        until(lambda: started.process.poll() is not None or started.status())
        assert started.process.poll() is None, started.log.read_text()
        yield started
    except BaseException as error:
        error.add_note(started.log.read_text())  # why it failed is often told there
        raise
    finally:
        started.stop()


def said(agent: Agent, *words: str) -> tuple[int, str]:
    """Exit status and output of `soup-cdn-agent status`, as the person at the machine types it."""
    environment = {
        "PATH": os.environ["PATH"],
        "SOUP_AGENT_CORE": "http://x",
        "SOUP_AGENT_ID": "1",
        "SOUP_AGENT_TOKEN": "x",
        "SOUP_AGENT_LISTEN": f"127.0.0.1:{agent.port}",
    }
    command = [sys.executable, "-m", "soup_cdn_agent", "status", *words]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20, check=False)
    return run.returncode, run.stdout + run.stderr
