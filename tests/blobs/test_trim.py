"""Forgetting what has been gone for long, a little at a time."""

from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from soup.blobs import queries
from soup.blobs.service import Blobs
from soup.core.digest import Digest
from soup.db.lease import LeaseLost, lease
from tests.blobs.conftest import keep
from tests.blobs.conftest import lease as leased
from tests.conftest import Kitchen, Time

BLOBS = [b"%d" % number for number in range(5)]
MONTH = 31 * 86_400


@pytest.fixture
async def gone(kitchen: Kitchen, blobs: Blobs, clocks: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five blobs that are to be forgotten, two in one transaction."""
    monkeypatch.setattr("soup.blobs.service.TRIMMED", 2)
    for data in BLOBS:
        await keep(blobs, data)
    for data in BLOBS:
        clocks.forward(1)
        await blobs.delete(Digest.of(data))
    clocks.forward(MONTH)
    await blobs.sweep(await leased(kitchen))


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many were forgotten in each transaction."""
    found, trim = list[int](), queries.trim

    async def counted(session: AsyncSession, before: datetime, *more: Any) -> int:
        found.append(await trim(session, before, *more))
        return found[-1]

    monkeypatch.setattr(queries, "trim", counted)
    return found


@pytest.mark.usefixtures("gone")
async def test_a_few_at_a_time(kitchen: Kitchen, blobs: Blobs, turns: list[int]) -> None:
    """
    All are forgotten, and no transaction is long, however many they are.
    """
    assert 5 == await blobs.trim(await leased(kitchen))

    assert [2, 2, 1] == turns
    assert 10 == (await blobs.changes(10, None, 10, 0)).feed.floor


@pytest.mark.usefixtures("gone")
async def test_the_lease_passes_on(kitchen: Kitchen, blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What was forgotten until then is below the floor; the rest is left to the next holder.
    """
    held, trim = await leased(kitchen), queries.trim

    async def lost(session: AsyncSession, before: datetime, *more: Any) -> int:
        await session.execute(update(lease).where(lease.c.name == held.name).values(epoch=held.epoch + 1))
        return await trim(session, before, *more)

    monkeypatch.setattr(queries, "trim", lost)

    with pytest.raises(LeaseLost):
        await blobs.trim(held)

    found = await blobs.changes(7, None, 10, 0)
    assert (7, [8, 9, 10]) == (found.feed.floor, [change.seq for change in found.changes])


@pytest.mark.usefixtures("gone")
async def test_the_process_stops(kitchen: Kitchen, blobs: Blobs, turns: list[int]) -> None:
    """
    It waits for no more than the transaction that is under way.
    """
    held = await leased(kitchen)
    held.over.set()

    assert 0 == await blobs.trim(held)
    assert [] == turns
