"""A clock on the wall that jumps under the jobs that remove and forget: what is there stays."""

from datetime import timedelta

import pytest

from soup.blobs.service import Blobs
from soup.core.blob import State
from soup.core.digest import Digest
from soup.db.lease import Held
from tests.blobs.conftest import LEEK, keep, lease, state
from tests.conftest import Cook, Kitchen, Time

HOUR, YEAR = timedelta(hours=1), timedelta(days=365)


@pytest.mark.parametrize("jump", [HOUR, -HOUR, YEAR, -YEAR])
async def test_what_is_there_stays(
    kitchen: Kitchen, blobs: Blobs, held: Held, clocks: Time, jump: timedelta
) -> None:
    """
    Whichever way the clock is put, no blob that is present or blocked loses its bytes or is forgotten; a
    deleted one stays gone, and an upload brings it back with all its bytes.
    """
    for data in (b"leek", b"kale", b"chard"):
        await keep(blobs, data)
    await blobs.block(Digest.of(b"kale"), blocked=True)
    await blobs.delete(Digest.of(b"chard"))
    clocks.now += jump
    held = await lease(kitchen)
    for _ in range(2):
        await blobs.sweep(held)
        await blobs.trim(held)

    assert State.PRESENT is (await state(blobs, b"leek"))
    assert State.BLOCKED is (await state(blobs, b"kale"))
    assert (await state(blobs, b"chard")) in {State.GONE, None}
    assert kitchen.file(LEEK).exists()
    assert kitchen.file(Digest.of(b"kale")).exists()
    await keep(blobs, b"chard")
    assert b"chard" == (await kitchen.anyone.get(f"/{Digest.of(b'chard')}")).content


async def test_deleted_while_the_clock_was_ahead(
    kitchen: Kitchen, blobs: Blobs, held: Held, clocks: Time
) -> None:
    """
    The bytes of a blob that was deleted while the clock was an hour ahead are not swept too early: they wait
    for that hour, and the blob is gone all the while.
    """
    await keep(blobs, b"leek")
    clocks.now += HOUR
    await blobs.delete(LEEK)
    clocks.now -= HOUR
    held = await lease(kitchen)

    assert 0 == await blobs.sweep(held)
    assert 404 == (await kitchen.anyone.get(f"/{LEEK}")).status_code
    clocks.now += HOUR + timedelta(seconds=61)
    assert 1 == await blobs.sweep(await lease(kitchen))


async def test_a_reader_after_a_year(cook: Cook, clocks: Time) -> None:
    """
    A clock that ran a year ahead made soup forget a deletion too early: a reader that has not heard of it is
    told so, and misses nothing.
    """
    kitchen = await cook()
    blobs = kitchen.soup.blobs
    await keep(blobs, b"leek")
    await blobs.delete(LEEK)
    clocks.now += YEAR
    held = await lease(kitchen)
    await blobs.sweep(held)
    assert 1 == await blobs.trim(held)
    clocks.now -= YEAR

    late = await kitchen.admin.get("/api/blob:changes?after=1")
    assert 410 == late.status_code
    await keep(blobs, b"kale")
    changes = (await kitchen.admin.get("/api/blob:changes?after=2")).json()
    assert [Digest.of(b"kale")] == [change["digest"] for change in changes["changes"]]
