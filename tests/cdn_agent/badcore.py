"""A core that answers whatever a test wants, and an agent's parts in this process."""

import asyncio
import json
import socketserver
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from soup_cdn_agent.core import Core
from soup_cdn_agent.feed import Feed, Holds
from soup_cdn_agent.fetch import Fetch
from soup_cdn_agent.folder import Folder
from soup_cdn_agent.index import Index, Wanted
from soup_cdn_agent.known import Known, Threads
from soup_cdn_agent.scan import Scan
from soup_cdn_agent.scrub import Scrub
from soup_cdn_agent.who import Added

from tests.cdn_agent.listening import Quiet, listening
from tests.conftest import sha256

Answer = tuple[int, dict[str, str], bytes]


@dataclass
class BadCore:
    """Answers by the beginning of the path, the longest first; 404 to the rest."""

    port: int = 0
    answers: dict[str, Callable[[str], Answer]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def says(self, path: str, status: int, body: object, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.answers[path] = lambda _: (status, headers, data)

    def lists(self, *blobs: bytes, epoch: str = "e") -> None:
        """It has these, and no more has happened since."""
        head = len(blobs)
        rows = [row(data, number) for number, data in enumerate(blobs, 1)]
        self.says("/api/blob:list", 200, {"epoch": epoch, "head": head, "blobs": rows, "next": None})
        self.says("/api/blob:changes", 200, {"epoch": epoch, "head": head, "changes": [], "next": head})

    def answer(self, path: str) -> Answer:
        self.asked.append(path)
        for begin in sorted(self.answers, key=len, reverse=True):
            if path.startswith(begin):
                return self.answers[begin](path)
        return 404, {}, b"{}"


@contextmanager
def dripping(begin: bytes, drop: bytes) -> Iterator[str]:
    """Somebody who says a beginning at once, and then `drop` again and again; the URL."""
    over = threading.Event()

    class Slow(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                self.request.recv(65536)
                self.request.sendall(begin)
                while not over.wait(0.02):
                    self.request.sendall(drop)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Slow) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        over.set()
        server.shutdown()


def row(data: bytes, number: int) -> dict[str, Any]:
    """A blob as the list names it."""
    created_at = "2026-01-01T00:00:00Z"
    return {
        "digest": sha256(data),
        "size": len(data),
        "created_at": created_at,
        "seq": number,
        "state": "present",
    }


@contextmanager
def bad_core() -> Iterator[BadCore]:
    core = BadCore()

    class Asked(Quiet):
        def _any(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            status, headers, body = core.answer(self.path)
            with suppress(OSError):
                self.send_response(status)
                for name, value in ({"content-length": str(len(body))} | headers).items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                self.wfile.write(body)

        do_GET = do_PATCH = do_POST = _any  # noqa: N815 - so http.server wants them

    with listening(Asked) as core.port:
        yield core


class Parts:
    """An agent without its reports."""

    def __init__(self, blobs: Path, urls: Sequence[str]) -> None:
        self.known, self.threads = Known(), Threads()
        self.folder = Folder(blobs, 0)
        self.folder.open()
        self.index = Index(self.folder.own / "index.db")
        self.core = Core(urls, Added(1, lambda: "token"), ssl.create_default_context())
        parts = self.index, self.folder, self.threads, self.known
        self.feed = Feed(self.core, *parts, Holds())
        self.fetch = Fetch(
            self.core, *parts, bundle_up_to=10, parallel=2, bandwidth=0, from_mirrors=True, again=10
        )
        self.scan = Scan(*parts, "remove")
        self.scrub = Scrub(*parts, 1 << 30)
        self.feed.open()

    def expect(self, data: bytes) -> Wanted:
        """This blob should be here."""
        blob = Wanted(sha256(data), len(data), 1, 1)
        self.index.expect([blob], 0)
        return blob

    @asynccontextmanager
    async def fetching(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.fetch.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def parts(blobs: Path, *urls: str) -> AsyncIterator[Parts]:
    made = Parts(blobs, urls)
    try:
        yield made
    finally:
        await made.core.close()
        made.threads.close()
        made.index.close()
        made.folder.close()


async def soon(true: Callable[[], object], seconds: float = 10) -> None:
    """Wait for it, and let others go on."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - it may be anything
            await asyncio.sleep(0.02)
