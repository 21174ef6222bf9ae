"""How fast the scrub reads, where it goes on, and how it ends."""

import asyncio
import time

import pytest

from soup.blobs import scrub as scrubbing
from soup.blobs.scrub import OPENING, PIECE
from soup.blobs.service import Blobs
from soup.core.digest import Digest
from soup.db.lease import Held
from tests.blobs.conftest import Make, copies, keep, quarantine, rounds, spoil, until
from tests.conftest import Cook, Kitchen
from tests.databases import KIND

MIB = 1 << 20


async def test_the_rate(blobs: Blobs, make: Make, held: Held) -> None:
    """
    So many bytes a second are read, and not many more.
    """
    for number in range(4):
        await keep(blobs, bytes([number]) * MIB)
    began = time.monotonic()

    assert 4 == await make(rate=4 * MIB).run(held)

    assert 0.8 < time.monotonic() - began < 3


async def test_many_small_ones(blobs: Blobs, make: Make, held: Held) -> None:
    """
    However small a blob is, it counts for the work of opening it.
    """
    for number in range(8):
        await keep(blobs, b"%d" % number)
    began = time.monotonic()

    assert 8 == await make(rate=16 * OPENING).run(held)

    assert 0.4 < time.monotonic() - began < 2


async def test_a_run_is_short(kitchen: Kitchen, blobs: Blobs, make: Make, held: Held) -> None:
    """
    A run ends before the next is due; the next goes on behind it, and so does one of another process.
    """
    bodies = [b"%d" % number for number in range(12)]
    for data in bodies:
        await keep(blobs, data)
    began = time.monotonic()
    first = await make(rate=10 * OPENING, seconds=0.5).run(held)
    took = time.monotonic() - began
    assert (first, 0) == rounds(kitchen)[0][::3]

    second = make()
    assert 12 - first == await second.run(held)

    assert 1 < first < 8
    assert took < 2
    assert [(12, sum(map(len, bodies)), 0, True)] == rounds(kitchen)
    assert {("kept", True)} == {copy for data in bodies for copy in await copies(blobs, Digest.of(data))}


@pytest.mark.parametrize("harmed", [False, True])
async def test_one_that_takes_many_runs(
    kitchen: Kitchen, blobs: Blobs, make: Make, held: Held, *, harmed: bool
) -> None:
    """
    A blob that is more than one run can read is read by several, at the rate, and judged at its end.
    """
    data = bytes(6 * PIECE)
    digest = (await keep(blobs, data)).digest
    if harmed:
        with kitchen.file(digest).open("r+b") as file:
            file.seek(-1, 2)
            file.write(b"x")
    scrub = make(rate=20 * PIECE, seconds=0.1)
    began, runs, done = time.monotonic(), 0, 0
    while not done:
        done = await scrub.run(held)
        runs += 1
        assert time.monotonic() < began + 20

    assert 0.2 < time.monotonic() - began
    assert 2 < runs
    assert [1 if harmed else 0] == [damaged for _, _, damaged, _ in rounds(kitchen)]
    assert [digest] * harmed == [path.name for path in quarantine(kitchen).glob("*")]


async def test_it_is_replaced_between_two_runs(
    kitchen: Kitchen, blobs: Blobs, make: Make, held: Held
) -> None:
    """
    What is read in part and then sent again is read from its start.
    """
    data = bytes(3 * PIECE)
    digest = (await keep(blobs, data)).digest
    spoil(kitchen, data)
    scrub = make(rate=10 * PIECE, seconds=0.1)
    assert 0 == await scrub.run(held)
    assert scrub._reading is not None
    await keep(blobs, data)
    scrub._rate = 1 << 40

    assert 1 == await scrub.run(held)

    assert [("kept", True)] == await copies(blobs, digest)


async def test_many(kitchen: Kitchen, blobs: Blobs, make: Make, held: Held, monkeypatch) -> None:
    """
    A round goes through all there are, group by group.
    """
    monkeypatch.setattr(scrubbing, "GROUP", 5)
    bodies = [b"%d" % number for number in range(23)]
    await asyncio.gather(*(keep(blobs, data) for data in bodies))

    assert 23 == await make().run(held)

    assert [(23, sum(map(len, bodies)), 0, True)] == rounds(kitchen)


async def test_a_long_sleep(blobs: Blobs, make: Make, held: Held) -> None:
    """
    A run that would sleep for hours ends when its lease is over.
    """
    await keep(blobs, b"leek")
    run = asyncio.create_task(make(rate=1, seconds=3600).run(held))
    await asyncio.sleep(0.1)
    assert not run.done()

    held.over.set()

    async with asyncio.timeout(1):
        assert 0 == await run


async def test_it_stops_in_the_middle(kitchen: Kitchen, blobs: Blobs, make: Make, held: Held) -> None:
    """
    What was found before the lease was over is kept, and gone on from.
    """
    for number in range(20):
        await keep(blobs, b"%d" % number)
    run = asyncio.create_task(make(rate=4 * OPENING).run(held))
    await asyncio.sleep(0.7)
    held.over.set()
    async with asyncio.timeout(1):
        first = await run

    assert 1 <= first <= 10
    assert (first, False) == rounds(kitchen)[0][::3]
    assert 20 - first == await make().run(Held(held.name, held.epoch))


async def test_the_end_of_a_worker(cook: Cook) -> None:
    """
    A scrub that sleeps does not hold up the end of its process, and its run is written down.
    """
    kitchen = await cook(scrub={"bytes_per_second": 1}, jobs={"blobs_scrub_seconds": 0.1})
    await keep(kitchen.soup.blobs, b"leek")
    runner = kitchen.soup.runner
    runner.jobs["blobs.scrub"].run.__self__._share = 3600  # type: ignore[attr-defined]
    await until(lambda: bool(runner._under_way))
    await asyncio.sleep(0.2)

    async with asyncio.timeout(2):
        await runner.close()

    assert not runner._under_way
    runs = KIND.ask(kitchen.settings.data, "select result, holder from job_run where name = 'blobs.scrub'")
    assert ("done: 0", runner._lease.me) == runs[-1]
