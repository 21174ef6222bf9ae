"""Damage that is found and put right again from a mirror."""

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from soup import metrics
from soup.blobs import queries
from soup.core.blob import Blob
from soup.core.digest import Digest
from soup.db.lease import Held
from soup.runner.repair import Repair
from tests.conftest import Cook, Kitchen, sha256
from tests.runner.odd import Odd, odd

LEEK = b"leek"
LARGE = bytes(range(256)) * 4000


@pytest.fixture
async def kitchen(cook: Cook) -> Kitchen:
    """Jobs run by hand."""
    seconds = {"mirrors_audit_seconds": 3600, "blobs_repair_seconds": 3600, "lease_seconds": 86_400}
    return await cook(jobs=seconds)


async def run(kitchen: Kitchen, job: str = "blobs.repair", epoch: int = 0) -> int:
    """A job, to its end; `epoch` is by how much its lease is older than it should be."""
    held = await kitchen.soup.runner._lease.renew()
    assert held
    return await kitchen.soup.runner.jobs[job].run(Held(held.name, held.epoch - epoch))


def repair(kitchen: Kitchen) -> Repair:
    """What the job is."""
    return kitchen.soup.runner.jobs["blobs.repair"].run.__self__  # type: ignore[attr-defined]


async def facts(kitchen: Kitchen, data: bytes) -> dict[str, Any]:
    answer = await kitchen.admin.get(f"/api/blob/{sha256(data)}")
    assert 200 == answer.status_code
    return dict(answer.json())


async def standing(kitchen: Kitchen, data: bytes) -> str:
    return str((await facts(kitchen, data))["placements"][0]["state"])


async def until(true: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(10):
        while not await true():  # noqa: ASYNC110 - nobody sets an event here
            await asyncio.sleep(0.02)


async def damaged(kitchen: Kitchen, *blobs: bytes, how: str = "other bytes") -> None:
    """Blobs that are not what they should be, which the scrub has found out."""
    for data in blobs:
        await kitchen.keep(data)
        spoil(kitchen, data, how)
    await run(kitchen, "blobs.scrub")
    assert ["damaged"] * len(blobs) == [await standing(kitchen, data) for data in blobs]


def spoil(kitchen: Kitchen, data: bytes, how: str) -> None:
    file = kitchen.file(sha256(data))
    if how == "missing":
        file.unlink()
    elif how == "shorter":
        file.write_bytes(data[:-1])
    else:
        file.write_bytes(bytes(byte ^ 1 for byte in data))


@pytest.mark.parametrize("how", ["other bytes", "shorter", "missing"])
@pytest.mark.parametrize("data", [LEEK, LARGE], ids=["small", "large"])
async def test_from_a_mirror(kitchen: Kitchen, web: Odd, data: bytes, how: str) -> None:
    """
    Its bytes are back under its name, and for everybody else nothing has happened.
    """
    await damaged(kitchen, data, how=how)
    before, repaired = await facts(kitchen, data), metrics.BLOBS_REPAIRED._value.get()
    received = metrics.BLOBS_RECEIVED.labels("known")._value.get()
    mirror = await kitchen.mirror(**web.terms)
    web.add(data)

    with capture_logs() as logs:
        assert 1 == await run(kitchen)

    assert data == kitchen.file(sha256(data)).read_bytes()
    assert data == (await kitchen.anyone.get(f"/{sha256(data)}?direct=1")).content
    after = await facts(kitchen, data)
    assert ("kept", "damaged") == (after["placements"][0]["state"], before["placements"][0]["state"])
    same = ("digest", "size", "seq", "created_at", "state")
    assert [before[name] for name in same] == [after[name] for name in same]
    told = {"digest": sha256(data), "mirror": mirror["id"]}
    assert [told] == [{name: log[name] for name in told} for log in logs if log["event"] == "blob.repaired"]
    assert repaired + 1 == metrics.BLOBS_REPAIRED._value.get()
    assert received == metrics.BLOBS_RECEIVED.labels("known")._value.get()
    assert 0 == await run(kitchen)
    assert 1 == len(web.asked)


@pytest.mark.parametrize("way", ["404", "page", "short", "long", "wrong", "elsewhere", "close", "not HTTP"])
async def test_a_mirror_that_is_no_help(kitchen: Kitchen, web: Odd, way: str) -> None:
    """
    What is not the blob is not kept, and the next mirror is asked.
    """
    await damaged(kitchen, LEEK)
    web.add(LEEK)
    web.way = way
    await kitchen.mirror(**web.terms)
    repair(kitchen)._dice.shuffle = lambda found: found.sort(key=lambda mirror: mirror.id)  # type: ignore[method-assign]
    async with odd() as other:
        other.add(LEEK)
        await kitchen.mirror(**{**other.terms, "fqdn": "localhost"})

        with capture_logs() as logs:
            assert 1 == await run(kitchen)

    assert ["blob.not_repaired", "blob.repaired"] == [log["event"] for log in logs]
    assert LEEK == kitchen.file(sha256(LEEK)).read_bytes()
    assert "kept" == await standing(kitchen, LEEK)


async def test_nobody_has_it(kitchen: Kitchen, web: Odd) -> None:
    """
    It holds up no others, and is tried again later and later.
    """
    await damaged(kitchen, LEEK, b"kale", b"chard")
    web.add(b"chard")
    await kitchen.mirror(**web.terms)

    assert 1 == await run(kitchen)
    assert ["damaged", "damaged", "kept"] == [
        await standing(kitchen, data) for data in (LEEK, b"kale", b"chard")
    ]
    asked = len(web.asked)
    assert 0 == await run(kitchen)
    assert asked == len(web.asked)
    resting = repair(kitchen)._resting
    assert {10.0} == {rest.pause for rest in resting.values()}

    for wanted in (20.0, 40.0):
        later(kitchen, 0)
        assert 0 == await run(kitchen)
        assert {wanted} == {rest.pause for rest in repair(kitchen)._resting.values()}
    web.add(LEEK)
    later(kitchen, 0)
    assert 1 == await run(kitchen)


async def test_those_that_are_healed_or_deleted(kitchen: Kitchen, web: Odd) -> None:
    """
    What was tried in vain and is damaged no more is not remembered for ever.
    """
    await damaged(kitchen, LEEK, b"kale", b"chard")
    await kitchen.mirror(**web.terms)
    await run(kitchen)
    await kitchen.keep(LEEK)
    await kitchen.admin.delete(f"/api/blob/{sha256(b'kale')}")

    later(kitchen, 3601)
    await run(kitchen)

    assert {sha256(b"chard")} == set(repair(kitchen)._resting)


def later(kitchen: Kitchen, seconds: float) -> None:
    """It is so long since what could not be had was to be tried again."""
    resting, until = repair(kitchen)._resting, asyncio.get_running_loop().time() - seconds
    resting.update({digest: type(rest)(rest.pause, until) for digest, rest in resting.items()})


async def test_a_disk_that_takes_its_time(
    kitchen: Kitchen, web: Odd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Nobody waits for the database while a large blob goes to the disk.
    """
    await damaged(kitchen, LARGE)
    web.add(LARGE)
    await kitchen.mirror(**web.terms)
    began, go_on, sync = threading.Event(), threading.Event(), os.fsync

    def slowly(fd: int) -> None:
        if os.fstat(fd).st_size == len(LARGE):
            began.set()
            go_on.wait(20)
        sync(fd)

    monkeypatch.setattr(os, "fsync", slowly)
    job = asyncio.create_task(run(kitchen))
    try:
        await asyncio.to_thread(began.wait, 10)
        async with asyncio.timeout(2), kitchen.soup.blobs._database.begin() as work:
            rows = await queries.states(work.session, [Digest.of(LARGE)])
    finally:
        go_on.set()

    assert [Digest.of(LARGE)] == [*rows]
    assert 1 == await job


async def test_many_that_nobody_has(kitchen: Kitchen, web: Odd, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A run looks at so many and the next one goes on behind them: no number of them hides another.
    """
    monkeypatch.setattr("soup.runner.repair.LOOKED", 2)
    await damaged(kitchen, *(b"%d" % number for number in range(5)))
    web.add(b"4")
    await kitchen.mirror(**web.terms)

    assert [0, 0, 1, 0] == [await run(kitchen) for _ in range(4)]


async def test_a_blob_that_is_blocked(kitchen: Kitchen, web: Odd) -> None:
    """
    It is left alone until it is blocked no more.
    """
    await damaged(kitchen, LEEK)
    web.add(LEEK)
    await kitchen.mirror(**web.terms)
    await kitchen.admin.patch(f"/api/blob/{sha256(LEEK)}", json={"blocked": True})

    assert 0 == await run(kitchen)
    assert [] == web.asked
    await kitchen.admin.patch(f"/api/blob/{sha256(LEEK)}", json={"blocked": False})
    assert 1 == await run(kitchen)


@pytest.mark.parametrize("change", ["deleted", "sent again", "blocked"])
async def test_what_changes_meanwhile(kitchen: Kitchen, web: Odd, change: str) -> None:
    """
    What is deleted while it is fetched is not brought back; what is sent again is good already.
    """
    await damaged(kitchen, LEEK)
    web.add(LEEK)
    await kitchen.mirror(**web.terms)
    path = f"/api/blob/{sha256(LEEK)}"
    changes: dict[str, Callable[[], Awaitable[object]]] = {
        "deleted": lambda: kitchen.admin.delete(path),
        "blocked": lambda: kitchen.admin.patch(path, json={"blocked": True}),
        "sent again": lambda: kitchen.keep(LEEK),
    }
    web.meanwhile = changes[change]

    assert 0 == await run(kitchen)

    assert (change == "sent again") == kitchen.file(sha256(LEEK)).exists()


async def test_the_lease_has_passed_on(kitchen: Kitchen, web: Odd) -> None:
    """
    A process that slept through its lease puts nothing anywhere.
    """
    await damaged(kitchen, LEEK)
    web.add(LEEK)
    await kitchen.mirror(**web.terms)

    assert 0 == await run(kitchen, epoch=1)

    assert not kitchen.file(sha256(LEEK)).exists()
    assert "damaged" == await standing(kitchen, LEEK)


@pytest.mark.parametrize("how", ["other bytes", "shorter", "missing"])
async def test_an_answer_that_finds_damage(kitchen: Kitchen, web: Odd, how: str) -> None:
    """
    It is written down and set aside behind the answer, once however many ask, and put right from a mirror.
    """
    await kitchen.keep(LEEK)
    spoil(kitchen, LEEK, how)
    before = metrics.BLOBS_DAMAGED._value.get()

    with capture_logs() as logs:
        answers = [await kitchen.anyone.get(f"/{sha256(LEEK)}") for _ in range(5)]
        await until(lambda: moved(before))

    assert [503] * 5 == [answer.status_code for answer in answers]
    assert before + 1 == metrics.BLOBS_DAMAGED._value.get()
    assert "damaged" == await standing(kitchen, LEEK)
    event = "blob.missing" if how == "missing" else "blob.damaged"
    reasons = {
        "missing": "it is not in the store",
        "shorter": "it has 3 bytes, not 4",
        "other bytes": "it has other bytes",
    }
    assert (event, reasons[how]) in [(log["event"], log.get("reason")) for log in logs]
    await until(lambda: aside(kitchen, how))
    web.add(LEEK)
    await kitchen.mirror(**web.terms)
    assert 1 == await run(kitchen)
    assert LEEK == (await kitchen.anyone.get(f"/{sha256(LEEK)}?direct=1")).content


async def moved(before: float) -> bool:
    return before < metrics.BLOBS_DAMAGED._value.get()


async def aside(kitchen: Kitchen, how: str) -> bool:
    return (kitchen.settings.blobs_folder / ".quarantine" / sha256(LEEK)).exists() == (how != "missing")


async def test_a_suspicion_that_is_wrong(kitchen: Kitchen) -> None:
    """
    A copy that is good stays where it is, whoever doubts it.
    """
    await kitchen.keep(LEEK)

    kitchen.soup.blobs.suspect(Blob(Digest.of(LEEK), len(LEEK)))
    kitchen.soup.blobs.suspect(Blob(Digest.of(b"nobody's"), 8))
    suspects = kitchen.soup.blobs._suspects
    async with asyncio.timeout(10):
        while suspects._task is not None:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.02)

    assert "kept" == await standing(kitchen, LEEK)
    assert LEEK == kitchen.file(sha256(LEEK)).read_bytes()


async def test_more_suspects_than_can_be_looked_at(kitchen: Kitchen) -> None:
    """
    Only so many wait, and one of them once: what is left out is found by the next who asks, or by the scrub.
    """
    suspects = kitchen.soup.blobs._suspects
    for number in range(2000):
        suspects.add(Blob(Digest.of(b"%d" % number), 1))
        suspects.add(Blob(Digest.of(b"0"), 1))

    assert 256 == len(suspects._waiting) == len(suspects._looked)
