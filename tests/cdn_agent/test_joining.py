"""An agent that nobody has added: it joins by a token, and keeps what it was given."""

import asyncio
import itertools
import json
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from soup_cdn_agent import joining
from soup_cdn_agent.core import Core, CoreDown, Refused
from soup_cdn_agent.joining import Joining, Terms, own_address

from tests import agents
from tests.agents import Agent
from tests.cdn_agent.badcore import soon
from tests.cdn_agent.club import SECRET, Club, club
from tests.databases import free_port
from tests.wire import until

NOBODY = {"id": "", "token": ""}
NOWHERE = "http://127.0.0.1:9"
HOME = Terms("home.localhost", "http", 8001, "full")


@pytest.fixture
def core() -> Iterator[Club]:
    with club() as core:
        yield core


def start(started: list[Agent], tmp_path: Path, core: str, **settings: object) -> Agent:
    """An agent with a join token; of one that was stopped, the next."""
    terms = {"join_token": SECRET, "fqdn": HOME.fqdn, "scheme": HOME.scheme, "port": HOME.port} | settings
    folder = tmp_path / f"agent{len(started)}"
    agent = agents.start(folder, core, NOBODY, tmp_path / "blobs", NOWHERE, **terms)
    started.append(agent)
    return agent


def kept(tmp_path: Path) -> Path:
    return tmp_path / "blobs/.soup-cdn/joined.json"


@asynccontextmanager
async def member(
    core: Club, tmp_path: Path, secret: Path | None = None, terms: Terms = HOME
) -> AsyncIterator[tuple[Joining, Core]]:
    """The part of an agent that joins, in this process."""
    who = Joining([core.url], terms, secret.read_text if secret else lambda: SECRET, tmp_path)
    asking = Core([core.url], who, ssl.create_default_context())
    task = asyncio.create_task(who.run(asking))
    try:
        yield who, asking
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asking.close()


@pytest.mark.row("S33")
def test_it_joins_without_another_step(core: Club, started: list[Agent], tmp_path: Path) -> None:
    """
    It says what to send clients to, reports as the mirror that it was made, and shows that to who asks.
    """
    agent = start(started, tmp_path, core.url)
    until(core.heard)
    until(lambda: agent.metric("reports_total") > 0)

    assert [{"fqdn": "home.localhost", "scheme": "http", "port": 8001, "mode": "full"}] == [
        said for _, said in core.asked
    ]
    assert {200} == {status for status, _ in core.reports}
    assert {"id": 3, "joined_as": "http://home.localhost:8001", "fault": None} == agent.status()["mirror"]
    assert "mirror:      3, joined as http://home.localhost:8001" in agents.said(agent)[1]
    assert 1 == agent.metric("joined") == agent.metric("joins_total")


def test_what_it_was_given_is_kept_for_its_own_user(core: Club, started: list[Agent], tmp_path: Path) -> None:
    """
    The next start joins no more; nobody else can read the token.
    """
    start(started, tmp_path, core.url)
    until(core.heard)
    started[0].stop()

    assert 0o600 == kept(tmp_path).stat().st_mode & 0o777
    reports = len(core.heard())
    start(started, tmp_path, core.url)
    until(lambda: len(core.heard()) > reports)
    assert 1 == len(core.asked)
    assert {200} == {status for status, _ in core.reports}


@pytest.mark.parametrize("other", [{"port": 8002}, {"fqdn": "moved.localhost"}, {"scheme": "https"}])
def test_another_address_joins_anew(
    core: Club, started: list[Agent], tmp_path: Path, other: dict[str, Any]
) -> None:
    """
    What was given for other terms is not used for these.
    """
    start(started, tmp_path, core.url)
    until(core.heard)
    started[0].stop()

    start(started, tmp_path, core.url, **other)

    until(lambda: len(core.asked) == 2)
    assert other.items() <= core.asked[1][1].items()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"core": 7}', '{"id": 3, "token": "x"}'])
async def test_what_cannot_be_read_was_never_given(core: Club, tmp_path: Path, text: str) -> None:
    """
    A file that a crash or somebody's editor has spoilt: it joins anew.
    """
    (tmp_path / "joined.json").write_text(text)

    async with member(core, tmp_path) as (who, _):
        await soon(lambda: who.shown.joined)

    assert "soup_1" == json.loads((tmp_path / "joined.json").read_text())["token"]


def test_a_core_that_comes_later_is_joined_then(started: list[Agent], tmp_path: Path) -> None:
    """
    Until it answers the page says what is waited for; then the mirror is in the list within seconds.
    """
    port = free_port()
    agent = start(started, tmp_path, f"http://127.0.0.1:{port}")
    until(lambda: agent.status() and agent.metric("joins_failed_total") >= 3)
    status = agent.status()
    assert status["message"].startswith("it cannot join: ")
    assert 2 == status["status"]
    assert 0 == agent.metric("joined")
    assert 0 == agent.metric("reports_failed_total")

    with club(port) as core:
        assert until(core.heard) < 8


def test_of_several_cores_one_is_enough(core: Club, started: list[Agent], tmp_path: Path) -> None:
    """
    The first is down: the second is asked.
    """
    start(started, tmp_path, f"http://127.0.0.1:{free_port()} {core.url}")

    until(core.heard)


async def test_a_core_that_wants_to_be_left_alone_is(core: Club, tmp_path: Path) -> None:
    """
    503 with Retry-After: 2 is two seconds; without one it is half a second and then up to five.
    """
    core.refusals = [(503, 2), (503, 0)]
    async with member(core, tmp_path) as (who, _):
        await soon(lambda: who.shown.joined)

    first, second, third = (moment for moment, _ in core.asked)
    assert 2 <= second - first < 3
    assert 0.2 < third - second < 1.5


@pytest.mark.parametrize("status", [400, 401, 403, 409, 422, 507])
async def test_who_is_refused_says_why_and_asks_seldom(
    core: Club, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """
    Somebody has to change something first: half a minute, and not half a second.
    """
    assert 30 == joining.REFUSED
    monkeypatch.setattr(joining, "REFUSED", 3.0)
    core.refusals = [(status, 0)]
    async with member(core, tmp_path) as (who, _):
        await soon(lambda: who.shown.failed)
        assert f"it cannot join: 127.0.0.1 answered {status}: as the test wants: {status}" == who.shown.fault
        with pytest.raises(CoreDown, match=f"{status}"):
            _ = who.id
        await soon(lambda: who.shown.joined)

    first, second = (moment for moment, _ in core.asked)
    assert 1.5 <= second - first


async def test_the_secret_is_read_anew_for_each_try(
    core: Club, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A mounted secret that comes late, or is put right, is taken up without a restart.
    """
    monkeypatch.setattr(joining, "REFUSED", 0.1)
    secret = tmp_path / "secret"
    async with member(core, tmp_path, secret) as (who, _):
        await soon(lambda: "cannot be read" in (who.shown.fault or ""))
        secret.write_text("")
        await soon(lambda: "is empty" in (who.shown.fault or ""))
        secret.write_text("another")
        await soon(lambda: "wrong secret" in (who.shown.fault or ""))
        secret.write_text(SECRET)
        await soon(lambda: who.shown.joined)


@pytest.mark.parametrize("how", ["revoked", "deleted"])
def test_a_mirror_that_no_core_knows_joins_again(
    core: Club, started: list[Agent], tmp_path: Path, how: str
) -> None:
    """
    Its token was revoked, or the mirror deleted: it joins once, and goes on with what it was given.
    """
    agent = start(started, tmp_path, core.url)
    until(lambda: len(core.heard()) > 1)
    core.token = "another" if how == "revoked" else None
    core.id = 3 if how == "revoked" else 4
    heard = len(core.heard())

    until(lambda: len(core.heard()) > heard + 2, 20)

    assert 2 == len(core.asked)
    assert core.id == agent.status()["mirror"]["id"]
    assert core.token == json.loads(kept(tmp_path).read_text())["token"]
    assert None is agent.status()["refused"]


def test_a_fetch_that_is_refused_is_as_good_a_sign() -> None:
    """
    401 to anything that is asked with the mirror's token; 404 only to a report, for blobs may be unknown.
    """

    async def asked(status: int) -> tuple[bool, type[Exception]]:
        with club() as core:
            core.answer = lambda *_: (status, {}, {"detail": "no"})  # type: ignore[method-assign]
            who = Joining([core.url], HOME, lambda: SECRET, Path("/nowhere"))
            who._is(joining.Mirror(3, "old", HOME))
            asking = Core([core.url], who, ssl.create_default_context())
            with pytest.raises((CoreDown, Refused)) as raised:
                async with asking.blob("0" * 64, 0, from_mirrors=False):
                    pass
            await asking.close()
            return bool(who.shown.joined), raised.type

    assert (False, CoreDown) == asyncio.run(asked(401))
    assert (True, Refused) == asyncio.run(asked(404))


async def test_a_core_that_has_not_heard_of_it_yet_is_given_time(core: Club, tmp_path: Path) -> None:
    """
    Another core than the one that it joined says 401 for a moment: that is no reason to join again.
    """
    async with member(core, tmp_path) as (who, asking):
        await who.found()
        core.deaf_until = time.monotonic() + 1
        with pytest.raises(CoreDown):
            await asking.report({}, 5)
        assert who.shown.joined
        await asyncio.sleep(1)
        await asking.report({}, 5)

    assert 1 == len(core.asked)


async def test_who_joins_in_vain_again_and_again_takes_its_time(
    core: Club, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A core that gives tokens it does not know gets no storm: each time it has longer.
    """
    monkeypatch.setattr(joining, "TRUSTED", (0.2, 60.0))
    core.deaf_until = time.monotonic() + 1000
    async with member(core, tmp_path) as (who, asking):
        await who.found()
        began = time.monotonic()
        while time.monotonic() < began + 4:
            with pytest.raises(CoreDown):
                await asking.report({}, 5)
            await asyncio.sleep(0.02)

    moments = [moment for moment, _ in core.asked]
    gaps = [after - before for before, after in itertools.pairwise(moments)]
    assert len(gaps) in {3, 4}
    assert all(after > 1.5 * before for before, after in itertools.pairwise(gaps))


async def test_what_a_core_was_wrong_about_is_not_lost(core: Club, tmp_path: Path) -> None:
    """
    It knew nobody for a while, and let nobody join: the mirror goes on as the one it was.
    """
    async with member(core, tmp_path) as (who, asking):
        await who.found()
        await asking.report({}, 5)
        who._trusted_until = 0
        token, core.token, core.refusals = core.token, "lost", [(403, 0)] * 9
        with pytest.raises(CoreDown):
            await asking.report({}, 5)
        await soon(lambda: "403" in (who.shown.fault or ""))
        core.token = token
        await asking.report({}, 5)

        assert who.shown.joined


def test_a_mirror_that_was_added_never_joins(core: Club, started: list[Agent], tmp_path: Path) -> None:
    """
    With an id and a token of its own it says that it is refused, as ever.
    """
    mirror = {"id": 3, "token": "none-of-yours"}
    agent = agents.start(tmp_path / "agent", core.url, mirror, tmp_path / "blobs", NOWHERE)
    started.append(agent)
    until(lambda: core.reports)
    until(lambda: agent.status()["refused"])

    assert [] == core.asked
    assert {"id": 3, "joined_as": None, "fault": None} == agent.status()["mirror"]
    assert "joined" not in agent.status()["message"]


@pytest.mark.parametrize(
    ("core", "address"), [("http://127.0.0.1:8080", "127.0.0.1"), ("http://[::1]", "[::1]")]
)
def test_its_address_is_the_one_that_reaches_the_core(core: str, address: str) -> None:
    """
    As it stands in a URL; nothing is sent, and a core that is not found is no reason not to ask the next.
    """
    assert address == own_address(["http://soup.invalid", core])


def test_without_a_name_it_joins_as_its_address(core: Club, started: list[Agent], tmp_path: Path) -> None:
    """
    `fqdn` is empty, and so is `port`, which then is the scheme's own.
    """
    start(started, tmp_path, core.url, fqdn="", port="", scheme="https")
    until(lambda: core.asked)

    assert {"fqdn": "127.0.0.1", "scheme": "https", "mode": "full"} == core.asked[0][1]


def test_a_listener_for_reports(core: Club, started: list[Agent], tmp_path: Path) -> None:
    """
    With `control` the agent joins and reports there, and goes to `core` for blobs alone.
    """
    with club() as control:
        start(started, tmp_path, core.url, control=control.url)

        until(lambda: len(control.heard()) > 1)
        assert 1 == len(control.asked)
        assert (0, 0) == (len(core.asked), len(core.reports))
