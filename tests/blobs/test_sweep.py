"""Bytes go last, and never those of a blob that is there (D17)."""

import asyncio

import pytest

from soup.blobs.service import Blobs
from soup.blobs.sweep import AT_ONCE
from soup.core.blob import State
from soup.core.digest import Digest
from soup.db.lease import Held, LeaseLost
from soup.stores.local import SPOOL
from soup.stores.spool import Spooled
from tests.blobs.conftest import LEEK, gated, keep, lease, on_disk, state, until
from tests.conftest import Cook, Kitchen, Time
from tests.contract import body


async def test_a_minute_later(kitchen: Kitchen, blobs: Blobs, held: Held, clocks: Time) -> None:
    """
    The bytes of a deleted blob stay for a minute, for answers that are under way, and then they go.
    """
    await keep(blobs, b"leek")
    await blobs.delete(LEEK)
    clocks.forward(60)
    assert 0 == await blobs.sweep(held)
    assert kitchen.file(LEEK).exists()

    clocks.forward(1)

    assert 1 == await blobs.sweep(held)
    assert {} == on_disk(kitchen)
    assert State.GONE is (await state(blobs, b"leek"))
    assert 0 == await blobs.sweep(held)
    assert 2 == (await blobs.feed()).head


async def test_the_setting(cook: Cook, clocks: Time) -> None:
    """
    How long bytes stay can be set.
    """
    kitchen = await cook(blobs={"swept_seconds": 5})
    blobs, held = kitchen.soup.blobs, await lease(kitchen)
    await keep(blobs, b"leek")
    await blobs.delete(LEEK)

    clocks.forward(4)
    assert 0 == await blobs.sweep(held)
    clocks.forward(2)
    assert 1 == await blobs.sweep(held)


async def test_what_is_there_stays(kitchen: Kitchen, blobs: Blobs, held: Held, clocks: Time) -> None:
    """
    Neither present nor blocked blobs lose their bytes, however old they are.
    """
    for data in (b"leek", b"kale", b"chard"):
        await keep(blobs, data)
    await blobs.block(Digest.of(b"kale"), blocked=True)
    await blobs.delete(Digest.of(b"chard"))
    await keep(blobs, b"chard")
    clocks.forward(1_000_000)

    assert 0 == await blobs.sweep(held)

    assert [b"chard", b"kale", b"leek"] == sorted(on_disk(kitchen).values())


async def test_revived_and_deleted_again(kitchen: Kitchen, blobs: Blobs, held: Held, clocks: Time) -> None:
    """
    The minute counts from the last time it was deleted.
    """
    await keep(blobs, b"leek")
    await blobs.delete(LEEK)
    clocks.forward(50)
    await keep(blobs, b"leek")
    await blobs.delete(LEEK)
    clocks.forward(50)

    assert 0 == await blobs.sweep(held)
    assert kitchen.file(LEEK).exists()
    clocks.forward(11)
    assert 1 == await blobs.sweep(held)


async def test_many(kitchen: Kitchen, blobs: Blobs, held: Held, clocks: Time) -> None:
    """
    One sweep takes all there is to take.
    """
    count = 2 * AT_ONCE + 3
    kept = await asyncio.gather(*(keep(blobs, b"%d" % number) for number in range(count)))
    for one in kept:
        await blobs.delete(one.digest)
    clocks.forward(61)

    assert count == await blobs.sweep(held)
    assert {} == on_disk(kitchen)


async def test_one_that_cannot_go(kitchen: Kitchen, blobs: Blobs, held: Held, clocks: Time) -> None:
    """
    Bytes that cannot be removed hold up nobody, and are tried again.
    """
    for data in (b"leek", b"kale", b"chard"):
        await keep(blobs, data)
        await blobs.delete(Digest.of(data))
    kitchen.file(LEEK).unlink()
    kitchen.file(LEEK).mkdir()
    clocks.forward(61)

    assert 2 == await blobs.sweep(held)
    assert {} == on_disk(kitchen)
    assert 0 == await blobs.sweep(held)

    kitchen.file(LEEK).rmdir()
    kitchen.file(LEEK).touch()
    assert 1 == await blobs.sweep(held)
    assert {} == on_disk(kitchen)


async def test_many_that_cannot_go(kitchen: Kitchen, blobs: Blobs, held: Held, clocks: Time) -> None:
    """
    However many they are, those behind them go, and a sweep ends: it never goes round in circles.
    """
    for number in range(2 * AT_ONCE + 4):
        kept = await keep(blobs, b"%d" % number)
        await blobs.delete(kept.digest)
        kitchen.file(kept.digest).unlink()
        kitchen.file(kept.digest).mkdir()
    clocks.forward(1)
    await keep(blobs, b"leek")
    await blobs.delete(LEEK)
    clocks.forward(61)

    async with asyncio.timeout(20):
        assert 1 == await blobs.sweep(held)
        assert 0 == await blobs.sweep(held)


async def test_what_a_crash_left(kitchen: Kitchen, blobs: Blobs, held: Held) -> None:
    """
    Files of uploads that died go with the sweep; those that live stay.
    """
    left = kitchen.settings.blobs_folder / SPOOL / "upload.0123456789abcdef"
    left.write_bytes(b"half a leek")
    async with blobs._spool.receive(body(b"kale")) as upload:
        alive = Spooled(blobs._spool._disk, left.parent)
        alive._make_named()

        assert 1 == await blobs.sweep(held)

        assert not left.exists()
        assert [alive._name] == list(left.parent.iterdir())
        assert 4 == upload.size
        alive.close()


async def test_the_lease_has_passed_on(kitchen: Kitchen, blobs: Blobs, held: Held, clocks: Time) -> None:
    """
    A process that slept through its lease removes nothing.
    """
    await keep(blobs, b"leek")
    await blobs.delete(LEEK)
    clocks.forward(61)

    with pytest.raises(LeaseLost):
        await blobs.sweep(Held(held.name, held.epoch - 1))

    assert kitchen.file(LEEK).exists()
    assert 1 == await blobs.sweep(held)


async def test_swept_between_file_and_row(kitchen: Kitchen, blobs: Blobs, held: Held, clocks: Time) -> None:
    """
    An upload whose file is swept before its row is written puts it back before it is answered.
    """
    await keep(blobs, b"leek")
    await blobs.delete(LEEK)
    clocks.forward(61)
    async with gated(blobs) as gate:
        upload = asyncio.create_task(keep(blobs, b"leek"))
        await gate.put_done.wait()
        blobs._store = gate.inner
        assert 1 == await blobs.sweep(held)
        assert not kitchen.file(LEEK).exists()
        gate.go_on.set()

        assert (await upload).new

    assert {f"{LEEK[:3]}/{LEEK}": b"leek"} == on_disk(kitchen)
    clocks.forward(1_000)
    assert 0 == await blobs.sweep(held)
    assert kitchen.file(LEEK).exists()


async def test_sent_while_it_is_swept(kitchen: Kitchen, blobs: Blobs, held: Held, clocks: Time) -> None:
    """
    An upload that comes while the sweep is at its file waits for it, and then puts the file back.
    """
    await keep(blobs, b"leek")
    await blobs.delete(LEEK)
    clocks.forward(61)
    async with gated(blobs) as gate:
        sweep = asyncio.create_task(blobs.sweep(held))
        await gate.drop_asked.wait()
        blobs._store = gate.inner
        upload = asyncio.create_task(keep(blobs, b"leek"))
        await until(lambda: blobs._arrivals._task is not None)  # its file is put, it waits for the row
        gate.go_on.set()

        assert 1 == await sweep
        assert (await upload).new

    assert {f"{LEEK[:3]}/{LEEK}": b"leek"} == on_disk(kitchen)
    assert State.PRESENT is (await state(blobs, b"leek"))


async def test_uploads_and_sweeps_at_once(cook: Cook, clocks: Time) -> None:
    """
    However uploads, deletes and sweeps of two processes fall, what is present has its bytes.
    """
    here, there = await cook(blobs={"swept_seconds": 0.001}), await cook(blobs={"swept_seconds": 0.001})
    held = await lease(here)
    bodies = [b"%d" % number for number in range(6)]

    async def cycle(data: bytes) -> None:
        for _ in range(8):
            await keep(there.soup.blobs, data)
            await asyncio.sleep(0)
            await there.soup.blobs.delete(Digest.of(data))
            clocks.forward(1)
            assert (await keep(here.soup.blobs, data)).new
            assert data == here.file(Digest.of(data)).read_bytes()

    async def sweeping() -> None:
        while True:
            clocks.forward(1)
            await here.soup.blobs.sweep(held)

    sweeps = asyncio.create_task(sweeping())
    await asyncio.gather(*map(cycle, bodies))
    sweeps.cancel()
    await asyncio.wait([sweeps])

    assert bodies == sorted(on_disk(here).values())
