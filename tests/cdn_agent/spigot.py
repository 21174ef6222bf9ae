"""A core whose bytes come as a test wants, and before it mirrors in mode pull, or the parts of one."""

import json
import shlex
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from soup_cdn_agent.core import Core
from soup_cdn_agent.feed import Holds
from soup_cdn_agent.folder import OWN, Folder, Room
from soup_cdn_agent.index import Index, Wanted
from soup_cdn_agent.known import Known, Threads
from soup_cdn_agent.pace import Pace
from soup_cdn_agent.pull import Pulls
from soup_cdn_agent.shelf import Shelf
from soup_cdn_agent.traffic import Traffic
from soup_cdn_agent.who import Added

from tests import agents
from tests.agents import Agent
from tests.cdn_agent.listening import Quiet, listening
from tests.conftest import program, sha256
from tests.databases import free_port
from tests.mirror_servers import SIGNALS, WebServer, apache_mirror, nginx_mirror

Way = Callable[[BaseHTTPRequestHandler], None]
WEB = {"nginx": nginx_mirror, "apache": apache_mirror}
MIRROR = {"id": 1, "token": "token"}
HELD = 64 << 10  # last bytes of a blob that nobody gets before all of it is right
PIECE = 64 << 10
LINE = '127.0.0.1 - - [22/Nov/2026:00:00:00 +0000] "GET /%s HTTP/1.1" 200 %d "-" "%s"\n'


@dataclass
class Tap:
    """How a blob comes: `stop` bytes until `open`, broken off `breaks` times at `cut`; or other bytes."""

    data: bytes
    stop: int = 1 << 62
    open: threading.Event = field(default_factory=threading.Event)
    cut: int = 1 << 62
    breaks: int = 0
    instead: bytes | None = None


@dataclass
class Spigot:
    """`asked` counts requests for blobs, `ranges` has the Range of each; `statuses` are answered instead."""

    port: int = 0
    taps: dict[str, Tap] = field(default_factory=dict)
    statuses: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    ranges: list[str | None] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)  # what it has deleted, in this order
    has: set[str] | None = None  # what it says it has; None: what it gives
    epoch: str = "e"
    alone: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def keep(self, data: bytes, **how: Any) -> str:
        digest = sha256(data)
        self.taps[digest] = Tap(data, **how)
        return digest

    def said(self, method: str, path: str, body: bytes) -> object:
        """The answers in JSON."""
        if method == "PATCH":
            return {"epoch": self.epoch, "head": 1 + len(self.gone), "interval": 0.5, "now": ""}
        if path.startswith("/api/blob:list"):
            return {"epoch": self.epoch, "head": 1, "blobs": [], "next": None}
        if path.startswith("/api/blob:changes"):
            head = 1 + len(self.gone)
            changes = [{"digest": digest, "state": "gone"} for digest in self.gone]
            return {"epoch": self.epoch, "head": head, "changes": changes, "next": head}
        digests = json.loads(body)["digests"]
        has = self.taps.keys() if self.has is None else self.has
        return {"missing": [digest for digest in digests if digest not in has]}

    def blob(self, asked: BaseHTTPRequestHandler, digest: str) -> None:
        span = asked.headers.get("range")
        with self.alone:
            self.asked[digest] += asked.command == "GET"
            if asked.command == "GET":
                self.ranges.append(span)
        if digest in self.statuses:
            status, headers, body = self.statuses[digest]
            _head(asked, status, {"content-length": str(len(body))} | headers)
            asked.wfile.write(body)
            return
        tap = self.taps[digest]
        data = tap.data if tap.instead is None else tap.instead
        first, stop, headers = 0, len(data), {"etag": f'"{digest}"'}
        if span and asked.command == "GET":
            first = int(span.removeprefix("bytes=").partition("-")[0])
            stop = int(span.partition("-")[2] or len(data) - 1) + 1
            headers["content-range"] = f"bytes {first}-{stop - 1}/{len(data)}"
        _head(asked, 206 if span else 200, headers | {"content-length": str(stop - first)})
        if asked.command == "GET":
            self._pour(asked, tap, memoryview(data), first, stop)

    def _pour(self, asked: BaseHTTPRequestHandler, tap: Tap, data: memoryview, first: int, stop: int) -> None:
        while first < stop:
            end = min(first + PIECE, stop)
            if first < tap.cut <= end and tap.breaks:
                tap.breaks -= 1
                asked.wfile.write(data[first : tap.cut])
                asked.close_connection = True
                return
            if first < tap.stop < end:
                asked.wfile.write(data[first : tap.stop])
                first = tap.stop
            if first >= tap.stop and first == tap.stop:
                asked.wfile.flush()
                tap.open.wait(60)
            asked.wfile.write(data[first:end])
            first = end


def curl(url: str, *words: str) -> tuple[int, bytes]:
    """Exit status and bytes."""
    command = [program("curl"), "-s", "--max-time", "30", *words, url]
    run = subprocess.run(command, capture_output=True, check=False)
    return run.returncode, run.stdout


def _head(asked: BaseHTTPRequestHandler, status: int, headers: dict[str, str]) -> None:
    asked.send_response(status)
    for name, value in headers.items():
        asked.send_header(name, value)
    asked.end_headers()


@contextmanager
def spigot() -> Iterator[Spigot]:
    core = Spigot()

    class Asked(Quiet):
        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            path = self.path.partition("?")[0]
            with suppress(OSError):
                if path.startswith("/api/"):
                    said = json.dumps(core.said(self.command, path, body)).encode()
                    _head(self, 200, {"content-length": str(len(said))})
                    self.wfile.write(said)
                elif path[1:] in core.taps or path[1:] in core.statuses:
                    core.blob(self, path[1:])
                else:
                    core.asked[path[1:]] += 1
                    _head(self, 404, {"content-length": "0"})

        do_GET = do_HEAD = do_PATCH = do_POST = _any  # noqa: N815 - so http.server wants them

    with listening(Asked) as core.port:
        try:
            yield core
        finally:
            for tap in core.taps.values():
                tap.open.set()


@dataclass
class PullMirror:
    """A web server and its agent, in mode pull; `door` is where the agent itself answers."""

    web: WebServer
    agent: Agent
    door: str

    @property
    def url(self) -> str:
        return self.web.url

    def left(self) -> list[str]:
        """Names of files that are no blobs: what was not finished."""
        return [path.name for path in (self.agent.blobs / ".soup-cdn/incoming").iterdir()]


@contextmanager
def pull_mirror(
    folder: Path, core: str, kind: str = "nginx", known: Any = None, *, beside: bool = False, **settings: Any
) -> Iterator[PullMirror]:
    """One that is empty, unless its folder is not; `beside`: its agent runs the web server.

    The agent ends with the block, whatever it is by then.
    """
    blobs, door = folder / "blobs", f"127.0.0.1:{free_port()}"
    blobs.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        web = stack.enter_context(WEB[kind](folder / "web", blobs, pull=door))
        mirror = known(web) if known else MIRROR
        given = {"mode": "pull", "pull_listen": door, "access_log": web.log, **settings}
        if beside:
            web.stop()
            given |= {"beside": shlex.join(map(str, web.command)), **SIGNALS[kind]}
        agent = stack.enter_context(agents.agent(folder, core, mirror, blobs, web.url, **given))
        yield PullMirror(web, agent, door)


class Small(Folder):
    """On a disk of so many bytes. What is removed is free at once, unless it no longer `frees`."""

    def __init__(self, root: Path, disk: int) -> None:
        super().__init__(root, 100)
        self.frees = True
        self._disk, self._used = disk, 0

    def room(self) -> Room:
        files = (path for path in self.root.rglob("*") if path.is_file() and OWN not in path.parts)
        used = sum(path.stat().st_size for path in files)
        self._used = used if self.frees else max(self._used, used)
        return Room(self._disk - self._used, self._disk)


class Parts:
    """A shelf over such a disk, its reserve 100 bytes, and what comes from a core."""

    def __init__(self, folder: Path, core: str, disk: int, keep: float) -> None:
        self.threads, self.known, self.log = Threads(), Known(), folder / "access.log"
        self.log.touch()
        self.folder = Small(folder / "blobs", disk)
        self.folder.open()
        self.index = Index(self.folder.own / "index.db")
        self.traffic = Traffic([self.log], self.index, self.threads, digests=True)
        parts = self.index, self.folder, self.threads, self.known
        self.shelf = Shelf(*parts, self.traffic, keep=keep, again=0.05)
        self.core = Core([core], Added(1, lambda: "token"), ssl.create_default_context())
        self.pulls = Pulls(self.core, *parts, self.shelf, holds=Holds(), most=2, pace=Pace(0))

    def put(self, name: bytes, size: int, ago: float) -> str:
        """A blob that came so many seconds ago."""
        data = name * size
        self.folder.keep([(sha256(data), data, 1)])
        self.index.pulled(Wanted(sha256(data), size, 1, 0), time.time() - ago)
        return sha256(data)

    def spoil(self, digest: str) -> None:
        """Put something in its place that cannot be removed."""
        self.folder.path(digest).unlink()
        self.folder.path(digest).mkdir()

    def serve(self, digest: str, agent: str = "curl") -> None:
        with self.log.open("a") as log:
            log.write(LINE % (digest, 100, agent))

    @property
    def here(self) -> set[str]:
        return {path.name for path in self.folder.root.glob("???/*")}


@asynccontextmanager
async def parts(
    folder: Path, core: str = "http://127.0.0.1:9", *, disk: int = 1000, keep: float = 50
) -> AsyncIterator[Parts]:
    made = Parts(folder, core, disk, keep)
    await made.traffic.count()  # a log begins at its end
    try:
        yield made
    finally:
        await made.pulls.close()
        await made.core.close()
        made.threads.close()
        made.index.close()
        made.folder.close()
