"""What is remembered of runs."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import pytest

from soup.core.errors import StoreDown
from soup.db.lease import Held, Lease
from soup.db.work import Database
from soup.jobs.model import Run
from soup.jobs.service import KEPT, Runs
from soup.runner.clock import Runner
from soup.runner.table import Job
from tests.conftest import Kitchen
from tests.databases import KIND

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
async def database(kitchen: Kitchen) -> AsyncIterator[Database]:
    database = Database(kitchen.settings.database_url)
    yield database
    await database.close()


def stirred(number: int, name: str = "soup.stir") -> Run:
    return Run(name, NOON + timedelta(seconds=number), 0.25, "ladle", f"done: {number}")


def results(kitchen: Kitchen, name: str) -> list[str]:
    """What came of each run of a job that is remembered, in order."""
    rows = KIND.ask(kitchen.settings.data, "select name, result from job_run order by id")
    return [result for job, result in rows if job == name]


async def test_the_last_run(database: Database) -> None:
    """
    Of each job the last run comes back as it was recorded, and a job that never ran is not there.
    """
    runs = Runs(database)
    failed = Run("soup.taste", NOON, 1.5, "spoon", "failed: too hot")
    for run in (stirred(2), failed, stirred(1)):
        await runs.record(run)

    last = {run.name: run for run in await runs.last()}

    assert (stirred(1), failed) == (last["soup.stir"], last["soup.taste"])
    assert [False, True] == [last["soup.stir"].failed, last["soup.taste"].failed]
    assert "soup.serve" not in last


async def test_more_runs_than_are_kept(kitchen: Kitchen, database: Database) -> None:
    """
    The last hundred runs of a job are kept, however often another runs.
    """
    runs = Runs(database)
    await runs.record(stirred(0, "soup.taste"))
    for number in range(KEPT + 3):
        await runs.record(stirred(number))

    assert 100 == KEPT
    assert [f"done: {number}" for number in range(3, 103)] == results(kitchen, "soup.stir")
    assert ["done: 0"] == results(kitchen, "soup.taste")


@pytest.mark.parametrize(
    ("fault", "result"),
    [
        (None, "done: 7"),
        (StoreDown("the pot is cracked"), "failed: the pot is cracked"),
        (ValueError("a bug"), "failed: ValueError('a bug')"),
    ],
)
async def test_a_run_is_recorded(
    kitchen: Kitchen, database: Database, fault: Exception | None, result: str
) -> None:
    """
    What a runner ran is written down with its result and its holder, what failed as well.
    """

    async def stir(_: Held) -> int:
        if fault is not None:
            raise fault
        return 7

    lease, runs, over = Lease(database, "stove", seconds=10), Runs(database), asyncio.Event()
    runner = Runner(lease, [Job("soup.stir", 0.02, stir)], runs.record, seconds=10)
    began = datetime.now(UTC)
    task = asyncio.create_task(runner.run(over))
    await until(lambda: results(kitchen, "soup.stir"))
    over.set()
    await task
    await runner.close()

    last = next(run for run in await runs.last() if run.name == "soup.stir")
    assert {result} == set(results(kitchen, "soup.stir"))
    assert (lease.me, result, fault is not None) == (last.holder, last.result, last.failed)
    assert began <= last.started_at <= datetime.now(UTC)
    assert 0 <= last.seconds < 5


async def until(true: Callable[[], object]) -> None:
    """Wait for a condition, ten seconds at most."""
    for _ in range(1000):
        if true():
            return
        await asyncio.sleep(0.01)
    pytest.fail("waited in vain")


async def test_a_runner_that_stands_aside(database: Database) -> None:
    """
    It leaves the lease to others, and runs one job under theirs when it is asked to.
    """
    ran = list[Held]()

    async def stir(held: Held) -> int:
        ran.append(held)
        return 1

    runs, theirs = Runs(database), Lease(database, "stove", seconds=10)
    held = await theirs.renew()
    runner = Runner(
        Lease(database, "stove", seconds=10), [Job("soup.stir", 0.02, stir)], runs.record, seconds=10
    )
    runner.stand_aside()
    await runner.run()

    done = await runner.once("soup.stir")

    assert [held] == ran
    assert held == await theirs.renew()
    assert done == next(run for run in await runs.last() if run.name == "soup.stir")
