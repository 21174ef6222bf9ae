"""A mirror that fills itself: real web servers, a real agent, and a core whose bytes come as we want."""

import hashlib
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.cdn_agent.spigot import HELD, PullMirror, Spigot, curl, pull_mirror
from tests.conftest import sha256
from tests.wire import MIB, Wire, until

pytestmark = [pytest.mark.sqlite, pytest.mark.row("C10")]


def headers(answer: httpx.Response) -> dict[str, str]:
    """What a client is told, but for what is each web server's own, and what says nothing new in a part."""
    own = {"server", "date", "connection", "last-modified", "keep-alive"}
    if answer.status_code != 200:
        own |= {"accept-ranges", "x-content-type-options"}
    if answer.status_code == 304:
        own |= {"content-type", "content-length"}
    return {name: value for name, value in answer.headers.items() if name not in own}


def test_fifty_ask_for_what_is_not_here(core: Spigot, mirror: PullMirror) -> None:
    """
    The core is asked once, all get the right bytes while they come, and from then on the web server is alone.
    """
    data = os.urandom(8 * MIB + 7)
    digest = core.keep(data, stop=4 * MIB)
    with ThreadPoolExecutor(50) as pool:
        asking = [pool.submit(curl, f"{mirror.url}/{digest}") for _ in range(50)]
        until(lambda: mirror.agent.metric("pull_clients") == 50)
        core.taps[digest].open.set()
        got = {(code, sha256(body)) for code, body in (one.result() for one in asking)}

    assert {(0, digest)} == got
    assert 1 == core.asked[digest]
    until(lambda: mirror.agent.has(digest))
    assert (0, data) == curl(f"{mirror.url}/{digest}")
    assert 1 == mirror.agent.metric("pulls_total")
    assert len(data) == mirror.agent.metric("pulled_bytes_total")
    assert [] == mirror.left()


def test_first_bytes_come_before_the_last(core: Spigot, mirror: PullMirror) -> None:
    """
    A client gets what is there while the rest is still on its way, but for the last 64 KiB.
    """
    data = os.urandom(4 * MIB)
    digest = core.keep(data, stop=4 * MIB - 1)
    with httpx.stream("GET", f"{mirror.url}/{digest}", timeout=10) as answer:
        coming = answer.iter_raw()
        got = b""
        while len(got) < 3 * MIB:
            got += next(coming)
        core.taps[digest].open.set()
        got += b"".join(coming)

    assert data == got


@pytest.mark.parametrize("size", [1000, 3 * MIB])
def test_wrong_bytes(core: Spigot, mirror: PullMirror, size: int) -> None:
    """
    Nobody gets a complete body, nothing is kept, and the core is left alone for some seconds.
    """
    data = os.urandom(size)
    digest = core.keep(data, instead=data[:-1] + bytes([data[-1] ^ 1]))
    with ThreadPoolExecutor(10) as pool:
        got = [*pool.map(lambda _: curl(f"{mirror.url}/{digest}", "--fail"), range(10))]

    assert all(code and len(body) <= max(0, size - HELD) for code, body in got)
    assert 1 == core.asked[digest]
    answer = httpx.get(f"{mirror.url}/{digest}")
    assert 502 == answer.status_code
    assert 1 <= int(answer.headers["retry-after"]) <= 10
    assert "no-store" == answer.headers["cache-control"]
    assert 1 == core.asked[digest] == mirror.agent.metric("pull_wrong_total")
    assert set() == mirror.agent.files()
    until(lambda: mirror.left() == [])
    assert mirror.agent.events("pull.wrong")


def test_broken_off(core: Spigot, mirror: PullMirror) -> None:
    """
    The core breaks off: it is asked for the rest, never for what has come, and the client notices nothing.
    """
    data = os.urandom(2 * MIB)
    digest = core.keep(data, cut=MIB + 5, breaks=3)

    assert (0, data) == curl(f"{mirror.url}/{digest}")
    whole, *rests = core.ranges
    assert whole is None
    assert 1 <= len(rests) <= 3
    assert all(span and 0 < int(span.removeprefix("bytes=").rstrip("-")) <= MIB + 5 for span in rests)


def test_ranges_while_it_comes(core: Spigot, mirror: PullMirror) -> None:
    """
    A part that is there is answered at once, one that is not when it comes, and the core is asked once.
    """
    data = os.urandom(4 * MIB)
    digest = core.keep(data, stop=2 * MIB)
    url, whole = f"{mirror.url}/{digest}", ThreadPoolExecutor(2)
    first = whole.submit(curl, url)
    until(lambda: mirror.agent.metric("pulled_bytes_total") >= 2 * MIB - (256 << 10))

    assert (0, data[100:1000]) == curl(url, "-r", "100-999")
    assert (0, data[-10:]) != curl(url, "-r", "-10", "--max-time", "0.5")
    later = whole.submit(curl, url, "-r", f"{3 * MIB}-{3 * MIB + 99}")
    answer = httpx.get(url, headers={"range": "bytes=99999999-"})
    assert (416, f"bytes */{len(data)}") == (answer.status_code, answer.headers["content-range"])
    assert 412 == httpx.get(url, headers={"if-match": '"other"'}).status_code
    if_range = {"range": "bytes=0-9", "if-range": f'"{digest}"'}
    assert data[:10] == httpx.get(url, headers=if_range).content
    core.taps[digest].open.set()

    assert (0, data) == first.result()
    assert (0, data[3 * MIB : 3 * MIB + 100]) == later.result()
    assert 1 == core.asked[digest]


def test_a_range_far_ahead_is_not_waited_for(core: Spigot, one: PullMirror) -> None:
    """
    A blob comes so slowly that its middle is minutes away: that part is asked for by itself, and no more.
    """
    data = os.urandom(6 * MIB)
    digest = core.keep(data, stop=MIB // 4)
    with ThreadPoolExecutor(1) as pool:
        whole = pool.submit(curl, f"{one.url}/{digest}")
        until(lambda: core.asked[digest])
        first = 4 * MIB

        assert (0, data[first : first + 1000]) == curl(f"{one.url}/{digest}", "-r", f"{first}-{first + 999}")
        assert f"bytes={first}-{first + 999}" == core.ranges[-1]
        core.taps[digest].open.set()
        assert (0, data) == whole.result()


def test_a_cold_answer_says_what_a_warm_one_says(core: Spigot, mirror: PullMirror) -> None:
    """
    Headers of the agent are those of the web server: of the whole, a part, HEAD, and conditions.
    """
    cases = [
        ("GET", {}),
        ("HEAD", {}),
        ("GET", {"range": "bytes=5-9"}),
        ("GET", {"range": "bytes=0-1,5-6"}),
        ("GET", {"if-none-match": '"%s"'}),
        ("GET", {"if-match": '"%s"'} if mirror.web.kind == "apache" else {}),
    ]
    for method, conditions in cases:
        digest = core.keep(os.urandom(3000))
        sent = {name: value.replace("%s", digest) for name, value in conditions.items()}
        url = f"{mirror.url}/{digest}"
        cold = httpx.request(method, url, headers=sent)
        assert 200 == httpx.get(url).status_code
        until(lambda digest=digest: mirror.agent.has(digest))
        warm = httpx.request(method, url, headers=sent)

        assert cold.status_code == warm.status_code
        assert headers(warm) == headers(cold), (method, conditions)
        assert warm.content == cold.content

    answer = httpx.options(f"{mirror.url}/{'0' * 64}")
    assert (204, "*") == (answer.status_code, answer.headers["access-control-allow-origin"])


def test_an_agent_that_is_down(core: Spigot, mirror: PullMirror) -> None:
    """
    What is here is served; for what is not the answer is quick, and right as soon as the agent is back.
    """
    digest, other = core.keep(b"leek"), core.keep(b"onion")
    assert b"leek" == httpx.get(f"{mirror.url}/{digest}").content
    until(lambda: mirror.agent.has(digest))
    mirror.agent.stop()

    began = time.monotonic()
    assert httpx.get(f"{mirror.url}/{other}").status_code in {502, 503}
    assert time.monotonic() - began < 3
    assert b"leek" == httpx.get(f"{mirror.url}/{digest}").content
    assert 404 == httpx.get(f"{mirror.url}/x").status_code
    assert 200 == httpx.get(f"{mirror.url}/healthz").status_code


def test_a_client_that_leaves_leaves_the_blob(core: Spigot, mirror: PullMirror) -> None:
    """
    What was begun comes to its end: the next who asks finds it here.
    """
    digest = core.keep(os.urandom(4 * MIB), stop=2 * MIB)
    curl(f"{mirror.url}/{digest}", "--max-time", "0.5")
    if mirror.web.kind == "nginx":  # Apache notices with the next bytes
        until(lambda: mirror.agent.metric("pull_clients") == 0)
    core.taps[digest].open.set()

    until(lambda: mirror.agent.has(digest))
    assert 1 == core.asked[digest]


def test_a_client_that_takes_nothing_is_cut_off(core: Spigot, tmp_path: Path) -> None:
    """
    It is asked for at the agent itself, which is where a slow web server would stand.
    """
    digest = core.keep(os.urandom(30 * MIB))
    with pull_mirror(tmp_path, core.url, pull_idle_seconds=0.5) as mirror:
        with Wire(int(mirror.door.rpartition(":")[2])) as wire:
            wire.ask(f"GET /{digest}")
            until(lambda: mirror.agent.metric("pull_clients") == 1)
            until(lambda: mirror.agent.metric("pull_clients") == 0)
        until(lambda: mirror.agent.has(digest))


def test_a_client_that_is_slow_is_not_cut_off(core: Spigot, tmp_path: Path) -> None:
    """
    However much a kernel would hold for it: who takes some of it again and again gets all of it.
    """
    data = os.urandom(30 * MIB)
    digest = core.keep(data)
    with pull_mirror(tmp_path, core.url, pull_idle_seconds=1) as mirror:
        with Wire(int(mirror.door.rpartition(":")[2])) as wire:
            wire.ask(f"GET /{digest}")
            assert 200 == wire.head()[0]
            got = bytearray(wire.read)
            for _ in range(30):
                got += wire.socket.recv(64 << 10)
                time.sleep(0.2)
            while piece := wire.socket.recv(MIB):
                got += piece

        assert digest == sha256(bytes(got))


def test_a_large_head(core: Spigot, mirror: PullMirror) -> None:
    """
    What the web server takes the agent takes, so that cold and warm are answered alike.
    """
    many = {"nginx": 4, "apache": 8}[mirror.web.kind]
    sent = {f"x-{number}": "x" * 7000 for number in range(many)}
    url = f"{mirror.url}/{core.keep(b'leek')}"

    assert b"leek" == httpx.get(url, headers=sent).content


@pytest.mark.parametrize(
    "request_", [b"\x00\x01\r\n\r\n", b"GET /" + b"x" * 80_000, b"POST /x HTTP/1.1\r\nhost: x\r\n\r\n", b""]
)
def test_nonsense_at_the_door(core: Spigot, one: PullMirror, request_: bytes) -> None:
    """
    It is answered or cut off, and nobody else notices.
    """
    digest = core.keep(b"leek")
    with Wire(int(one.door.rpartition(":")[2])) as wire:
        wire.send(request_)
        if request_:
            assert b"HTTP/1.1 4" == wire.socket.recv(10)
    assert b"leek" == httpx.get(f"{one.url}/{digest}").content
    assert [] == one.agent.events("pull.failed")


def test_slow_clients_cost_no_memory(core: Spigot, one: PullMirror) -> None:
    """
    Sixty that take a blob of 48 MiB drop by drop: a few hundred KiB each would be too much.
    """
    data = os.urandom(48 * MIB)
    digest = core.keep(data, stop=24 * MIB)
    curl(f"{one.url}/{core.keep(b'leek')}")
    before = one.agent.anonymous()
    over = threading.Event()

    def sip() -> None:
        with httpx.stream("GET", f"{one.url}/{digest}", timeout=30) as answer:
            for _ in answer.iter_raw(4096):
                if over.wait(0.02):
                    return

    clients = [threading.Thread(target=sip) for _ in range(60)]
    for client in clients:
        client.start()
    until(lambda: one.agent.metric("pull_clients") == len(clients), 30)
    core.taps[digest].open.set()
    until(lambda: one.agent.has(digest), 30)
    grown = one.agent.anonymous() - before
    asking = one.agent.metric("pull_clients")
    over.set()
    for client in clients:
        client.join()

    assert len(clients) == asking
    assert grown < 16 * MIB
    assert digest == hashlib.sha256(one.agent.blobs.joinpath(digest[:3], digest).read_bytes()).hexdigest()
