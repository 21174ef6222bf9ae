"""Mirrors that joined are asked before anybody is sent to them, and judged by where they are each time."""

import socket
from typing import Any

import pytest
from structlog.testing import capture_logs

from soup.core import names
from soup.runner import outside
from tests.conftest import Cook, Kitchen, sha256
from tests.runner.auditing import LEEK, Audited, count
from tests.runner.odd import Odd

UNPROVEN = "it joined by itself and has not passed an audit yet"
LARGE = bytes(1 << 20)


class Joined(Audited):
    """A soup with one mirror that joined, which is asked when a test says so."""

    async def join(self, **terms: Any) -> dict[str, Any]:
        """It joins, and reports that it is well."""
        answer = await self.kitchen.admin.post("/api/cdn:join", json={**self.web.terms, **terms})
        assert answer.status_code in {200, 201}, answer.text
        self.mirror = answer.json()
        await self.kitchen.report(self.mirror, status=1)
        return self.mirror

    async def keep(self, *blobs: bytes) -> None:
        """Blobs that core and mirror have."""
        for data in blobs:
            await self.kitchen.keep(data)
            self.web.add(data)

    async def why(self) -> str | None:
        return (await self.seen())["why"]

    def allow(self, *, private: bool) -> None:
        """Take another setting, as after a reload."""
        cdn = self.kitchen.settings.cdn
        join = cdn.join.model_copy(update={"allow_private": private})
        changed = cdn.model_copy(update={"join": join})
        self.kitchen.soup.adopt(self.kitchen.settings.model_copy(update={"cdn": changed}))


SETTINGS: dict[str, Any] = {"cdn": {"audit_seconds": 1e-9, "join": {"allow_private": True}}}
JOBS = {"mirrors_audit_seconds": 3600, "blobs_repair_seconds": 3600, "lease_seconds": 86_400}


@pytest.fixture
async def soup(cook: Cook, web: Odd) -> Joined:
    """Jobs run by hand, it is always a mirror's turn, and one may be on loopback."""
    return Joined(await cook(**SETTINGS, jobs=JOBS), web)


async def place(kitchen: Kitchen, data: bytes) -> int:
    return (await kitchen.anyone.get(f"/{sha256(data)}")).status_code


@pytest.mark.row("S33", "C31")
async def test_nobody_is_sent_there_before_it_has_passed(soup: Joined) -> None:
    """
    It is online by what it says, and chosen from its first passed audit on.
    """
    await soup.keep(LEEK)
    await soup.join()
    seen = await soup.seen()
    assert (True, UNPROVEN, 200) == (seen["online"], seen["why"], await place(soup.kitchen, LEEK))

    assert 1 == await soup.run()

    assert 307 == await place(soup.kitchen, LEEK)
    assert None is await soup.why()
    await soup.join()  # after a new start: it has passed
    assert (None, 307) == (await soup.why(), await place(soup.kitchen, LEEK))


@pytest.mark.row("S33")
@pytest.mark.parametrize("mode", ["full", "pull"])
async def test_a_core_without_any_blob(soup: Joined, mode: str) -> None:
    """
    It is asked for a blob that nobody has, another one each time, and 404 is right.
    """
    before = count("passed")
    await soup.join(mode=mode)
    assert UNPROVEN == await soup.why()

    await soup.run()

    assert None is await soup.why()
    assert before + 1 == count("passed")
    await soup.run()  # who has passed is asked no more for what nobody has
    await soup.join(mode="pull" if mode == "full" else "full")
    await soup.run()
    paths = [request.split()[1] for request in soup.web.asked]
    assert (2, {65}) == (len(set(paths)), {len(path) for path in paths})


async def test_what_it_has_not_got_yet(soup: Joined) -> None:
    """
    One that has synced nothing has not passed, whatever it answers; and one in mode pull is not asked for
    large blobs.
    """
    await soup.kitchen.keep(LARGE)
    feed = (await soup.kitchen.admin.get("/api/blob:changes")).json()
    await soup.join()
    await soup.kitchen.report(soup.mirror, status=1, epoch=feed["epoch"], synced_to=0)
    await soup.run()

    assert (None, []) == ((await soup.seen())["audited_at"], soup.web.asked)
    assert UNPROVEN == await soup.why()
    await soup.join(mode="pull")
    assert UNPROVEN == await soup.why()
    await soup.run()
    assert None is await soup.why()
    assert {sha256(LARGE)} & {request.split()[1].decode()[1:] for request in soup.web.asked} == set()


@pytest.mark.parametrize(("way", "said"), [("page", 200), ("500", 500), ("elsewhere", 302)])
async def test_a_wrong_answer_to_what_nobody_has(
    soup: Joined, monkeypatch: pytest.MonkeyPatch, way: str, said: int
) -> None:
    """
    A page for everything, an error or a redirect is no web server for blobs: it is doubted, and says why.
    """
    soup.web.way = way
    monkeypatch.setattr(soup.web, "blobs", Anything())
    await soup.join()

    await soup.run()

    assert f"it is doubted: it answered {said} for a blob that nobody has" in str(await soup.why())
    monkeypatch.setattr(soup.web, "blobs", {})
    await soup.run()
    assert None is await soup.why()


class Anything(dict[str, bytes]):
    """Has every blob."""

    def get(self, _: object, __: object = None) -> bytes:  # type: ignore[override]
        return LEEK


async def test_no_answer_at_all(soup: Joined, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The list says why it is not chosen yet: it will be with its first right answer.
    """
    monkeypatch.setattr(outside, "SECONDS", 0.2)
    await soup.web.stop()
    await soup.join()
    await soup.run()
    assert str(await soup.why()).startswith("it is doubted: no answer")
    assert None is (await soup.seen())["audited_at"]

    await soup.web.start()
    await soup.run()

    assert None is await soup.why()


@pytest.mark.row("S33")
async def test_a_doubt_outlives_joining(soup: Joined) -> None:
    """
    To join again in another way is no way out of a doubt: to pass is.
    """
    await soup.join()
    await soup.keep(LEEK)
    soup.web.way = "500"
    await soup.run()
    doubted = str(await soup.why())
    assert doubted.startswith("it is doubted: it answered 500")

    await soup.join(mode="pull")

    assert doubted == await soup.why()
    soup.web.way = "well"
    await soup.run()
    assert None is await soup.why()


@pytest.mark.row("C31")
async def test_a_clean_sheet(soup: Joined) -> None:
    """
    Another mode, scheme or address: what was found out says nothing of it, and it has to pass again.
    """
    await soup.keep(LEEK)
    await soup.join()
    await soup.run()
    assert None is await soup.why()

    await soup.join(mode="pull")

    assert (UNPROVEN, 200) == (await soup.why(), await place(soup.kitchen, LEEK))
    await soup.run()
    assert None is await soup.why()
    path = f"/api/cdn/{soup.mirror['id']}"
    assert 200 == (await soup.kitchen.admin.patch(path, json={"scheme": "https"})).status_code
    assert UNPROVEN == await soup.why()


async def test_audits_switched_off(soup: Joined) -> None:
    """
    Nobody would ever pass: then it is believed as others are, and no more when they are switched on again.
    """
    await soup.join()
    settings = soup.kitchen.settings
    off = settings.cdn.model_copy(update={"audit": "off"})

    soup.kitchen.soup.adopt(settings.model_copy(update={"cdn": off}))

    assert None is await soup.why()
    soup.kitchen.soup.adopt(settings)
    assert UNPROVEN == await soup.why()


async def test_other_reasons_come_first(soup: Joined) -> None:
    """
    One that is offline or drained is not asked: that is what the list says.
    """
    await soup.join()
    await soup.kitchen.report(soup.mirror, status=0)
    assert "it says it is offline" == await soup.why()
    await soup.kitchen.report(soup.mirror, status=1)

    await soup.kitchen.admin.patch(f"/api/cdn/{soup.mirror['id']}", json={"drained": True})

    assert "an administrator has drained it" == await soup.why()


@pytest.fixture
def dns(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses of mirror.example, which may change."""
    addresses = ["127.0.0.1"]

    def look(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        if host != "mirror.example":
            raise socket.gaierror(-2, "Name or service not known")
        return [(0, 0, 0, "", (address, 0)) for address in addresses]

    monkeypatch.setattr(names.socket, "getaddrinfo", look)
    return addresses


@pytest.mark.row("S33")
async def test_a_name_that_points_elsewhere_by_now(soup: Joined, dns: list[str]) -> None:
    """
    It is not asked there, but doubted at once with the reason; and cleared when it is back.
    """
    await soup.keep(LEEK)
    await soup.join(fqdn="mirror.example")
    await soup.run()
    assert None is await soup.why()
    asked = len(soup.web.asked)
    dns.append("169.254.169.254")

    with capture_logs() as logs:
        await soup.run()

    assert "it is doubted: no mirror that joins may be at 169.254.169.254" == await soup.why()
    assert (200, asked) == (await place(soup.kitchen, LEEK), len(soup.web.asked))
    assert ["mirror.doubted"] == [log["event"] for log in logs]
    dns.pop()
    await soup.run()
    assert None is await soup.why()


@pytest.mark.row("S33")
async def test_private_networks_that_are_allowed_no_more(soup: Joined) -> None:
    """
    One that has joined from there stays, and is doubted; one that an administrator has added is none of it.
    """
    await soup.keep(LEEK)
    await soup.join()
    await soup.run()
    soup.allow(private=False)

    await soup.run()

    reason = "its address 127.0.0.1 is private, and cdn.join.allow_private is off"
    assert f"it is doubted: {reason}" == await soup.why()
    await soup.kitchen.admin.delete(f"/api/cdn/{soup.mirror['id']}")
    await soup.add()
    await soup.run()
    assert (None, 307) == (await soup.why(), await place(soup.kitchen, LEEK))


@pytest.mark.row("S33")
async def test_repair_asks_nobody_elsewhere(soup: Joined, dns: list[str]) -> None:
    """
    A damaged copy is fetched from a mirror that joined where it may be, and nowhere else.
    """
    await soup.keep(LEEK)
    await soup.join(fqdn="mirror.example")
    await soup.run()
    soup.kitchen.file(sha256(LEEK)).unlink()
    jobs, held = soup.kitchen.soup.runner.jobs, await soup.held()
    await jobs["blobs.scrub"].run(held)
    asked = len(soup.web.asked)
    dns.append("169.254.169.254")

    with capture_logs() as logs:
        assert 0 == await jobs["blobs.repair"].run(held)

    assert asked == len(soup.web.asked)
    assert ["no mirror that joins may be at 169.254.169.254"] == [
        log["reason"] for log in logs if log["event"] == "blob.not_repaired"
    ]
