"""Mirrors that join by themselves: many at once, too many, and those that an administrator throws out."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from soup.access.service import UNUSED
from tests.conftest import Cook, Kitchen, Time
from tests.databases import KIND
from tests.faces.joining import adopt, join, joined, reports

pytestmark = pytest.mark.usefixtures("asked")


@pytest.fixture
async def kitchen(joinable: Kitchen) -> Kitchen:
    """Mirrors may join it."""
    return joinable


@pytest.mark.parametrize("most", [24])
async def test_many_at_once(kitchen: Kitchen, most: int) -> None:
    """
    However many join at one address at one time, they are one mirror, and one of their tokens is left.
    """
    answers = await asyncio.gather(*(join(kitchen) for _ in range(most)))

    assert {201: 1, 200: most - 1} == Counter(answer.status_code for answer in answers)
    assert {1} == {answer.json()["id"] for answer in answers}
    assert [("a.example", 1)] == KIND.ask(kitchen.settings.data, "select fqdn, id from mirror")
    assert [(UNUSED,)] == KIND.ask(kitchen.settings.data, "select count(*) from token where kind = 'mirror'")
    tokens = [answer.json()["token"] for answer in answers]
    assert 1 <= [await reports(kitchen, 1, token) for token in tokens].count(200) <= UNUSED


async def test_a_core_of_the_release_before(kitchen: Kitchen) -> None:
    """
    It knows nothing of mirrors that join: what it adds beside this one has not.
    """
    KIND.ask(
        kitchen.settings.data,
        "insert into mirror (fqdn, scheme, port, mode, weight, trusted, drained, created_at) values"
        " ('c.example', 'https', 443, 'full', 1, true, false, '2026-01-01 12:00:00+00:00') returning id",
    )

    assert not (await kitchen.listed())["c.example"]["joined"]
    assert 409 == (await join(kitchen, "c.example")).status_code


async def test_two_processes_at_once(cook: Cook, file: Path) -> None:
    """
    Two that know nothing of each other but by the database make one mirror as well.
    """
    cdn = {"join": {"token_file": file}}
    one, other = await cook(cdn=cdn), await cook(cdn=cdn)

    for number in range(8):
        name = f"many{number}.example"
        answers = await asyncio.gather(*(join(kitchen, name) for kitchen in (one, other) * 4))

        assert {201: 1, 200: 7} == Counter(answer.status_code for answer in answers)
    assert [(8,)] == KIND.ask(one.settings.data, "select count(*) from mirror")


async def test_joining_switched_off(kitchen: Kitchen) -> None:
    """
    Nobody joins any more, those that have stay, and it may be switched on again.
    """
    mirror = await joined(kitchen)
    adopt(kitchen, enabled=False)

    answers = [await join(kitchen), await join(kitchen, "b.example")]

    assert [(403, "mirrors may not join here: cdn.join.enabled is off")] * 2 == [
        (answer.status_code, answer.json()["detail"]) for answer in answers
    ]
    assert 200 == await reports(kitchen, 1, mirror["token"])
    adopt(kitchen, enabled=True)
    assert 201 == (await join(kitchen, "b.example")).status_code


async def test_no_more_than_may(kitchen: Kitchen) -> None:
    """
    A secret that is known to the wrong people fills no table; those that have joined may join again.
    """
    await kitchen.mirror("c.example")
    adopt(kitchen, most=3)
    codes = Counter([(await join(kitchen, f"many{number}.example")).status_code for number in range(5)])

    assert {201: 3, 507: 2} == codes
    assert "3 mirrors have joined, and no more may (cdn.join.most)" == (await join(kitchen)).json()["detail"]
    assert 200 == (await join(kitchen, "many0.example")).status_code
    await kitchen.admin.delete("/api/cdn/2")
    assert 201 == (await join(kitchen)).status_code


async def test_who_is_silent_for_a_week_makes_room(kitchen: Kitchen, clocks: Time) -> None:
    """
    The one that is silent for longest goes, and none of which an administrator has decided anything.
    """
    adopt(kitchen, most=4)
    tokens = [(await joined(kitchen, f"many{number}.example"))["token"] for number in range(4)]
    await kitchen.admin.patch("/api/cdn/1", json={"trusted": True})
    await kitchen.admin.patch("/api/cdn/2", json={"drained": True})
    clocks.forward(86_400)
    for id, token in enumerate(tokens, 1):
        if id != 3:
            assert 200 == await reports(kitchen, id, token)
    clocks.forward(6 * 86_400 - 1)
    assert 507 == (await join(kitchen)).status_code
    clocks.forward(2)

    assert [201, 507] == [(await join(kitchen, name)).status_code for name in ("a.example", "b.example")]
    assert {"many0.example", "many1.example", "many3.example", "a.example"} == set(await kitchen.listed())
    assert 404 == await reports(kitchen, 3, tokens[2])


async def test_tokens_that_are_never_used(kitchen: Kitchen) -> None:
    """
    To join again and again leaves no more than a few, and the one in use works.
    """
    mirror = await joined(kitchen)
    assert 200 == await reports(kitchen, 1, mirror["token"])
    for _ in range(10):
        last = await joined(kitchen)

    assert [(1 + UNUSED,)] == KIND.ask(
        kitchen.settings.data, "select count(*) from token where kind = 'mirror'"
    )
    assert [200, 200] == [await reports(kitchen, 1, one["token"]) for one in (mirror, last)]


@pytest.mark.row("S33")
async def test_a_mirror_that_is_thrown_out(kitchen: Kitchen) -> None:
    """
    Without `bar` it may join again; with it, it may not until an administrator adds it.
    """
    await joined(kitchen)
    assert 204 == (await kitchen.admin.delete("/api/cdn/1")).status_code
    assert 201 == (await join(kitchen)).status_code
    with capture_logs() as logs:
        assert 204 == (await kitchen.admin.delete("/api/cdn/2?bar=true")).status_code
    assert [("mirror.barred", "a.example", 443)] == [(log["event"], log["fqdn"], log["port"]) for log in logs]

    answer = await join(kitchen)

    assert (403, "an administrator has barred a.example port 443, and may add it again") == (
        answer.status_code,
        answer.json()["detail"],
    )
    assert 201 == (await join(kitchen, port=8443)).status_code
    barred = (await kitchen.admin.get("/api/cdn:barred")).json()
    assert [{"fqdn": "a.example", "port": 443, "since": "2026-01-01T12:00:00.000Z"}] == barred
    added = await kitchen.mirror("a.example")
    assert [] == (await kitchen.admin.get("/api/cdn:barred")).json()
    await kitchen.admin.delete(f"/api/cdn/{added['id']}")
    assert 201 == (await join(kitchen)).status_code


async def test_a_mirror_that_is_given_a_barred_address(kitchen: Kitchen) -> None:
    """
    An administrator who moves a mirror there has nothing against it any more; twice barred is barred.
    """
    await joined(kitchen)
    await kitchen.admin.delete("/api/cdn/1?bar=true")
    mirror = await kitchen.mirror("b.example")
    await kitchen.admin.patch(f"/api/cdn/{mirror['id']}", json={"weight": 2})
    assert 1 == len((await kitchen.admin.get("/api/cdn:barred")).json())

    await kitchen.admin.patch(f"/api/cdn/{mirror['id']}", json={"fqdn": "a.example"})

    assert [] == (await kitchen.admin.get("/api/cdn:barred")).json()
    assert 400 == (await kitchen.admin.delete(f"/api/cdn/{mirror['id']}?bar=perhaps")).status_code
    assert 404 == (await kitchen.admin.delete("/api/cdn/4711?bar=true")).status_code
    assert [] == (await kitchen.admin.get("/api/cdn:barred")).json()


async def test_thrown_out_while_it_joins(kitchen: Kitchen) -> None:
    """
    Whichever comes first: once it is barred, it is no mirror.
    """
    for _ in range(8):
        id = (await joined(kitchen))["id"]
        answers = await asyncio.gather(
            join(kitchen), kitchen.admin.delete(f"/api/cdn/{id}?bar=true"), join(kitchen)
        )
        codes = [answer.status_code for answer in answers]

        assert {} == await kitchen.listed(), codes
        assert {200, 403} >= {codes[0], codes[2]} - {404}
        await kitchen.mirror("a.example")
        (added,) = (await kitchen.listed()).values()
        await kitchen.admin.delete(f"/api/cdn/{added['id']}")
