"""What tests start from: soup in this process with time in our hands, or as real processes on a real port."""

import asyncio
import functools
import hashlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from soup.app import Soup, build
from soup.db.migrate import migrate
from soup.db.work import Database
from soup.prepare import prepare
from soup.settings import Settings
from tests.databases import KIND, free_port

pytest.register_assert_rewrite("tests.contract")

# A client of httpx reads all certificate authorities when it is made, for 20 ms, and nobody here speaks TLS.
ssl.create_default_context = functools.cache(ssl.create_default_context)  # type: ignore[assignment]


@dataclass
class Time:
    """Both clocks, which go on only when a test says so."""

    now: datetime = datetime(2026, 1, 1, 12, tzinfo=UTC)
    passed: float = 1000.0

    def utc(self) -> datetime:
        return self.now

    def steady(self) -> float:
        return self.passed

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.passed += seconds


@dataclass
class Kitchen:
    """A soup in this process. `anyone` has no token, `admin` has the administrator's."""

    soup: Soup
    settings: Settings
    anyone: httpx.AsyncClient
    admin: httpx.AsyncClient

    async def keep(self, data: bytes) -> str:
        answer = await self.admin.post("/api/blob", content=data)
        assert answer.status_code in {200, 201}, answer.text
        return str(answer.json()["digest"])

    async def mirror(self, fqdn: str, status: int | None = 1, **terms: Any) -> dict[str, Any]:
        """A mirror that has reported this status; None for one that has not reported."""
        answer = await self.admin.post("/api/cdn", json={"fqdn": fqdn, **terms})
        assert 201 == answer.status_code, answer.text
        mirror = answer.json()
        if status is not None:
            await self.report(mirror, status=status)
        return mirror

    async def report(self, mirror: dict[str, Any], **fields: Any) -> httpx.Response:
        answer = await self.anyone.patch(
            f"/api/cdn/{mirror['id']}", json=fields, headers=bearer(mirror["token"])
        )
        assert 200 == answer.status_code, answer.text
        return answer

    async def listed(self) -> dict[str, dict[str, Any]]:
        """The list of mirrors by fqdn."""
        answer = await self.admin.get("/api/cdn:list")
        assert 200 == answer.status_code, answer.text
        return {mirror["fqdn"]: mirror for mirror in answer.json()}

    def file(self, digest: str) -> Path:
        """Where the store has a blob."""
        return self.settings.blobs_folder / digest[:3] / digest


ROOMS = {"cook", "serve", "server"}  # fixtures that start a soup


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--database", choices=["sqlite", "postgresql"], default="sqlite", help="what rows are in"
    )
    parser.addoption("--long", action="store_true", help="take the time that a full proof takes")


def pytest_configure(config: pytest.Config) -> None:
    KIND.name = config.getoption("database")


def pytest_unconfigure() -> None:
    KIND.stack.close()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Whole systems come first: they take longest, and what begins last is what all wait for in the end.

    On PostgreSQL only what starts a soup is run again, and not what is about SQLite's file.
    """
    items.sort(key=lambda item: "whole" not in item.path.parts)
    if KIND.name == "sqlite":
        return
    again = [
        item
        for item in items
        if (ROOMS & set(getattr(item, "fixturenames", ())) or "whole" in item.path.parts)
        and item.get_closest_marker("sqlite") is None
    ]
    config.hook.pytest_deselected(items=[item for item in items if item not in again])
    items[:] = again


Cook = Callable[..., Any]


@pytest.fixture
def clocks() -> Time:
    return Time()


@pytest.fixture
async def database(tmp_path: Path, clocks: Time) -> AsyncIterator[Database]:
    """An SQLite database of its own, dated by the clock in our hands."""
    url = f"sqlite:///{tmp_path / 'soup.db'}"
    migrate(url)
    database = Database(url, clock=clocks.utc)
    yield database
    await database.close()


@pytest.fixture
async def cook(tmp_path: Path, clocks: Time) -> AsyncIterator[Cook]:
    """Starts a soup in this process with settings given as `section={"key": value}`."""
    over, alive = asyncio.Event(), []

    async def live(soup: Soup, ready: asyncio.Event) -> None:
        async with soup.running():
            ready.set()
            await over.wait()

    async def start(**sections: Any) -> Kitchen:
        given = {"database": KIND.url(tmp_path / "data")} | sections
        settings = Settings.model_validate({"data": tmp_path / "data", **given})
        await asyncio.to_thread(prepare, settings)
        soup = build(settings, clock=clocks.utc, monotonic=clocks.steady, dice=Random(7))
        ready = asyncio.Event()
        task = asyncio.create_task(live(soup, ready))
        alive.append(task)
        await asyncio.wait([task, asyncio.create_task(ready.wait())], return_when=asyncio.FIRST_COMPLETED)
        token = (settings.data / "admin-token").read_text().strip()
        return Kitchen(soup, settings, _client(soup), _client(soup, token))

    yield start
    over.set()
    await asyncio.gather(*alive)


def _client(soup: Soup, token: str | None = None) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app=soup.face),
        base_url="http://soup.example",
        headers=bearer(token) if token else {},
    )


@pytest.fixture
async def kitchen(cook: Cook) -> Kitchen:
    """A soup in this process, as it is without settings."""
    return await cook()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class Server:
    """`soup serve` as its own processes."""

    process: subprocess.Popen[bytes]
    data: Path
    port: int
    log: Path
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = httpx.Client(base_url=self.url, timeout=30)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def token(self) -> str:
        return (self.data / "admin-token").read_text().strip()

    @property
    def admin(self) -> dict[str, str]:
        """Headers with the administrator's token."""
        return bearer(self.token)

    def keep(self, data: bytes) -> str:
        answer = self.client.post("/api/blob", content=data, headers=self.admin)
        assert answer.status_code in {200, 201}, answer.text
        return str(answer.json()["digest"])

    def mirror(self, fqdn: str, status: int | None = 1, **terms: Any) -> dict[str, Any]:
        answer = self.client.post("/api/cdn", json={"fqdn": fqdn, **terms}, headers=self.admin)
        assert 201 == answer.status_code, answer.text
        if status is not None:
            url = f"/api/cdn/{answer.json()['id']}?status={status}"
            assert 200 == self.client.patch(url, headers=bearer(answer.json()["token"])).status_code
        return dict(answer.json())

    def raw(self, request: bytes, seconds: float = 10) -> bytes:
        """What comes back on a connection of our own until soup closes it, or nothing comes for a second."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as connection:
            connection.sendall(request)
            read = b""
            connection.settimeout(1)
            try:
                while piece := connection.recv(65_536):
                    read += piece
            except (TimeoutError, ConnectionResetError):
                pass
            return read

    def workers(self) -> list[int]:
        """The process ids of the workers."""
        text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in text.split()]

    def wait(self, seconds: float = 20) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            assert self.process.poll() is None, self.log.read_text()
            try:
                if 200 == self.client.get("/readyz").status_code:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError(f"soup is not ready:\n{self.log.read_text()}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it; its exit status."""
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(30)


class Servers:
    """Starts `soup serve`, and ends what it has started."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.stack, self.count = folder, ExitStack(), 0

    def __call__(self, data: Path | None = None, *, wait: bool = True, **settings: Any) -> Server:
        """`cdn__redirects=False` is SOUP_CDN__REDIRECTS."""
        self.count += 1
        port = int(settings.pop("server__port", 0)) or free_port()
        data = data or self.folder / f"data-{self.count}"
        log = self.folder / f"soup-{self.count}.log"
        given = {
            "server__port": port,
            "server__workers": 2,
            "server__drain_seconds": 0,
            "data": data,
            "database": KIND.url(data),
        } | settings
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SOUP_")}
        environment |= {f"SOUP_{name.upper()}": str(value) for name, value in given.items()}
        with log.open("wb") as written:
            process = subprocess.Popen(
                [sys.executable, "-m", "soup", "serve"],
                env=environment,
                cwd=self.folder,
                stdout=written,
                stderr=subprocess.STDOUT,
            )
        server = Server(process, data, port, log)
        self.stack.callback(server.stop, signal.SIGTERM)
        if wait:
            server.wait()
        return server


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Servers]:
    """Starts real servers that live as long as one test."""
    servers = Servers(tmp_path)
    with servers.stack:
        yield servers


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One real server with two workers for the tests of a file that leave it as they found it."""
    servers = Servers(tmp_path_factory.mktemp("server"))
    with servers.stack:
        yield servers()


def program(name: str) -> str:
    """Where a program is. A test that cannot have it fails: it never skips."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    assert found, f"{name} is missing: run tests/setup-system"
    return found
