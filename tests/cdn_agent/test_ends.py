"""How an agent ends, and what neither ends it nor holds it up."""

import asyncio
import socket
import time
import urllib.request
from pathlib import Path

import pytest
import structlog
from soup_cdn_agent import core as asking
from soup_cdn_agent.core import CoreDown, MirrorDown
from soup_cdn_agent.index import Index, Wanted
from soup_cdn_agent.logs import EACH, Seldom
from soup_cdn_agent.page import Page

from tests import agents
from tests.agents import Agent
from tests.cdn_agent.badcore import bad_core, dripping, parts
from tests.cdn_agent.recorder import Recorder
from tests.cdn_agent.test_faults import rot
from tests.conftest import sha256
from tests.wire import until

MIRROR = {"id": 7, "token": "secret"}
D = sha256(b"leek")
NOWHERE = "http://127.0.0.1:9"


def start(started: list[Agent], tmp_path: Path, core: str, web: str = NOWHERE, **settings: object) -> Agent:
    name = f"agent{len(started)}"
    agent = agents.start(tmp_path / name, core, MIRROR, tmp_path / "blobs", web, **settings)
    started.append(agent)
    return agent


def stopped(agent: Agent) -> float:
    """How long it takes to end when it is told to."""
    began = time.monotonic()
    assert 0 == agent.stop()
    return time.monotonic() - began


def test_it_leaves_in_the_middle_of_its_first_look(
    core: Recorder, started: list[Agent], tmp_path: Path
) -> None:
    """
    The web server hangs, and nothing was reported yet: it says that it leaves, and ends at once.
    """
    index = Index(tmp_path / "blobs/.soup-cdn/index.db")
    index.expect([Wanted(sha256(b"leek"), 4, 1, 1)], 0)
    index.arrived([sha256(b"leek")])
    index.close()
    (tmp_path / "blobs" / sha256(b"leek")[:3]).mkdir()
    (tmp_path / "blobs" / sha256(b"leek")[:3] / sha256(b"leek")).write_bytes(b"leek")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        agent = start(started, tmp_path, core.url, f"http://127.0.0.1:{silent.getsockname()[1]}")
        until(agent.status)
        assert not core.reports

        assert stopped(agent) < 4

    assert core.last["leaving"] is True


def test_names_that_nobody_resolves_do_not_keep_it(
    started: list[Agent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    DNS hangs for a minute: the process ends within ten seconds all the same.
    """
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow/sitecustomize.py").write_text(
        "import socket, time\nasked = socket.getaddrinfo\n"
        "def getaddrinfo(host, *rest, **named):\n"
        "    host in ('soup.invalid', b'soup.invalid') and time.sleep(60)\n"
        "    return asked(host, *rest, **named)\n"
        "socket.getaddrinfo = getaddrinfo\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "slow"))
    agent = start(started, tmp_path, "http://soup.invalid")
    until(lambda: (agent.status() or {"metrics": {}})["metrics"].get("reports_failed_total"), 30)

    assert stopped(agent) < 10


def test_two_agents_do_not_share_a_folder(core: Recorder, started: list[Agent], tmp_path: Path) -> None:
    """
    The second says so and ends; the first goes on.
    """
    first = start(started, tmp_path, core.url)
    until(lambda: core.reports)
    second = start(started, tmp_path, core.url)

    assert 1 == second.process.wait(20)
    assert f"another agent keeps {tmp_path / 'blobs'}" in second.log.read_text()
    assert first.process.poll() is None


def test_a_portal_that_answers_for_soup_ends_nothing(started: list[Agent], tmp_path: Path) -> None:
    """
    Everything is 200 and HTML for a while; then soup is back, and hears of the mirror.
    """
    with bad_core() as core:
        core.says("/", 200, b"<html>please log in</html>", content_type="text/html")
        agent = start(started, tmp_path, core.url)
        until(lambda: agent.status() and agent.metric("reports_failed_total") >= 2, 20)
        core.says("/api/cdn", 200, {"epoch": "e", "head": 0, "interval": 1})
        core.lists()

        until(lambda: agent.metric("reports_total") >= 2, 20)

        assert "not an answer of soup's" in agent.events("report.failed")[0]["reason"]
        assert not agent.events("work.failed")


DRIPS = {
    "a head": (b"HTTP/1.1 200 OK\r\nx: ", b"x"),
    "the body of a refusal": (b"HTTP/1.1 503 No\r\ncontent-length: 60000\r\n\r\n", b"x"),
    "the size of a piece": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;", b"x"),
}


@pytest.mark.parametrize("what", DRIPS)
async def test_a_core_whose_answer_hardly_comes_is_down(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A byte now and then, so that no wait for the next one is long: the other core is asked after a time.
    """
    monkeypatch.setattr(asking, "SECONDS", 1.0)
    monkeypatch.setattr(asking, "SLOWEST", (1.0, 64 << 10))
    with bad_core() as other, dripping(*DRIPS[what]) as slow:
        other.says(f"/{D}", 200, b"leek")
        async with asyncio.timeout(5), parts(tmp_path, slow, other.url) as agent:
            with pytest.raises(CoreDown):
                await got(agent.core)
            assert b"leek" == await got(agent.core)


@pytest.mark.parametrize("what", ["a head", "the size of a piece"])
async def test_another_mirror_whose_answer_hardly_comes_holds_nothing_up(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Its head has to be there in time, and then something of the body.
    """
    monkeypatch.setattr(asking, "SECONDS", 1.0)
    monkeypatch.setattr(asking, "SLOWEST", (1.0, 64 << 10))
    with bad_core() as core, dripping(*DRIPS[what]) as slow:
        core.says(f"/{D}", 307, b"", location=f"{slow}/{D}")
        async with asyncio.timeout(5), parts(tmp_path, core.url) as agent:
            with pytest.raises(MirrorDown):
                await got(agent.core)


async def test_a_body_may_take_longer_than_a_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What has begun in time and goes on is not cut off.
    """
    monkeypatch.setattr(asking, "SECONDS", 0.5)
    with dripping(b"HTTP/1.1 200 OK\r\ncontent-length: 40\r\n\r\n", b"x") as slow:
        async with asyncio.timeout(5), parts(tmp_path, slow) as agent:
            assert b"x" * 40 == await got(agent.core)


async def got(core: asking.Core) -> bytes:
    async with core.blob(D, 0, from_mirrors=True) as coming:
        return b"".join([piece async for piece in coming.pieces])


def test_an_index_that_is_damaged_is_begun_anew(core: Recorder, started: list[Agent], tmp_path: Path) -> None:
    """
    "database disk image is malformed", while it runs: it reads the list again, and reports go on.
    """
    index = Index(tmp_path / "blobs/.soup-cdn/index.db")
    index.expect([Wanted(sha256(b"%d" % number), 1, 1, number) for number in range(5000)], 0)
    index.close()
    rot(index.file)

    agent = start(started, tmp_path, core.url)
    until(lambda: agent.events("list.read") and agent.status() and agent.metric("synced_to") == 0, 20)
    until(lambda: len(core.reports) >= 3 and not agent.status()["metrics"]["blobs"], 20)

    assert agent.events("index.damaged")
    assert agent.process.poll() is None


def test_what_fails_for_a_week_does_not_fill_a_disk_with_saying_so() -> None:
    """
    Twenty warnings of a name at once, then one a minute with how many were left out; news is never left out.
    """
    seldom = Seldom()
    written = [event for _ in range(100) if (event := said(seldom, "warning"))]

    assert 20 == len(written)
    assert 100 == sum(said(seldom, "info") is not None for _ in range(100))
    may, then, unsaid = seldom._left["blob.damaged"]
    seldom._left["blob.damaged"] = may, then - EACH, unsaid
    assert {"event": "blob.damaged", "unsaid": 80} == said(seldom, "warning")


def said(seldom: Seldom, level: str) -> dict[str, object] | None:
    try:
        return dict(seldom(None, level, {"event": "blob.damaged"}))
    except structlog.DropEvent:
        return None


def test_the_page_is_there_on_ipv6_too() -> None:
    """
    `listen = "[::1]:9480"`.
    """
    page = Page("[::1]:0", dict)
    page.start()
    port = page._server.server_address[1]

    with urllib.request.urlopen(f"http://[::1]:{port}/healthz", timeout=5) as answer:
        assert b"ok\n" == answer.read()
    page.close()
