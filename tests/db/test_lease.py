"""One process at a time holds a lease."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from soup.db.lease import Held, Lease, LeaseLost, lease
from soup.db.work import Database
from tests.conftest import Cook, Time


@pytest.fixture
def one(database: Database, clocks: Time) -> Lease:
    return Lease(database, "jobs", seconds=10, monotonic=clocks.steady)


@pytest.fixture
def other(database: Database, clocks: Time) -> Lease:
    return Lease(database, "jobs", seconds=10, monotonic=clocks.steady)


async def row(database: Database) -> Any:
    async with database.reading() as session:
        return (await session.execute(select(lease))).one()


async def checked(database: Database, held: Held) -> None:
    async with database.begin() as work:
        await held.check(work.session)


async def test_a_free_lease(one: Lease, database: Database, clocks: Time) -> None:
    """
    The first who asks has it, for as long as it lasts.
    """
    held = await one.renew()

    assert Held("jobs", 1) == held == one.held
    assert clocks.now + timedelta(seconds=10) == (await row(database)).until.replace(tzinfo=UTC)


async def test_a_lease_that_is_held(one: Lease, other: Lease) -> None:
    """
    Nobody else gets it while it lasts.
    """
    await one.renew()

    assert await other.renew() is None
    assert other.held is None


async def test_a_lease_that_is_renewed(one: Lease, other: Lease, clocks: Time) -> None:
    """
    Whoever renews in time keeps it, under the same epoch.
    """
    for _ in range(5):
        assert Held("jobs", 1) == await one.renew()
        assert await other.renew() is None
        clocks.forward(9)


async def test_a_lease_that_ran_out(one: Lease, other: Lease, clocks: Time) -> None:
    """
    The next holder is another epoch, and so is the one after it.
    """
    await one.renew()
    clocks.forward(10)

    assert Held("jobs", 2) == await other.renew()
    assert await one.renew() is None
    clocks.forward(10)
    assert Held("jobs", 3) == await one.renew()


async def test_a_lease_that_is_given_back(one: Lease, other: Lease) -> None:
    """
    Nobody waits for a lease that its holder has let go.
    """
    await one.renew()
    await one.release()

    assert one.held is None
    assert Held("jobs", 2) == await other.renew()


async def test_giving_back_what_is_anothers(one: Lease, other: Lease, clocks: Time) -> None:
    """
    A former holder that lets go takes nothing from the present one.
    """
    await one.renew()
    clocks.forward(11)
    held = await other.renew()
    assert held is not None

    await one.release()

    await checked(database=other._database, held=held)
    assert await one.renew() is None


async def test_a_holder_that_slept(one: Lease, other: Lease, database: Database, clocks: Time) -> None:
    """
    A holder that slept past its lease cannot write: the transaction in which it would is undone.
    """
    held = await one.renew()
    assert held is not None
    clocks.forward(11)
    await other.renew()

    assert one.held is None
    with pytest.raises(LeaseLost):
        await checked(database, held)


async def test_a_holder_that_slept_alone(one: Lease, database: Database, clocks: Time) -> None:
    """
    Past its end and with nobody else there, a lease is not held, but what was begun under it may be written.
    """
    held = await one.renew()
    assert held is not None
    clocks.forward(11)

    assert one.held is None
    await checked(database, held)


async def test_a_lease_until_the_year_2100(
    one: Lease, other: Lease, database: Database, clocks: Time
) -> None:
    """
    An end further ahead than a lease is long was written by a clock that ran ahead: it binds nobody (D18).
    """
    held = await one.renew()
    assert held is not None
    async with database.begin() as work:
        await work.session.execute(update(lease).values(until=datetime(2100, 1, 1, tzinfo=UTC)))

    assert Held("jobs", 2) == await other.renew()
    assert clocks.now + timedelta(seconds=10) == (await row(database)).until.replace(tzinfo=UTC)
    with pytest.raises(LeaseLost):
        await checked(database, held)


@pytest.mark.parametrize("jump", [timedelta(hours=1), timedelta(hours=-1)])
async def test_a_clock_that_jumps(one: Lease, other: Lease, clocks: Time, jump: timedelta) -> None:
    """
    Whichever way the clock of the wall jumps, one process holds the lease, and what it writes counts.
    """
    await one.renew()
    clocks.now += jump

    held = await other.renew()

    assert Held("jobs", 2) == held
    assert await one.renew() is None
    await checked(other._database, held)


@pytest.mark.parametrize("back", [1, 10])
async def test_a_clock_that_is_put_back_a_little(one: Lease, other: Lease, clocks: Time, back: int) -> None:
    """
    Up to the length of a lease, that takes it from nobody.
    """
    await one.renew()
    clocks.now -= timedelta(seconds=back)

    assert await other.renew() is None


async def test_renewed_while_another_asks(cook: Cook, clocks: Time) -> None:
    """
    Who has to wait for the holder, which renews its lease just then, finds it held, however long that took.
    """
    database = (await cook()).soup.blobs._database
    one, other = (Lease(database, "tasks", seconds=10, monotonic=clocks.steady) for _ in range(2))
    await one.renew()
    async with database.begin() as work:
        assert await one._take(work.session)
        asking = asyncio.create_task(other.renew())
        await asyncio.sleep(0.3)
        clocks.forward(60)
        await work.session.execute(
            update(lease).where(lease.c.name == "tasks").values(until=clocks.now + timedelta(seconds=10))
        )

    assert await asking is None


async def test_a_lease_nobody_ever_held(database: Database) -> None:
    """
    What claims a lease that is not in the table may not write.
    """
    with pytest.raises(LeaseLost):
        await checked(database, Held("soup", 1))


async def test_leases_of_other_names(one: Lease, database: Database, clocks: Time) -> None:
    """
    A lease is one name: holding it says nothing of another.
    """
    await one.renew()
    another = Lease(database, "other", seconds=10, monotonic=clocks.steady)

    assert Held("other", 1) == await another.renew()
    assert Held("jobs", 1) == await one.renew()
