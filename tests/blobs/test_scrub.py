"""A disk that forgets is found out, and what it has spoilt is set aside."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from soup import metrics
from soup.blobs.scrub import PIECE, Scrub
from soup.blobs.service import Blobs
from soup.core.digest import Digest
from soup.db.lease import Held
from tests.blobs.conftest import LEEK, Make, copies, keep, on_disk, quarantine, rounds
from tests.conftest import Kitchen, Time
from tests.folders import names

BROTH = os.urandom(3 * PIECE + 9)


@pytest.fixture
def scrub(make: Make) -> Scrub:
    return make()


HARM: dict[str, tuple[Callable[[Path], object], str]] = {
    "altered": (lambda file: file.write_bytes(b"leej"), "it has other bytes"),
    "short": (lambda file: os.truncate(file, 3), "it has 3 bytes, not 4"),
    "empty": (lambda file: os.truncate(file, 0), "it has 0 bytes, not 4"),
    "long": (lambda file: os.truncate(file, 4_000_000), "it has more bytes, not 4"),
}


@pytest.mark.parametrize("data", [b"", b"leek", BROTH[:PIECE], BROTH])
async def test_what_is_good(kitchen: Kitchen, blobs: Blobs, scrub: Scrub, held: Held, data: bytes) -> None:
    """
    Every blob is read, whatever its size; when it was last found good is written down.
    """
    digest = (await keep(blobs, data)).digest
    assert [("kept", False)] == await copies(blobs, digest)

    with capture_logs() as logs:
        assert 1 == await scrub.run(held)

    assert [("kept", True)] == await copies(blobs, digest)
    assert [(1, len(data), 0, True)] == rounds(kitchen)
    assert [("scrub.done", 1, len(data), 0)] == [
        (log["event"], log["blobs"], log["bytes"], log["damaged"]) for log in logs
    ]
    assert [data] == [*on_disk(kitchen).values()]


@pytest.mark.parametrize("harm", HARM)
async def test_what_is_damaged(kitchen: Kitchen, blobs: Blobs, scrub: Scrub, held: Held, harm: str) -> None:
    """
    What has other bytes is kept for somebody to look at, where nothing of soup sees it, and is told.
    """
    for data in (b"leek", b"kale", b"chard"):
        await keep(blobs, data)
    act, reason = HARM[harm]
    act(kitchen.file(LEEK))
    harmed = kitchen.file(LEEK).read_bytes()
    before = metrics.BLOBS_DAMAGED._value.get()

    with capture_logs() as logs:
        assert 3 == await scrub.run(held)

    assert [("blob.damaged", LEEK, reason)] == [
        (log["event"], log["digest"], log["reason"]) for log in logs if log["log_level"] == "error"
    ]
    assert 1 == metrics.BLOBS_DAMAGED._value.get() - before
    assert not kitchen.file(LEEK).exists()
    assert harmed == (quarantine(kitchen) / LEEK).read_bytes()
    assert {"damaged"} == {state for state, _ in await copies(blobs, LEEK)}
    assert {"kept"} == {state for state, _ in await copies(blobs, Digest.of(b"kale"))}
    assert 1 == rounds(kitchen)[0][2]
    walked = [blob.digest async for blob in blobs._store.walk()]
    assert sorted(map(Digest.of, (b"chard", b"kale"))) == walked


async def test_a_request_for_it(kitchen: Kitchen, blobs: Blobs, scrub: Scrub, held: Held) -> None:
    """
    Who asks for what is in quarantine is told to come back, or sent to a mirror that has it.
    """
    await keep(blobs, b"leek")
    HARM["altered"][0](kitchen.file(LEEK))
    await scrub.run(held)

    alone = await kitchen.anyone.get(f"/{LEEK}")
    await kitchen.mirror("a.example")
    helped = await kitchen.anyone.get(f"/{LEEK}?direct=1")

    assert 503 == alone.status_code
    assert int(alone.headers["retry-after"]) > 0
    assert (307, f"https://a.example/{LEEK}") == (helped.status_code, helped.headers["location"])


async def test_what_is_missing(
    kitchen: Kitchen, blobs: Blobs, scrub: Scrub, held: Held, clocks: Time
) -> None:
    """
    A file that is not there is told once, and counted in every round.
    """
    await keep(blobs, b"leek")
    kitchen.file(LEEK).unlink()
    before = metrics.BLOBS_DAMAGED._value.get()

    with capture_logs() as logs:
        for _ in range(2):
            assert 1 == await scrub.run(held)
            assert [(1, 0, 1, True)] == rounds(kitchen)
            clocks.forward(3600)

    assert ["blob.missing"] == [log["event"] for log in logs if log["log_level"] == "error"]
    assert 1 == metrics.BLOBS_DAMAGED._value.get() - before
    assert [("damaged", False)] == await copies(blobs, LEEK)
    assert not quarantine(kitchen).exists()


@pytest.mark.parametrize("harm", ["altered", "missing"])
async def test_sent_again(kitchen: Kitchen, blobs: Blobs, scrub: Scrub, held: Held, harm: str) -> None:
    """
    An upload of the same bytes heals it.
    """
    await keep(blobs, b"leek")
    HARM.get(harm, (Path.unlink, ""))[0](kitchen.file(LEEK))
    await scrub.run(held)

    assert not (await keep(blobs, b"leek")).new

    assert {"kept"} == {state for state, _ in await copies(blobs, LEEK)}
    assert b"leek" == (await kitchen.anyone.get(f"/{LEEK}")).content


async def test_put_back_by_hand(
    kitchen: Kitchen, blobs: Blobs, scrub: Scrub, held: Held, clocks: Time
) -> None:
    """
    A file that somebody has restored from a backup is good again in the next round.
    """
    await keep(blobs, b"leek")
    kitchen.file(LEEK).unlink()
    await scrub.run(held)
    kitchen.file(LEEK).write_bytes(b"leek")
    clocks.forward(3600)

    assert 1 == await scrub.run(held)

    assert [("kept", True)] == await copies(blobs, LEEK)


async def test_damaged_twice(kitchen: Kitchen, blobs: Blobs, scrub: Scrub, held: Held, clocks: Time) -> None:
    """
    What lies in quarantine stays there: the second of one name gets another.
    """
    for data in (b"one!", b"two!"):
        await keep(blobs, b"leek")
        kitchen.file(LEEK).write_bytes(data)
        assert 1 == await scrub.run(held)
        clocks.forward(3600)

    first, second = names(quarantine(kitchen))
    assert LEEK == first
    assert second.startswith(f"{LEEK}.")
    assert b"one!" == (quarantine(kitchen) / first).read_bytes()
    assert b"two!" == (quarantine(kitchen) / second).read_bytes()


async def test_an_hour_between_rounds(blobs: Blobs, scrub: Scrub, held: Held, clocks: Time) -> None:
    """
    A small store is not read all day: a round begins an hour after the last one began, at the earliest.
    """
    await keep(blobs, b"leek")
    assert 1 == await scrub.run(held)
    clocks.forward(3599)
    assert 0 == await scrub.run(held)
    clocks.forward(1)
    assert 1 == await scrub.run(held)


async def test_switched_off(kitchen: Kitchen, blobs: Blobs, make: Make, held: Held) -> None:
    """
    At a rate of 0 nothing is read.
    """
    await keep(blobs, b"leek")

    assert 0 == await make(rate=0).run(held)
    assert [] == rounds(kitchen)


async def test_what_is_gone_and_what_is_blocked(
    kitchen: Kitchen, blobs: Blobs, scrub: Scrub, held: Held
) -> None:
    """
    A blocked blob may be wanted again, so it is read as well; one that is gone is not.
    """
    for data in (b"leek", b"kale"):
        await keep(blobs, data)
        HARM["altered"][0](kitchen.file(Digest.of(data)))
    await blobs.delete(LEEK)
    await blobs.block(Digest.of(b"kale"), blocked=True)

    assert 1 == await scrub.run(held)

    assert [Digest.of(b"kale")] == names(quarantine(kitchen))
    assert kitchen.file(LEEK).exists()
