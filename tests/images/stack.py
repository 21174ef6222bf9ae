"""compose.yaml run as it stands, under names and ports of its own."""

import json
import os
import shlex
import subprocess
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tests.conftest import program
from tests.databases import free_port

ROOT = Path(__file__).parent.parent.parent
KINDS = ("core", "nginx", "apache")
MIRRORS = KINDS[1:]
OWN = "localhost/soup-test"  # where this run's images are, so that nobody's own are replaced
STAND_INS = "localhost/soup-standin"


def docker(*words: object, given: str | None = None, seconds: float = 60) -> str:
    """What docker prints, `given` this. Fails the test where docker does."""
    command = [program("docker"), *map(str, words)]
    run = subprocess.run(
        command, cwd=ROOT, input=given, capture_output=True, text=True, check=False, timeout=seconds
    )
    assert run.returncode == 0, f"{shlex.join(command)}: {run.stdout}{run.stderr}"
    return run.stdout.strip()


@cache
def composer() -> tuple[str, ...]:
    """Compose 2, or 1.29 where there is no other."""
    v2 = (program("docker"), "compose")
    there = subprocess.run([*v2, "version"], capture_output=True, check=False, timeout=30).returncode == 0
    return v2 if there else (program("docker-compose"),)


def inspected(thing: str) -> dict[str, Any]:
    """All that the engine knows of a container or an image."""
    return dict(json.loads(docker("inspect", thing))[0])


def image(kind: str) -> str:
    return f"{OWN}-{os.getpid()}/{kind}"


def bases() -> dict[str, str]:
    """The images that ours are built on, made here where no registry answers."""
    run = subprocess.run([ROOT / ".ci/stand-ins"], stdout=subprocess.PIPE, text=True, check=True, timeout=400)
    return dict(word.split("=", 1) for word in run.stdout.split()[1:])


def within(seconds: float, true: Callable[[], Any], why: Callable[[], str]) -> Any:
    """What is true in the end; polled."""
    ends = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < ends, f"not within {seconds:g} s: {why()}"
        time.sleep(0.2)
    return found


@dataclass
class Stack:
    """One run of compose.yaml."""

    environment: dict[str, str]
    project: str = field(default_factory=lambda: f"soup-test-{os.getpid()}")
    ports: dict[str, int] = field(default_factory=lambda: {kind: free_port() for kind in (*KINDS, "pull")})
    more: tuple[Path, ...] = ()  # files beside compose.yaml

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['core']}"

    def compose(self, *words: object, seconds: float = 180) -> str:
        """Compose, of whichever version is here."""
        command = [
            *composer(),
            f"--project-name={self.project}",
            *(f"--file={file}" for file in (ROOT / "compose.yaml", *self.more)),
            *map(str, words),
        ]
        ports = {
            "SOUP_PORT": "core",
            "SOUP_NGINX_PORT": "nginx",
            "SOUP_APACHE_PORT": "apache",
            "SOUP_PULL_PORT": "pull",
        }
        images = {"SOUP_IMAGE": "core", "SOUP_NGINX_IMAGE": "nginx", "SOUP_APACHE_IMAGE": "apache"}
        environment = (
            {name: value for name, value in os.environ.items() if not name.startswith("SOUP_")}
            | self.environment
            | {name: str(self.ports[kind]) for name, kind in ports.items()}
            | {name: image(kind) for name, kind in images.items()}
        )
        # A folder of its own: nothing may depend on where it is started, or on a file .env there.
        run = subprocess.run(
            command, cwd="/", env=environment, capture_output=True, text=True, check=False, timeout=seconds
        )
        assert run.returncode == 0, f"{shlex.join(command)}: {run.stdout}{run.stderr}"
        return run.stdout

    def logs(self) -> str:
        return self.compose("ps") + self.compose("logs", "--no-color", "--tail=40")

    def container(self, service: str) -> dict[str, Any]:
        """What the engine knows of a service's container."""
        number = self.compose("ps", "-a", "-q", service).strip()
        assert number, f"{service} has no container"
        return inspected(number)

    def inside(self, service: str, *command: str) -> str:
        return docker("exec", self.container(service)["Id"], *command)

    def healthy(self, *services: str) -> None:
        """Wait until they are."""

        def well() -> bool:
            return all(self.container(one)["State"]["Health"]["Status"] == "healthy" for one in services)

        within(60, well, self.logs)

    @property
    def token(self) -> str:
        """The administrator's."""
        return self.inside("core", "cat", "/data/admin-token")

    def ask(self, path: str, data: bytes | None = None) -> Any:
        """An administrator's request."""
        bearer = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/octet-stream"}
        asked = urllib.request.Request(f"{self.url}{path}", data=data, headers=bearer)
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return json.load(answer)

    def forget(self, digest: str) -> None:
        """Delete a blob."""
        bearer = {"Authorization": f"Bearer {self.token}"}
        asked = urllib.request.Request(f"{self.url}/api/blob/{digest}", method="DELETE", headers=bearer)
        urllib.request.urlopen(asked, timeout=10).close()

    def listed(self) -> dict[str, dict[str, Any]]:
        """The mirrors in the core's list, by kind; {} while it does not answer."""
        try:
            return {mirror["fqdn"].removesuffix(".localhost"): mirror for mirror in self.ask("/api/cdn:list")}
        except (OSError, AssertionError):
            return {}

    def online(self, *kinds: str) -> None:
        """Wait until they are, and have passed an audit: they get what they have."""
        self._each(kinds, lambda mirror: mirror["online"] and mirror["audited_at"] and not mirror["doubt"])

    def chosen(self, *kinds: str) -> None:
        """Wait until clients are sent there, which takes a blob."""
        self._each(kinds, lambda mirror: mirror["why"] is None)

    def _each(self, kinds: Sequence[str], wanted: Callable[[dict[str, Any]], Any]) -> None:
        def all_of_them() -> bool:
            found = self.listed()
            return all(kind in found and wanted(found[kind]) for kind in kinds)

        within(90, all_of_them, lambda: f"{self.listed()}\n{self.logs()}")

    def curl(self, *words: str) -> tuple[str, bytes]:
        """What curl of this machine, which follows redirects, got, and from where in the end."""
        format = "%{stderr}%{url_effective}"
        command = [program("curl"), "-sfL", "--noproxy", "*", "-m", "20", "-w", format, *words]
        run = subprocess.run(command, capture_output=True, check=False, timeout=30)
        assert run.returncode == 0, f"{shlex.join(command)}: {run.returncode} {run.stderr.decode()}"
        return run.stderr.decode(), run.stdout

    def leftovers(self) -> list[str]:
        """What the engine still has of this run, but for images."""
        label = f"label=com.docker.compose.project={self.project}"
        found = docker("ps", "-aq", "--filter", label).split()
        for kind in ("volume", "network"):
            found += docker(kind, "ls", "-q", "--filter", label).split()
        return found
