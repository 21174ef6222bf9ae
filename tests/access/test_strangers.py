"""Tokens that a process does not know: new ones, and those that nobody has."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event

from soup.access.model import Kind
from soup.access.service import Access
from soup.core.bell import Bell
from soup.core.errors import DatabaseDown, Unauthenticated
from soup.db.work import Database
from tests.conftest import Kitchen, Time, bearer

TICKS = 2  # looks that a soup takes by itself, one a second, while a test lasts


@contextmanager
def asked(kitchen: Kitchen, table: str) -> Iterator[list[str]]:
    """The statements about a table that this soup sends to its database meanwhile."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if f"FROM {table}" in statement:
            sent.append(statement)

    database = kitchen.soup.access._database
    engines = database._read.sync_engine, database._write.sync_engine
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    yield sent
    for engine in engines:
        event.remove(engine, "before_cursor_execute", note)


async def stranger(access: Access, token: str) -> bool:
    try:
        await access.who(token)
    except Unauthenticated:
        return True
    return False


async def test_many_strangers_at_once(kitchen: Kitchen) -> None:
    """
    Five hundred requests with tokens that nobody has are all refused, and cost the database a few questions.
    """
    with asked(kitchen, "token") as sent:
        answers = await asyncio.gather(
            *(kitchen.anyone.get("/api/blob:list", headers=bearer(f"soup_{number}")) for number in range(500))
        )

    assert {401} == {answer.status_code for answer in answers}
    assert 1 <= len(sent) <= 5 + TICKS


async def test_strangers_for_a_second(kitchen: Kitchen) -> None:
    """
    However many tokens that nobody has come one after another, the database is asked ten times a second.
    """
    loop, count = asyncio.get_running_loop(), 0
    end = loop.time() + 1

    async def press(name: str) -> None:
        nonlocal count
        while loop.time() < end:
            assert await stranger(kitchen.soup.access, f"{name} {count}")
            count += 1

    with asked(kitchen, "token") as sent:
        await asyncio.gather(*(press(f"n{number}") for number in range(50)))

    assert count > 100
    assert len(sent) <= 11 + TICKS


async def test_the_same_stranger_again(kitchen: Kitchen) -> None:
    """
    A client that sends a token of somebody else's with each request is asked after once a second, and
    waits for nobody after the first.
    """
    loop = asyncio.get_running_loop()
    path, foreign = f"/{await kitchen.keep(b'leek')}", bearer("of another service")
    with asked(kitchen, "token") as sent:
        began = loop.time()
        answers = [await kitchen.anyone.get(path, headers=foreign) for _ in range(50)]
        took = loop.time() - began

    assert {200} == {answer.status_code for answer in answers}
    assert 1 <= len(sent) <= 1 + 2 * TICKS
    assert took < 2


async def test_reports_of_strangers(kitchen: Kitchen) -> None:
    """
    Who reports for a mirror with a token that nobody has costs no question about the mirror either.
    """
    mirror = await kitchen.mirror("a.example")
    await kitchen.anyone.patch(f"/api/cdn/{mirror['id']}", headers=bearer("x"))
    with asked(kitchen, "mirror") as sent:
        codes = [
            (await kitchen.anyone.patch(f"/api/cdn/{id}", headers=bearer("x"))).status_code
            for id in [mirror["id"], 99] * 20
        ]

    assert [401, 404] * 20 == codes
    assert len(sent) <= TICKS


@pytest.fixture
async def elsewhere(kitchen: Kitchen, clocks: Time) -> Any:
    """Access of another core, whose bell nobody here hears."""
    database = Database(kitchen.settings.database_url)
    yield Access(database, Bell(), clock=clocks.utc)
    await database.close()


async def test_a_new_token_among_strangers(kitchen: Kitchen, elsewhere: Access) -> None:
    """
    In a flood of tokens that nobody has, one that another core has just made works the first time it is
    sent, within a moment, and from then on without a question.
    """
    access, over = kitchen.soup.access, asyncio.Event()

    async def press(name: str) -> None:
        number = 0
        while not over.is_set():
            assert await stranger(access, f"{name} {number}")
            number += 1

    pressing = [asyncio.create_task(press(f"n{number}")) for number in range(50)]
    await asyncio.sleep(0.25)
    took = []
    for _ in range(5):
        token = await elsewhere.new(Kind.READ, None, None)
        began = asyncio.get_running_loop().time()
        assert Kind.READ == (await access.who(token)).kind
        took.append(asyncio.get_running_loop().time() - began)
    over.set()
    await asyncio.gather(*pressing)

    assert max(took) < 0.5
    with asked(kitchen, "token") as sent:
        assert [Kind.READ] * 20 == [(await access.who(token)).kind for _ in range(20)]
    assert len(sent) <= TICKS


async def test_a_ring_is_one_look(kitchen: Kitchen) -> None:
    """
    When the bell rings, the requests of that moment read the tokens anew together.
    """
    with asked(kitchen, "token") as sent:
        kitchen.soup.access._bell.ring()
        answers = await asyncio.gather(*(kitchen.admin.get("/api/blob:list") for _ in range(100)))

    assert {200} == {answer.status_code for answer in answers}
    assert 1 <= len(sent) <= 2 + TICKS


async def test_revoked_after_it_was_asked_after(kitchen: Kitchen, elsewhere: Access) -> None:
    """
    A token that was found by itself, and not with all the others, is remembered to the next look at most.
    """
    access = kitchen.soup.access
    token = await elsewhere.new(Kind.READ, None, None)
    id = (await access.who(token)).id
    await elsewhere.revoke(id)
    await access.refresh()

    assert await stranger(access, token)


async def test_a_stranger_while_the_database_is_away(kitchen: Kitchen) -> None:
    """
    A token that cannot be looked up is not called unknown: who has it may try again.
    """
    access = kitchen.soup.access
    lost = Access(Database("postgresql://nobody@127.0.0.1:1/none"), Bell(), clock=access._clock)
    lost._heard = lost._bell.rung

    for _ in range(2):
        with pytest.raises(DatabaseDown):
            await lost.who("soup_x")
    await lost._database.close()
