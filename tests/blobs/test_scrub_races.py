"""What happens beside the scrub, and disks that are not as one would wish."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from soup.blobs.service import Blobs
from soup.core.digest import Digest
from soup.core.errors import StoreDown
from soup.core.span import Span
from soup.db.lease import Held, LeaseLost
from soup.stores.base import File, Wrapper
from soup.stores.local import LocalStore
from tests.blobs.conftest import LEEK, Make, copies, gated, keep, on_disk, quarantine, rounds, spoil
from tests.conftest import Kitchen, Time
from tests.databases import KIND


class Pausing(LocalStore):
    """The kitchen's store, which stops where it is told to until it may go on."""

    def __init__(self, blobs: Blobs, at: str) -> None:
        super().__init__(blobs._reading._disk, blobs._store.folder)  # type: ignore[attr-defined]
        self.at, self.asked, self.go_on = at, asyncio.Event(), asyncio.Event()

    async def pause(self, at: str) -> None:
        if at == self.at:
            self.asked.set()
            await self.go_on.wait()

    async def open(self, digest: Digest, span: Span | None = None) -> AsyncIterator[bytes]:
        async for piece in super().open(digest, span):
            yield piece
        await self.pause("read")


class Late(Pausing):
    """Takes whatever file is there: as if a put came between the last look at it and its new name."""

    async def set_aside(self, digest: Digest, file: File) -> bool:
        await self.pause("set aside")
        return await super().set_aside(digest, await self.file(digest) or file)


async def test_the_lease_has_passed_on(kitchen: Kitchen, blobs: Blobs, make: Make, held: Held) -> None:
    """
    A process that slept through its lease sets nothing aside and writes nothing down.
    """
    for data in (b"leek", b"kale"):
        await keep(blobs, data)
    spoil(kitchen, b"kale")
    before = on_disk(kitchen)

    with pytest.raises(LeaseLost):
        await make().run(Held(held.name, held.epoch - 1))

    assert before == on_disk(kitchen)
    assert [] == rounds(kitchen)
    assert [("kept", False)] == await copies(blobs, LEEK)


@pytest.mark.parametrize("again", [False, True])
async def test_deleted_while_it_is_read(
    kitchen: Kitchen, blobs: Blobs, make: Make, held: Held, *, again: bool
) -> None:
    """
    A blob that is deleted, or deleted and sent again, while it is read is left as it is.
    """
    await keep(blobs, b"leek")
    spoil(kitchen, b"leek")
    blobs._store = store = Pausing(blobs, "read")
    run = asyncio.create_task(make().run(held))
    await store.asked.wait()
    await blobs.delete(LEEK)
    if again:
        await keep(blobs, b"leek")
    store.go_on.set()

    assert 1 == await run

    assert not quarantine(kitchen).exists()
    assert [(1, 4, 0, True)] == rounds(kitchen)
    assert (b"leek" if again else b"xxxx") == kitchen.file(LEEK).read_bytes()


@pytest.mark.parametrize("acknowledged", [False, True])
async def test_sent_again_while_it_is_read(
    kitchen: Kitchen, blobs: Blobs, make: Make, held: Held, *, acknowledged: bool
) -> None:
    """
    The file that took the place of the one that was read is not set aside, though its row comes later.
    """
    await keep(blobs, b"leek")
    spoil(kitchen, b"leek")
    inner = blobs._store
    blobs._store = store = Pausing(blobs, "read")
    scrub = make()
    run = asyncio.create_task(scrub.run(held))
    await store.asked.wait()
    blobs._store = inner
    async with gated(blobs) as gate:
        upload = asyncio.create_task(keep(blobs, b"leek"))
        await gate.put_done.wait()
        if acknowledged:
            gate.go_on.set()
            await upload
        store.go_on.set()
        assert 1 == await run
        gate.go_on.set()
        await upload

    assert b"leek" == kitchen.file(LEEK).read_bytes()
    assert {"kept"} == {state for state, _ in await copies(blobs, LEEK)}


async def test_sent_again_before_it_is_set_aside(
    kitchen: Kitchen, blobs: Blobs, make: Make, held: Held
) -> None:
    """
    An upload whose file is set aside in the place of the damaged one puts it again before it is answered.
    """
    await keep(blobs, b"leek")
    spoil(kitchen, b"leek")
    inner, blobs._store = blobs._store, Late(blobs, "set aside")
    store, run = blobs._store, asyncio.create_task(make().run(held))
    blobs._store = inner
    await store.asked.wait()
    async with gated(blobs) as gate:
        upload = asyncio.create_task(keep(blobs, b"leek"))
        await gate.put_done.wait()
        gate.go_on.set()
        store.go_on.set()
        assert 1 == await run
        await upload

    assert b"leek" == (quarantine(kitchen) / LEEK).read_bytes()
    assert b"leek" == kitchen.file(LEEK).read_bytes()
    assert [("kept", False)] == await copies(blobs, LEEK)


async def test_healed_before_it_is_set_aside(kitchen: Kitchen, blobs: Blobs, make: Make, held: Held) -> None:
    """
    An upload that is acknowledged after the doubt and before the quarantine keeps its file.
    """
    await keep(blobs, b"leek")
    spoil(kitchen, b"leek")
    inner, blobs._store = blobs._store, Late(blobs, "never")
    scrub, found = make(), []
    blobs._store, doubt = inner, scrub._damage._doubt

    async def doubted(*arguments: object) -> bool:
        found.append(await doubt(*arguments))  # type: ignore[arg-type]
        await keep(blobs, b"leek")
        return bool(found[-1])

    scrub._damage._doubt = doubted  # type: ignore[method-assign]

    assert 1 == await scrub.run(held)

    assert [True] == found
    assert not quarantine(kitchen).exists()
    assert b"leek" == kitchen.file(LEEK).read_bytes()
    assert [("kept", False)] == await copies(blobs, LEEK)


@pytest.mark.parametrize("before", ["kept", "damaged"])
async def test_doubted_before_it_is_written_down(
    kitchen: Kitchen, blobs: Blobs, make: Make, held: Held, clocks: Time, before: str
) -> None:
    """
    A copy that rots after it was read stays doubted, though the scrub has found it good.
    """
    await keep(blobs, b"leek")
    scrub = make()
    if before == "damaged":
        spoil(kitchen, b"leek")
        await scrub.run(held)
        kitchen.file(LEEK).write_bytes(b"leek")
        clocks.forward(3600)
    save = scrub._save

    async def late(*arguments: Any, **more: Any) -> None:
        clocks.forward(1)
        await keep(blobs, b"leek")
        spoil(kitchen, b"leek")
        copy = await scrub._damage.copy(LEEK)
        assert copy
        assert await scrub._damage.found(copy, await scrub._damage.file(LEEK), "it has other bytes")
        await save(*arguments, **more)

    scrub._save = late  # type: ignore[method-assign]

    assert 1 == await scrub.run(held)

    assert [("damaged", False)] == await copies(blobs, LEEK)
    assert not kitchen.file(LEEK).exists()


async def test_one_that_cannot_be_read(kitchen: Kitchen, blobs: Blobs, make: Make, held: Held) -> None:
    """
    It is told and fails its run, it holds up no others, and nothing is concluded from it.
    """
    for data in (b"leek", b"kale", b"chard"):
        await keep(blobs, data)
    kitchen.file(LEEK).unlink()
    kitchen.file(LEEK).mkdir()

    with capture_logs() as logs, pytest.raises(StoreDown, match="Is a directory"):
        await make().run(held)
    await make().run(held)

    assert [("blob.unreadable", LEEK)] == [
        (log["event"], log["digest"]) for log in logs if log["log_level"] == "error"
    ]
    assert [(3, 9, 0, True)] == rounds(kitchen)
    assert [("kept", False)] == await copies(blobs, LEEK)
    assert [("kept", True)] == await copies(blobs, Digest.of(b"kale"))


async def test_a_disk_that_is_not_mounted(kitchen: Kitchen, blobs: Blobs, make: Make, held: Held) -> None:
    """
    A folder that is gone, or empty, has not lost its blobs.
    """
    await keep(blobs, b"leek")
    folder = kitchen.settings.blobs_folder
    folder.rename(folder.with_name("away"))
    for _ in range(2):
        with pytest.raises(StoreDown):
            await make().run(held)
        KIND.ask(kitchen.settings.data, "delete from scrub")
        folder.mkdir(exist_ok=True)
    folder.rmdir()
    folder.with_name("away").rename(folder)

    assert [("kept", False)] == await copies(blobs, LEEK)
    assert 1 == await make().run(held)
    assert [("kept", True)] == await copies(blobs, LEEK)


async def test_it_cannot_be_set_aside(kitchen: Kitchen, blobs: Blobs, make: Make, held: Held) -> None:
    """
    What is damaged is known and told, though it has to stay where it is.
    """
    await keep(blobs, b"leek")
    spoil(kitchen, b"leek")
    quarantine(kitchen).write_bytes(b"no folder")

    with capture_logs() as logs:
        assert 1 == await make().run(held)

    assert ["blob.damaged", "blob.not_set_aside", "scrub.done"] == [log["event"] for log in logs]
    assert [("damaged", False)] == await copies(blobs, LEEK)
    assert b"xxxx" == kitchen.file(LEEK).read_bytes()


async def test_a_store_without_quarantine(kitchen: Kitchen, blobs: Blobs, make: Make, held: Held) -> None:
    """
    Where nothing can be set aside, it is told what is damaged and what is missing.
    """
    for data in (b"leek", b"kale", b"chard"):
        await keep(blobs, data)
    spoil(kitchen, b"kale")
    kitchen.file(LEEK).unlink()
    inner, blobs._store = blobs._store, Wrapper(blobs._store)
    scrub, blobs._store = make(), inner

    with capture_logs() as logs:
        assert 3 == await scrub.run(held)

    told = {(log["event"], log["digest"]) for log in logs if log["log_level"] == "error"}
    assert {("blob.missing", LEEK), ("blob.damaged", Digest.of(b"kale"))} == told
    assert [("kept", True)] == await copies(blobs, Digest.of(b"chard"))
    assert b"xxxx" == kitchen.file(Digest.of(b"kale")).read_bytes()
