"""Jobs, and who runs them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from soup import metrics
from soup.core.errors import DatabaseDown
from soup.db.lease import Held, Lease
from soup.db.work import Database
from soup.jobs.service import Runs
from soup.runner.clock import Runner
from soup.runner.table import Job
from tests.conftest import Cook, Time


class Bench:
    """A runner with one job, which writes down under which lease it ran."""

    def __init__(self, database: Database, clocks: Time, fails: BaseException | None = None) -> None:
        self.lease = Lease(database, "jobs", seconds=10, monotonic=clocks.steady)
        self.ran: list[Held] = []
        self.fails = fails
        # The runner asks for its lease every third of these, in real seconds.
        self.runner = Runner(
            self.lease, [Job("soup.stir", 0.02, self.stir)], Runs(database).record, seconds=0.06
        )

    async def stir(self, held: Held) -> int:
        self.ran.append(held)
        if self.fails is not None:
            raise self.fails
        return 1

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.runner.run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await self.runner.settle()

    async def runs(self, more: int = 3) -> None:
        """Wait until the job has run a few times more."""
        wanted = len(self.ran) + more
        await until(lambda: len(self.ran) >= wanted)


async def until(true: Callable[[], object]) -> None:
    """Wait for a condition, ten seconds at most."""
    for _ in range(2000):
        if true():
            return
        await asyncio.sleep(0.005)
    pytest.fail("waited in vain")


Make = Callable[..., Bench]


@pytest.fixture
def bench(database: Database, clocks: Time) -> Make:
    return lambda fails=None: Bench(database, clocks, fails)


def done(result: str) -> float:
    return metrics.JOB_RUNS.labels("soup.stir", result)._value.get()


async def test_one_runner(bench: Make) -> None:
    """
    Whoever is alone gets the lease, and its jobs run under it again and again.
    """
    one = bench()
    before = done("done")
    async with one.running():
        await one.runs()

    assert {Held("jobs", 1)} == set(one.ran)
    assert before + len(one.ran) == done("done")


async def test_two_runners(bench: Make) -> None:
    """
    Of two, one runs the jobs, and the other not once.
    """
    one, other = bench(), bench()
    async with one.running():
        await one.runs()
        async with other.running():
            await one.runs(10)

    assert [] == other.ran


async def test_a_runner_that_stops(bench: Make) -> None:
    """
    When the holder closes, another takes over at once, under the next epoch.
    """
    one, other = bench(), bench()
    async with one.running():
        await one.runs()
    await one.runner.close()
    async with other.running():
        await other.runs()

    assert {Held("jobs", 2)} == set(other.ran)


async def test_a_runner_that_dies(bench: Make, clocks: Time) -> None:
    """
    When the holder is gone without a word, another takes over when the lease has run out, not before.
    """
    one, other = bench(), bench()
    async with one.running():
        await one.runs()
    async with other.running():
        clocks.forward(9.9)
        await asyncio.sleep(0.1)
        early = list(other.ran)
        clocks.forward(0.1)
        await other.runs()

    assert [] == early
    assert {Held("jobs", 2)} == set(other.ran)


async def test_a_runner_that_slept(bench: Make, clocks: Time) -> None:
    """
    A holder that wakes up to find its lease gone stops its jobs.
    """
    one, other = bench(), bench()
    async with one.running():
        await one.runs()
        clocks.forward(11)
        assert Held("jobs", 2) == await other.lease.renew()
        await until(lambda: one.runner._scheduler is None)
        count = len(one.ran)
        await asyncio.sleep(0.1)

    assert count == len(one.ran)
    assert {Held("jobs", 1)} == set(one.ran)


@pytest.mark.parametrize("error", [DatabaseDown("busy"), ValueError("a bug"), TimeoutError()])
async def test_a_job_that_fails(bench: Make, error: Exception) -> None:
    """
    A failing job is a line in the log and a count, and runs again at its next time.
    """
    one = bench(error)
    before = done("failed")
    async with one.running():
        await one.runs()

    assert before + len(one.ran) == done("failed")


async def test_a_database_that_is_down(bench: Make, clocks: Time) -> None:
    """
    A holder that cannot renew goes on until its lease ends, then stops, and starts when it can again.
    """
    one = bench()
    take: Callable[..., Awaitable[object]] = one.lease._take

    async def down(*_: object) -> None:
        raise DatabaseDown("the disk is gone")

    async with one.running():
        await one.runs()
        one.lease._take = down
        await one.runs()
        clocks.forward(10)
        await until(lambda: one.runner._scheduler is None)
        one.lease._take = take
        await one.runs()

    assert {Held("jobs", 1)} == set(one.ran)


@pytest.mark.row("S16")
async def test_the_jobs_of_soup(cook: Cook, clocks: Time) -> None:
    """
    A soup that runs sweeps by itself: nobody asks, and the silent mirror's status becomes 0.
    """
    kitchen = await cook(jobs={"mirrors_sweep_seconds": 0.05, "lease_seconds": 86_400})
    await kitchen.mirror("a.example", status=2)
    clocks.forward(39)
    await asyncio.sleep(0.2)
    before = (await kitchen.listed())["a.example"]["status"]
    clocks.forward(2)

    assert 2 == before
    swept = metrics.JOB_RUNS.labels("mirrors.sweep", "done")._value.get
    wanted = swept() + 2  # the first may have begun before
    await until(lambda: swept() >= wanted)
    assert 0 == (await kitchen.listed())["a.example"]["status"]
