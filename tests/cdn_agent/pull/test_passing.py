"""What a mirror that fills itself asks the core for besides whole blobs, and how long it waits for it."""

import asyncio
import os
import ssl
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from soup_cdn_agent import door, origin, pull
from soup_cdn_agent.core import Core, CoreDown
from soup_cdn_agent.door import Door
from soup_cdn_agent.feed import Holds
from soup_cdn_agent.folder import Folder
from soup_cdn_agent.index import Index
from soup_cdn_agent.known import Known, Threads
from soup_cdn_agent.listener import Listener
from soup_cdn_agent.pace import Pace
from soup_cdn_agent.pull import Pulls
from soup_cdn_agent.shelf import Shelf
from soup_cdn_agent.traffic import Traffic
from soup_cdn_agent.who import Added

from tests.cdn_agent.listening import Quiet, listening
from tests.cdn_agent.spigot import HELD, PullMirror, Spigot, curl, pull_mirror
from tests.conftest import sha256
from tests.databases import free_port
from tests.wire import MIB, until

pytestmark = [pytest.mark.sqlite, pytest.mark.row("C10")]


def breaking(data: bytes, every: int, late: float = 0) -> type[Quiet]:
    """A core whose line breaks after so many bytes of each answer, the first of which is late."""

    class Asked(Quiet):
        def _blob(self) -> None:
            first = int(self.headers.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
            time.sleep(0 if first else late)
            self.send_response(206 if first else 200)
            self.send_header("content-range", f"bytes {first}-{len(data) - 1}/{len(data)}")
            self.send_header("content-length", str(len(data) - first))
            self.end_headers()
            self.wfile.write(data[first : first + every])
            self.close_connection = True

        do_GET = _blob  # noqa: N815 - so http.server wants it

    return Asked


async def read(port: int, data: bytes, got: bytearray) -> None:
    """All of a blob, as a pull reads it."""
    core = Core([f"http://127.0.0.1:{port}"], Added(1, lambda: "token"), ssl.create_default_context())
    try:
        async with origin.opened(core, sha256(data), Pace(0)) as (_, coming):
            async for piece in coming:
                got += piece
    finally:
        await core.close()


async def test_a_core_that_is_away_for_a_while() -> None:
    """
    It breaks off, nobody answers for eight seconds, and the rest comes when it is back.
    """
    data, got = os.urandom(3 * MIB), bytearray()
    with listening(breaking(data, MIB)) as port:
        reading = asyncio.create_task(read(port, data, got))
        while len(got) < MIB:  # noqa: ASYNC110 - it is the other task that knows
            await asyncio.sleep(0.01)
    await asyncio.sleep(8)
    assert not reading.done()
    with listening(breaking(data, MIB), port):
        await reading

    assert data == got


async def test_a_line_that_breaks_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    However often: while it comes on, it comes to its end.
    """
    monkeypatch.setattr(origin, "PAUSE", (0.01, 60))
    data, got = os.urandom(2 * MIB), bytearray()
    with listening(breaking(data, MIB // 8)) as port:
        async with asyncio.timeout(5):
            await read(port, data, got)

    assert data == got


@pytest.mark.parametrize("every", [0, 1000], ids=["nothing", "hardly anything"])
async def test_a_core_that_does_not_come_back(monkeypatch: pytest.MonkeyPatch, every: int) -> None:
    """
    Where nothing more comes for a minute, or next to nothing, that is the end of it.
    """
    monkeypatch.setattr(origin, "PAUSE", (0.01, 0.02))
    monkeypatch.setattr(origin, "SLOWEST", (0.5, 64 << 10))
    data = os.urandom(4 * MIB)
    with listening(breaking(data, every)) as port:
        async with asyncio.timeout(5):
            with pytest.raises(CoreDown):
                await read(port, data, bytearray())


async def test_a_core_that_is_slow_to_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The minute is counted from where it has begun.
    """
    monkeypatch.setattr(origin, "SLOWEST", (0.6, 64 << 10))
    data, got = os.urandom(50_000), bytearray()
    with listening(breaking(data, 40_000, late=0.7)) as port:
        await read(port, data, got)

    assert data == got


@pytest.mark.parametrize("status", [503, 200], ids=["it is busy", "it gives the whole"])
def test_a_part_far_ahead_that_the_core_does_not_give(core: Spigot, one: PullMirror, status: int) -> None:
    """
    It is waited for after all, and the blob does not rest for that.
    """
    data = os.urandom(6 * MIB)
    digest, first = core.keep(data, stop=MIB // 4), 4 * MIB
    with ThreadPoolExecutor(2) as pool:
        whole = pool.submit(curl, f"{one.url}/{digest}")
        until(lambda: core.asked[digest])
        core.statuses[digest] = status, {}, data if status == 200 else b""
        part = pool.submit(curl, f"{one.url}/{digest}", "-r", f"{first}-{first + MIB - 1}")
        until(lambda: core.asked[digest] == 2)
        core.taps[digest].open.set()

        assert (0, data[first : first + MIB]) == part.result()
        assert (0, data) == whole.result()
    assert (2, 0) == (core.asked[digest], one.agent.metric("pull_wrong_total"))


def test_a_part_far_ahead_that_breaks_off(core: Spigot, one: PullMirror) -> None:
    """
    What of it has come does not come twice: the rest is taken from the whole.
    """
    data = os.urandom(6 * MIB)
    digest, first = core.keep(data, stop=MIB // 4), 4 * MIB
    with ThreadPoolExecutor(2) as pool:
        whole = pool.submit(curl, f"{one.url}/{digest}")
        until(lambda: core.asked[digest])
        core.taps[digest].cut, core.taps[digest].breaks = first + MIB // 2, 1
        part = pool.submit(curl, f"{one.url}/{digest}", "-r", f"{first}-{first + MIB - 1}")
        until(lambda: core.asked[digest] == 2)
        core.statuses[digest] = 404, {}, b""
        until(lambda: core.asked[digest] == 3)
        core.taps[digest].open.set()

        assert (0, data[first : first + MIB]) == part.result()
        assert (0, data) == whole.result()
    assert f"bytes={first + MIB // 2}-{first + MIB - 1}" == core.ranges[-1]


def test_the_end_of_what_comes_slowly(core: Spigot, tmp_path: Path) -> None:
    """
    It comes when all is right: where that takes seconds, it is waited for, and where minutes, that is said.
    """
    long, short = os.urandom(20 * MIB), os.urandom(MIB)
    with pull_mirror(tmp_path, core.url, bandwidth=250_000) as mirror:
        url = f"{mirror.url}/{core.keep(short)}"
        assert (0, short[-HELD:]) == curl(url, "-r", f"-{HELD}")

        url = f"{mirror.url}/{core.keep(long)}"
        answer = httpx.get(url, headers={"range": "bytes=-10"})
        assert 503 == answer.status_code
        assert 60 < int(answer.headers["retry-after"]) <= 120
        assert (0, long[:10]) == curl(url, "-r", "0-9")


def test_more_heads_at_once_than_are_asked_for(core: Spigot, tmp_path: Path) -> None:
    """
    They are counted with the blobs that come.
    """
    digest, other = core.keep(os.urandom(MIB), stop=MIB // 2), core.keep(b"leek")
    with pull_mirror(tmp_path, core.url, pulls=1) as mirror, ThreadPoolExecutor(1) as pool:
        asking = pool.submit(curl, f"{mirror.url}/{digest}")
        until(lambda: mirror.agent.metric("pull_clients") == 1)
        for method, sent in (("HEAD", {}), ("GET", {"if-none-match": f'"{other}"'})):
            answer = httpx.request(method, f"{mirror.url}/{other}", headers=sent)
            assert (503, "1") == (answer.status_code, answer.headers["retry-after"])
        assert 200 == httpx.head(f"{mirror.url}/{digest}").status_code
        core.taps[digest].open.set()
        assert 0 == asking.result()[0]


def test_a_weak_tag_is_as_good_as_a_strong_one(core: Spigot, one: PullMirror) -> None:
    """
    Something between us and the core made it weak: HEAD is answered like GET.
    """
    data = b"leek" * 100
    digest = core.keep(data)
    core.statuses[digest] = 200, {"etag": f'W/"{digest}"', "content-length": "400"}, b""

    answer = httpx.head(f"{one.url}/{digest}")
    assert 200 == answer.status_code
    assert ("400", f'"{digest}"') == (answer.headers["content-length"], answer.headers["etag"])
    core.statuses[digest] = 200, {"etag": f'W/"{digest}"'}, data
    assert data == httpx.get(f"{one.url}/{digest}").content


@pytest.mark.parametrize(("status", "etag"), [(500, "x"), (200, '"portal"')], ids=["in trouble", "a portal"])
def test_for_a_head_that_failed_nobody_rests(core: Spigot, one: PullMirror, status: int, etag: str) -> None:
    """
    Who wants the blob itself a moment later gets it.
    """
    digest = core.keep(b"leek")
    core.statuses[digest] = status, {"etag": etag}, b""
    assert 502 == httpx.head(f"{one.url}/{digest}").status_code
    del core.statuses[digest]

    assert b"leek" == httpx.get(f"{one.url}/{digest}").content


class Passing:
    """An agent's door in this process, and `known`, `pulls` behind it."""

    def __init__(self, folder: Path, core: Core, holds: Holds, rate: int) -> None:
        self.known, self.threads = Known(), Threads()
        self.folder = Folder(folder / "blobs", 0)
        self.folder.open()
        self.index = Index(self.folder.own / "index.db")
        parts = self.index, self.folder, self.threads, self.known
        (folder / "access.log").touch()
        shelf = Shelf(*parts, Traffic([folder / "access.log"], self.index, self.threads), keep=60, again=60)
        self.pulls = Pulls(core, *parts, shelf, holds=holds, most=10, pace=Pace(rate))
        answers = Door(core, self.pulls, self.folder, self.threads, self.known, Pace(rate))
        listen = f"127.0.0.1:{free_port()}"
        self.url, self.listener = f"http://{listen}", Listener(listen, self.threads, answers.answer, 60)

    async def end(self) -> None:
        self.listener.close()
        await self.pulls.close()
        self.threads.close()
        self.index.close()
        self.folder.close()


@asynccontextmanager
async def passing(
    folder: Path, port: int, holds: Holds | None = None, rate: int = 0
) -> AsyncIterator[tuple[Passing, httpx.AsyncClient]]:
    core = Core([f"http://127.0.0.1:{port}"], Added(1, lambda: "token"), ssl.create_default_context())
    made = Passing(folder, core, holds or Holds(), rate)
    running = asyncio.create_task(made.listener.run())
    try:
        async with httpx.AsyncClient(base_url=made.url, timeout=10) as client:
            yield made, client
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await made.end()
        await core.close()


@pytest.mark.parametrize(
    ("method", "sent", "before"),
    [("HEAD", {}, 0), ("GET", {"if-match": '"x"'}, 0), ("GET", {}, 1), ("GET", {"range": "bytes=1-2"}, 1)],
)
async def test_a_core_that_does_not_begin_an_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, method: str, sent: dict[str, str], before: int
) -> None:
    """
    Whatever is asked, and though it has answered `before`: in the end that is said in words.
    """
    monkeypatch.setattr(door, "FIRST", 0.3)
    over, asked = threading.Event(), 0

    class Silent(Quiet):
        def _any(self) -> None:
            nonlocal asked
            asked += 1
            if asked > before:
                over.wait(20)
            self.send_response(200)
            self.send_header("content-length", "4")
            self.end_headers()
            self.close_connection = True

        do_GET = do_HEAD = _any  # noqa: N815 - so http.server wants them

    with listening(Silent) as port:
        async with passing(tmp_path, port, Holds(largest=0)) as (made, client):
            async with asyncio.timeout(3):
                answer = await client.request(method, f"/{sha256(b'leek')}", headers=sent)
            assert (502, "1") == (answer.status_code, answer.headers["retry-after"])
            assert 0 == made.pulls.passing
        over.set()


async def test_what_is_passed_through_may_take_its_time(
    monkeypatch: pytest.MonkeyPatch, core: Spigot, tmp_path: Path
) -> None:
    """
    What is limited is how long the core takes to begin.
    """
    monkeypatch.setattr(door, "FIRST", 0.3)
    data = os.urandom(MIB)
    async with passing(tmp_path, core.port, Holds(largest=0), rate=MIB) as (_, client):
        answer = await client.get(f"/{core.keep(data)}")

        assert data == answer.content
        assert answer.elapsed.total_seconds() > 0.5


async def test_who_is_to_come_again_has_not_left(
    monkeypatch: pytest.MonkeyPatch, core: Spigot, tmp_path: Path
) -> None:
    """
    A blob whose end somebody is to ask for later comes on till then, and somewhat longer.
    """
    monkeypatch.setattr(door, "LONG", (1.0, 2.0))
    monkeypatch.setattr(pull, "ALONE", 0.5)
    monkeypatch.setattr(pull, "LITTLE", 0)
    digest = core.keep(os.urandom(8 * MIB))
    async with passing(tmp_path, core.port, rate=500_000) as (made, client):
        answer = await client.get(f"/{digest}", headers={"range": "bytes=-10"})
        assert (503, "2") == (answer.status_code, answer.headers["retry-after"])

        await asyncio.sleep(1.5)
        assert made.pulls.size(digest) == 8 * MIB
        await asyncio.sleep(2)
        assert made.pulls.size(digest) is None
