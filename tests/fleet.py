"""A core, and mirrors with real web servers and real agents, each on an address of its own."""

import ssl
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import httpx

from tests import agents, got
from tests.agents import Agent
from tests.conftest import Server, Servers
from tests.got import Got
from tests.mirror_servers import Certificate, WebServer, apache_mirror, certificate, nginx_mirror
from tests.wire import until

PATIENCE = 30.0  # seconds for what should take one or two, on a machine with other things to do


@dataclass
class Mirror:
    """A mirror: its web server, its agent, its folder, and what the core calls it."""

    core: Server
    web: WebServer
    blobs: Path
    known: dict[str, Any]
    folder: Path
    given: dict[str, Any]
    running: Agent | None = None

    @property
    def id(self) -> int:
        return int(self.known["id"])

    @property
    def url(self) -> str:
        return self.web.url

    @property
    def agent(self) -> Agent:
        assert self.running, "its agent was not started"
        return self.running

    def start(self, **settings: Any) -> None:
        """Start its agent, or start it again."""
        self.running = agents.start(
            self.folder, self.core.url, self.known, self.blobs, self.web.url, **self.given, **settings
        )
        until(self.agent.status, PATIENCE)

    def stop(self) -> None:
        """End its agent, if it has one."""
        if self.running:
            self.running.stop()

    def file(self, digest: str) -> Path:
        """Where a blob is on its disk."""
        return self.blobs / digest[:3] / digest

    def listed(self) -> dict[str, Any]:
        """What the core says of it."""
        answer = self.core.client.get(f"/api/cdn/{self.id}", headers=self.core.admin)
        assert 200 == answer.status_code, answer.text
        return dict(answer.json())

    def well(self, seconds: float = PATIENCE) -> float:
        """Wait until it is chosen, and has all there is; how long that took."""
        return until(lambda: self._well(self.listed()), seconds)

    def _well(self, listed: dict[str, Any]) -> bool:
        head = self.core.client.get("/api/blob:list?limit=1", headers=self.core.admin).json()["head"]
        return bool(
            listed["why"] is None
            and listed["status"] == 1
            and (listed["synced_to"], listed["lacking"]) == (head, 0)
        )


class Fleet:
    """Mirrors of one core. All ends with the block."""

    def __init__(self, core: Server, folder: Path) -> None:
        self.core, self.folder = core, folder
        self.mirrors: list[Mirror] = []
        self.stack = ExitStack()
        self.servers = Servers(folder)
        self.settings: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def restart(self, **settings: Any) -> None:
        """Start the core again, which has ended, with its settings but for these."""
        given = {"server__port": self.core.port, **self.settings, **settings}
        self.core = self.servers(self.core.data, **given)
        for mirror in self.mirrors:
            mirror.core = self.core

    @property
    def authority(self) -> Path:
        """The private authority that signs for mirrors with https."""
        return self.certificate.authority

    @cached_property
    def certificate(self) -> Certificate:
        """For every mirror with https."""
        return certificate(self.folder / "tls")

    def get(self, url: str, **headers: str) -> httpx.Response:
        """Ask anybody, and follow whom they send to."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.get(url, headers=named, verify=self.trusts, follow_redirects=True, timeout=30)

    @cached_property
    def trusts(self) -> ssl.SSLContext:
        """For a client that knows the private authority."""
        return ssl.create_default_context(cafile=self.authority)

    def mirror(
        self,
        kind: str = "nginx",
        *,
        tls: bool = False,
        start: bool = True,
        blobs: Path | None = None,
        terms: dict[str, Any] | None = None,
        **settings: Any,
    ) -> Mirror:
        """One more, on the next loopback address. `settings` are its agent's."""
        place = len(self.mirrors) + 2
        folder = self.folder / f"mirror-{place}"
        blobs = blobs or folder / "blobs"
        blobs.mkdir(parents=True, exist_ok=True)
        made: AbstractContextManager[WebServer] = (nginx_mirror if kind == "nginx" else apache_mirror)(
            folder / "web", blobs, self.certificate if tls else None, f"127.0.0.{place}"
        )
        web = self.stack.enter_context(made)
        known = self.core.mirror(
            web.address, None, scheme="https" if tls else "http", port=web.port, **(terms or {})
        )
        given = {"ca_file": self.authority} if tls else {}
        mirror = Mirror(self.core, web, blobs, known, folder, given | {"access_log": web.log} | settings)
        self.mirrors.append(mirror)
        self.stack.callback(mirror.stop)
        if start:
            mirror.start()
        return mirror

    def well(self, seconds: float = PATIENCE) -> None:
        """Wait until every mirror has everything and is chosen."""
        for mirror in self.mirrors:
            mirror.well(seconds)

    def places(self, digest: str, times: int = 1) -> Counter[str]:
        """Where the core sends requests for a blob: a mirror's origin, or the status where it sends none."""
        found: Counter[str] = Counter()
        for _ in range(times):
            answer = self.core.client.get(f"/{digest}", headers={"range": "bytes=0-0"})
            location = answer.headers.get("location", "")
            found[location.removesuffix(f"/{digest}") or str(answer.status_code)] += 1
        return found

    def curl(self, digest: str, *words: str) -> Got:
        """What curl gets, following the redirect."""
        return got.curl(f"{self.core.url}/{digest}", "--cacert", self.authority, *words)

    def aria2c(self, digest: str, *words: str) -> Got:
        """What aria2c gets, which knows the other mirrors."""
        words = ("--max-tries=5", "--retry-wait=1", "--timeout=10", *words)
        url = f"{self.core.url}/{digest}"
        return got.aria2c(url, self.folder, *words, f"--ca-certificate={self.authority}")


@contextmanager
def fleet_of(folder: Path, data: Path | None = None, **settings: Any) -> Iterator[Fleet]:
    """A fleet without a mirror yet, whose core trusts the private authority and logs JSON."""
    servers = Servers(folder)
    given = {"cdn__ca_file": certificate(folder / "tls").authority, "log__format": "json"} | settings
    with servers.stack, Fleet(servers(data, **given), folder) as fleet:
        fleet.servers, fleet.settings = servers, given
        yield fleet
