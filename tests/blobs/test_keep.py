"""What comes in."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from soup.blobs.model import Kept
from soup.blobs.service import Blobs
from soup.core.blob import State
from soup.core.digest import Digest
from soup.core.errors import (
    BlobBlocked,
    BlobUnknown,
    ClientGone,
    DigestMismatch,
    NoRoom,
    NotAsExpected,
    StoreDown,
    TooLarge,
)
from tests.blobs.conftest import LEEK, gated, keep, on_disk, state, until
from tests.conftest import Cook, Kitchen, Time
from tests.contract import body


async def test_a_new_blob(kitchen: Kitchen, blobs: Blobs) -> None:
    """
    What was kept lies in the store under its name, and everybody finds it at once.
    """
    kept = await keep(blobs, b"leek")

    assert Kept(LEEK, 4, new=True) == kept
    assert (1, 4, State.PRESENT) == await blobs.ask(LEEK.raw)
    assert {f"{LEEK[:3]}/{LEEK}": b"leek"} == on_disk(kitchen)
    facts = await blobs.facts(LEEK)
    assert (4, State.PRESENT, 1) == (facts.size, facts.state, facts.seq)
    assert [("local", "kept")] == [(copy.store, copy.state) for copy in facts.placements]


async def test_the_empty_blob(kitchen: Kitchen, blobs: Blobs) -> None:
    """
    The empty blob is kept like any other.
    """
    kept = await keep(blobs, b"")

    assert Kept(Digest.of(b""), 0, new=True) == kept
    assert [b""] == list(on_disk(kitchen).values())


async def test_other_bytes_than_wanted(kitchen: Kitchen, blobs: Blobs) -> None:
    """
    Bytes that hash to something else are refused, and neither name has them afterwards.
    """
    with pytest.raises(DigestMismatch):
        await keep(blobs, b"kale", LEEK)

    assert {} == on_disk(kitchen)
    assert (await state(blobs, b"leek")) is (await state(blobs, b"kale")) is None
    assert 0 == (await blobs.feed()).head


async def test_the_client_leaves(kitchen: Kitchen, blobs: Blobs) -> None:
    """
    Half a blob is no blob.
    """

    async def half() -> AsyncIterator[bytes]:
        yield bytes(1_000_000)
        raise ClientGone("left")

    with pytest.raises(ClientGone):
        await blobs.keep(half(), None)

    assert {} == on_disk(kitchen)
    assert 0 == (await blobs.feed()).head


async def test_two_at_once(kitchen: Kitchen, blobs: Blobs) -> None:
    """
    Two clients with the same bytes at once both succeed; there is one blob, and it was new to one of them.
    """
    results = await asyncio.gather(*(keep(blobs, b"leek") for _ in range(10)))

    assert 1 == sum(kept.new for kept in results)
    assert {LEEK} == {kept.digest for kept in results}
    assert [LEEK] == [facts.digest for facts in (await blobs.listed(None, 10, State.PRESENT))[1]]
    assert 1 == (await blobs.feed()).head
    assert {f"{LEEK[:3]}/{LEEK}": b"leek"} == on_disk(kitchen)


async def test_many_at_once(kitchen: Kitchen, blobs: Blobs) -> None:
    """
    Blobs that come together are committed together, and each has its own number.
    """
    bodies = [b"%d" % number for number in range(60)]

    results = await asyncio.gather(*(keep(blobs, data) for data in bodies))

    assert all(kept.new for kept in results)
    assert bodies == sorted(on_disk(kitchen).values(), key=int)
    found = [await blobs.ask(kept.digest.raw) for kept in results]
    assert list(range(1, 61)) == sorted(known[0] for known in found if known)
    assert 60 == (await blobs.feed()).head


async def test_once_more(kitchen: Kitchen, blobs: Blobs) -> None:
    """
    A second upload is no change: it takes no number, and it repairs the file.
    """
    await keep(blobs, b"leek")
    kitchen.file(LEEK).write_bytes(b"rot")

    kept = await keep(blobs, b"leek")

    assert Kept(LEEK, 4, new=False) == kept
    assert (1, 4, State.PRESENT) == await blobs.ask(LEEK.raw)
    assert 1 == (await blobs.feed()).head
    assert b"leek" == kitchen.file(LEEK).read_bytes()


async def test_only_if_new(kitchen: Kitchen, blobs: Blobs) -> None:
    """
    What is here is refused, before a byte is sent, to who brings only what is new; what is gone is new.
    """
    await blobs.expect(LEEK, 4, only_new=True)
    await keep(blobs, b"leek")

    with pytest.raises(NotAsExpected):
        await blobs.expect(LEEK, 4, only_new=True)
    with pytest.raises(NotAsExpected):
        await blobs.keep(body(b"leek"), None, only_new=True)

    await blobs.delete(LEEK)
    await blobs.expect(LEEK, 4, only_new=True)
    assert (await blobs.keep(body(b"leek"), LEEK, only_new=True)).new
    assert 1 == len(on_disk(kitchen))


async def test_gone_and_back(blobs: Blobs, clocks: Time) -> None:
    """
    A gone blob that is sent again is new, with a new moment and the next number.
    """
    await keep(blobs, b"leek")
    first = await blobs.facts(LEEK)
    await blobs.delete(LEEK)
    clocks.forward(10)

    kept = await keep(blobs, b"leek")

    assert kept.new
    again = await blobs.facts(LEEK)
    assert (3, State.PRESENT) == (again.seq, again.state)
    assert 10 == (again.created_at - first.created_at).total_seconds()
    assert [("local", "kept")] == [(copy.store, copy.state) for copy in again.placements]


async def test_gone_and_back_by_many(blobs: Blobs, kitchen: Kitchen) -> None:
    """
    However many bring a gone blob back at once, it comes back once, and nothing is left beside it.
    """
    await keep(blobs, b"leek")
    await blobs.delete(LEEK)

    results = await asyncio.gather(*(keep(blobs, b"leek") for _ in range(10)))

    assert 1 == sum(kept.new for kept in results)
    assert 3 == (await blobs.feed()).head
    assert {f"{LEEK[:3]}/{LEEK}": b"leek"} == on_disk(kitchen)


async def test_blocked(kitchen: Kitchen, blobs: Blobs) -> None:
    """
    A blocked blob is refused, by name before it is sent and without a name after; nothing of it is kept.
    """
    await keep(blobs, b"leek")
    await blobs.block(LEEK, blocked=True)
    file = kitchen.file(LEEK).stat().st_ino

    with pytest.raises(BlobBlocked):
        await blobs.expect(LEEK, 4, only_new=False)
    with pytest.raises(BlobBlocked):
        await keep(blobs, b"leek", LEEK)
    with pytest.raises(BlobBlocked):
        await keep(blobs, b"leek")

    assert {f"{LEEK[:3]}/{LEEK}": b"leek"} == on_disk(kitchen)
    assert file == kitchen.file(LEEK).stat().st_ino
    assert State.BLOCKED is (await state(blobs, b"leek"))
    assert 2 == (await blobs.feed()).head


async def test_blocked_in_the_middle(blobs: Blobs) -> None:
    """
    A block that comes while the same blob is being sent wins; who came along with it is not refused.
    """
    await keep(blobs, b"leek")
    async with gated(blobs) as gate:
        uploads = [asyncio.create_task(keep(blobs, data)) for data in (b"leek", b"kale")]
        await gate.put_done.wait()
        await blobs.block(LEEK, blocked=True)
        gate.go_on.set()

        results = await asyncio.gather(*uploads, return_exceptions=True)

    assert isinstance(results[0], BlobBlocked)
    assert Kept(Digest.of(b"kale"), 4, new=True) == results[1]
    assert State.BLOCKED is (await state(blobs, b"leek"))


async def test_too_large(cook: Cook) -> None:
    """
    More than the largest is refused, announced or not, and nothing of it is kept.
    """
    kitchen = await cook(upload={"largest": 10})
    blobs = kitchen.soup.blobs

    with pytest.raises(TooLarge):
        await blobs.expect(None, 11, only_new=False)
    with pytest.raises(TooLarge):
        await keep(blobs, b"a long leek")

    assert {} == on_disk(kitchen)
    assert (await keep(blobs, b"short leek")).new


async def test_no_room(cook: Cook) -> None:
    """
    An upload that would leave too little room is refused, and nothing of it is kept.
    """
    kitchen = await cook(store={"keep_free": 1 << 60})

    with pytest.raises(NoRoom):
        await kitchen.soup.blobs.expect(None, 4, only_new=False)
    with pytest.raises(NoRoom):
        await keep(kitchen.soup.blobs, b"leek")

    assert {} == on_disk(kitchen)
    with pytest.raises(BlobUnknown):
        await kitchen.soup.blobs.facts(LEEK)


async def test_one_of_many_cannot_come_back(kitchen: Kitchen, blobs: Blobs) -> None:
    """
    A gone blob that cannot be put again is refused alone: who came along with it is kept.
    """
    for data in (b"leek", b"kale"):
        await keep(blobs, data)
        await blobs.delete(Digest.of(data))
        kitchen.file(Digest.of(data)).unlink()
    async with gated(blobs) as gate:
        uploads = [asyncio.create_task(keep(blobs, data)) for data in (b"leek", b"kale", b"new")]
        await gate.put_done.wait()
        await until(lambda: len(on_disk(kitchen)) == 3)
        kitchen.file(LEEK).unlink()
        kitchen.file(LEEK).mkdir()
        gate.go_on.set()

        results = await asyncio.gather(*uploads, return_exceptions=True)

    assert isinstance(results[0], StoreDown)
    assert [True, True] == [isinstance(kept, Kept) and kept.new for kept in results[1:]]
    assert State.GONE is (await state(blobs, b"leek"))
