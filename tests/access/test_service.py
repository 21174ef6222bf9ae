"""Tokens: who has one, for how long, and what is kept of it."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from soup.access.model import Kind
from soup.access.service import Access
from soup.core.bell import Bell
from soup.core.errors import Unauthenticated
from soup.db.lease import Held, LeaseLost
from soup.db.work import Database
from tests.conftest import Kitchen, Time, bearer
from tests.databases import KIND


async def issued(kitchen: Kitchen, kind: Kind) -> str:
    access = kitchen.soup.access
    async with access._database.begin() as work:
        return await access.issue(work, kind)


async def works(kitchen: Kitchen, token: str) -> bool:
    try:
        await kitchen.soup.access.who(token)
    except Unauthenticated:
        return False
    return True


async def rotated(kitchen: Kitchen, mirror: dict[str, Any]) -> str:
    answer = await kitchen.admin.post(f"/api/cdn/{mirror['id']}/token")
    assert 201 == answer.status_code, answer.text
    return str(answer.json()["token"])


def rows(kitchen: Kitchen) -> list[tuple[Any, ...]]:
    """What the table has of tokens."""
    return KIND.ask(
        kitchen.settings.data, "select id, kind, mirror_id, hash, last_used_at from token order by id"
    )


async def test_a_token_that_is_new(kitchen: Kitchen) -> None:
    """
    A token works from the moment it is there, in a process that has never heard of it.
    """
    token = await issued(kitchen, Kind.READ)

    assert Kind.READ == (await kitchen.soup.access.who(token)).kind
    assert await works(kitchen, token)


@pytest.mark.parametrize("token", ["", "soup_", "soup_x", "\0", "ü", "x" * 10_000])
async def test_a_token_nobody_has(kitchen: Kitchen, token: str) -> None:
    """
    What was never issued is nobody's.
    """
    assert not await works(kitchen, token)


async def test_tokens_are_hard_to_guess(kitchen: Kitchen) -> None:
    """
    A token is 32 random bytes, and no two are alike.
    """
    tokens = {await issued(kitchen, Kind.READ) for _ in range(5)}

    assert 5 == len(tokens)
    assert all(len(token) == len("soup_") + 43 for token in tokens)


@pytest.mark.sqlite
async def test_tokens_at_rest(kitchen: Kitchen) -> None:
    """
    No file that soup writes has a token in it, but the one that is there for the administrator.
    """
    mirror = await kitchen.mirror("a.example")
    admin = kitchen.admin.headers["authorization"].removeprefix("Bearer ")
    tokens = [admin, mirror["token"], await rotated(kitchen, mirror), await issued(kitchen, Kind.WRITE)]
    assert all([await works(kitchen, token) for token in tokens[::3]])

    written = {path: path.read_bytes() for path in kitchen.settings.data.rglob("*") if path.is_file()}
    assert {"soup.db", "soup.db-wal"} <= {path.name for path in written}
    found = [path.name for path, data in written.items() for token in tokens if token[5:].encode() in data]
    assert ["admin-token"] == found
    assert {32} == {len(hash) for _, _, _, hash, _ in rows(kitchen)}


@pytest.mark.row("S36")
async def test_the_token_of_a_deleted_mirror(kitchen: Kitchen) -> None:
    """
    A deleted mirror's tokens are gone with it.
    """
    mirror = await kitchen.mirror("a.example")
    before = len(rows(kitchen))
    await kitchen.admin.delete(f"/api/cdn/{mirror['id']}")

    assert not await works(kitchen, mirror["token"])
    assert before - 1 == len(rows(kitchen))


async def test_rotation(kitchen: Kitchen) -> None:
    """
    The old token works until the new one is first used.
    """
    mirror = await kitchen.mirror("a.example")
    new = await rotated(kitchen, mirror)

    assert await works(kitchen, mirror["token"])
    assert await works(kitchen, new)
    assert not await works(kitchen, mirror["token"])
    assert await works(kitchen, new)


async def test_rotation_by_the_clock(kitchen: Kitchen, clocks: Time) -> None:
    """
    A new token that nobody uses ends the old one after a day; it waits for its own first use.
    """
    mirror = await kitchen.mirror("a.example")
    new = await rotated(kitchen, mirror)

    clocks.now += timedelta(hours=24, seconds=-1)
    assert await works(kitchen, mirror["token"])
    clocks.now += timedelta(seconds=1)
    assert not await works(kitchen, mirror["token"])
    clocks.now += timedelta(days=365)
    assert await works(kitchen, new)


async def test_rotating_twice(kitchen: Kitchen, clocks: Time) -> None:
    """
    A second rotation gives the first token no second day, and the last one to be used is the one that stays.
    """
    mirror = await kitchen.mirror("a.example")
    second = await rotated(kitchen, mirror)
    clocks.now += timedelta(hours=23)
    third = await rotated(kitchen, mirror)

    assert [True, True] == [await works(kitchen, mirror["token"]), await works(kitchen, second)]
    assert not await works(kitchen, mirror["token"])
    clocks.now += timedelta(hours=23)
    assert await works(kitchen, second)
    assert await works(kitchen, third)
    assert [False, True] == [await works(kitchen, second), await works(kitchen, third)]


async def test_the_first_use_by_many_at_once(kitchen: Kitchen) -> None:
    """
    A new token that is used many times in one moment is a new token that is used.
    """
    mirror = await kitchen.mirror("a.example")
    new = await rotated(kitchen, mirror)
    answers = await asyncio.gather(
        *(kitchen.anyone.patch(f"/api/cdn/{mirror['id']}", headers=bearer(new)) for _ in range(10))
    )

    assert [200] * 10 == [answer.status_code for answer in answers]
    assert not await works(kitchen, mirror["token"])


async def test_rotating_leaves_others_alone(kitchen: Kitchen) -> None:
    """
    One mirror's rotation is no business of another's tokens.
    """
    mirror, other = await kitchen.mirror("a.example"), await kitchen.mirror("b.example")
    await works(kitchen, await rotated(kitchen, mirror))

    assert await works(kitchen, other["token"])


async def test_when_a_token_was_used(kitchen: Kitchen, clocks: Time) -> None:
    """
    The table says, to the minute, when a token was last used; one that never was has no such moment.
    """
    token, idle = await issued(kitchen, Kind.READ), await issued(kitchen, Kind.READ)
    unused = [row[4] for row in rows(kitchen)[-2:]]
    await works(kitchen, token)
    clocks.forward(61)
    await kitchen.soup.access.refresh()

    assert [None, None] == unused
    assert ["2026-01-01 12:01:01", "None"] == [str(row[4])[:19] for row in rows(kitchen)[-2:]]
    assert not await works(kitchen, f"{idle}x")


async def test_tokens_that_have_expired(kitchen: Kitchen, clocks: Time) -> None:
    """
    The job takes the tokens that have expired out of the table, to the second, and no others.
    """
    access, held = kitchen.soup.access, await kitchen.soup.runner._lease.renew()
    assert held is not None
    before = len(rows(kitchen))
    await access.new(Kind.WRITE, None, timedelta(hours=1))
    longer = await access.new(Kind.READ, None, timedelta(hours=2))
    clocks.forward(3599)
    assert 0 == await access.expire(held)
    clocks.forward(1)

    assert 1 == await access.expire(held)

    assert before + 1 == len(rows(kitchen))
    assert await works(kitchen, longer)
    assert 0 == await access.expire(held)


async def test_the_old_token_of_a_mirror_expires(kitchen: Kitchen, clocks: Time) -> None:
    """
    What a rotation has left behind goes after its day; the new token and the mirror stay.
    """
    mirror = await kitchen.mirror("a.example")
    new = await rotated(kitchen, mirror)
    clocks.forward(86_400)
    held = await kitchen.soup.runner._lease.renew()
    assert held is not None

    assert 1 == await kitchen.soup.access.expire(held)

    assert await works(kitchen, new)
    assert ["a.example"] == [*await kitchen.listed()]


async def test_the_lease_has_passed_on(kitchen: Kitchen, clocks: Time) -> None:
    """
    A process that slept through its lease removes no tokens.
    """
    held = await kitchen.soup.runner._lease.renew()
    assert held is not None
    await kitchen.soup.access.new(Kind.WRITE, None, timedelta(hours=1))
    clocks.forward(3600)
    before = rows(kitchen)

    with pytest.raises(LeaseLost):
        await kitchen.soup.access.expire(Held(held.name, held.epoch - 1))

    assert before == rows(kitchen)


async def test_a_token_that_is_revoked_elsewhere(kitchen: Kitchen) -> None:
    """
    A token that another process has deleted ends here at the next look.
    """
    token = await issued(kitchen, Kind.READ)
    await kitchen.soup.access.refresh()
    KIND.ask(kitchen.settings.data, "delete from token where id = (select max(id) from token)")

    await kitchen.soup.access.refresh()

    assert not await works(kitchen, token)


async def test_a_bell(kitchen: Kitchen, clocks: Time) -> None:
    """
    Two processes that share a bell agree at once, not at the next look.
    """
    bell = Bell()
    database = Database(kitchen.settings.database_url)
    one, other = (Access(database, bell, clock=clocks.utc) for _ in range(2))
    mirror = await kitchen.mirror("a.example")
    await one.refresh()
    await other.refresh()
    new = await rotated(kitchen, mirror)

    assert Kind.MIRROR == (await other.who(mirror["token"])).kind
    await one.who(new)
    with pytest.raises(Unauthenticated):
        await other.who(mirror["token"])
    await database.close()
