"""Reports on their way to the table, and the sweep that races with them."""

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import httpx
import pytest
from sqlalchemy import event

from soup.core.digest import Digest
from soup.core.errors import DatabaseDown, MirrorUnknown
from soup.db.lease import Held, LeaseLost
from soup.mirrors import queries
from soup.mirrors.model import HEARTBEAT, Report, Status
from tests.conftest import Kitchen, Time, bearer


@contextmanager
def busy(kitchen: Kitchen, seconds: float) -> Iterator[threading.Thread]:
    """Somebody else writes to the database for as long."""
    locked = threading.Event()

    def write() -> None:
        other = sqlite3.connect(kitchen.settings.data / "soup.db", isolation_level=None)
        other.execute("begin immediate")
        locked.set()
        threading.Event().wait(seconds)
        other.execute("rollback")
        other.close()

    thread = threading.Thread(target=write)
    thread.start()
    locked.wait(5)
    yield thread
    thread.join()


async def lease(kitchen: Kitchen) -> Held:
    """The lease of the jobs, which this soup holds as the only one there is."""
    held = await kitchen.soup.runner._lease.renew()
    assert held is not None
    return held


async def status(kitchen: Kitchen, fqdn: str = "a.example") -> tuple[int, bool]:
    seen = (await kitchen.listed())[fqdn]
    return seen["status"], seen["online"]


@pytest.mark.row("S16")
async def test_the_sweep(kitchen: Kitchen, clocks: Time) -> None:
    """
    A silent mirror's status becomes 0 by the sweep; one that reports keeps its own.
    """
    await kitchen.mirror("a.example", status=2)
    talker = await kitchen.mirror("b.example", status=3)
    clocks.forward(39)
    await kitchen.report(talker, status=3)
    assert 0 == await kitchen.soup.mirrors.sweep(await lease(kitchen))
    clocks.forward(2)

    assert (2, False) == await status(kitchen)
    assert 1 == await kitchen.soup.mirrors.sweep(await lease(kitchen))
    assert (0, False) == await status(kitchen)
    assert (3, True) == await status(kitchen, "b.example")
    assert 0 == await kitchen.soup.mirrors.sweep(await lease(kitchen))


@pytest.mark.row("S16")
async def test_why_after_the_sweep(kitchen: Kitchen, clocks: Time) -> None:
    """
    The reason stays what it was: silence, not something the mirror never said.
    """
    await kitchen.mirror("a.example")
    clocks.forward(60)
    before = (await kitchen.listed())["a.example"]["why"]
    await kitchen.soup.mirrors.sweep(await lease(kitchen))

    assert before.startswith("silent for 60 s")
    assert before == (await kitchen.listed())["a.example"]["why"]


@pytest.mark.row("S17")
async def test_a_report_after_the_sweep(kitchen: Kitchen, clocks: Time) -> None:
    """
    One heartbeat and a swept mirror is back: 1 where it was 0.
    """
    digest = await kitchen.keep(b"leek")
    mirror = await kitchen.mirror("a.example", status=2)
    clocks.forward(41)
    await kitchen.soup.mirrors.sweep(await lease(kitchen))
    assert 200 == (await kitchen.anyone.get(f"/{digest}")).status_code

    await kitchen.report(mirror)

    assert (1, True) == await status(kitchen)
    assert 307 == (await kitchen.anyone.get(f"/{digest}")).status_code


@pytest.mark.row("S16")
async def test_a_report_that_races_with_the_sweep(kitchen: Kitchen, clocks: Time) -> None:
    """
    Whichever comes first, the report wins (C45).
    """
    mirror = await kitchen.mirror("a.example")
    held = await lease(kitchen)
    for turn in range(10):
        clocks.forward(60)
        acts = [kitchen.report(mirror, status=2), kitchen.soup.mirrors.sweep(held)]
        await asyncio.gather(*(acts if turn % 2 else reversed(acts)))

        assert (2, True) == await status(kitchen)


@pytest.mark.row("S16")
async def test_a_report_between_the_look_and_the_sweep(kitchen: Kitchen, clocks: Time) -> None:
    """
    A report that is written after the sweep has looked and before it writes wins as well (C45).
    """
    mirror = await kitchen.mirror("a.example")
    held = await lease(kitchen)
    clocks.forward(60)
    with busy(kitchen, 0.5):
        reported = asyncio.create_task(kitchen.report(mirror, status=2))
        await asyncio.sleep(0.2)
        swept = asyncio.create_task(kitchen.soup.mirrors.sweep(held))
        await asyncio.gather(reported, swept)

    assert 0 == swept.result()
    assert (2, True) == await status(kitchen)


async def test_a_sweep_without_the_lease(kitchen: Kitchen, clocks: Time) -> None:
    """
    A sweep by a process whose lease has passed on writes nothing.
    """
    await kitchen.mirror("a.example")
    held = await lease(kitchen)
    clocks.forward(60)

    with pytest.raises(LeaseLost):
        await kitchen.soup.mirrors.sweep(Held(held.name, held.epoch - 1))
    assert (1, False) == await status(kitchen)


@pytest.mark.parametrize("jump", [timedelta(hours=1), timedelta(hours=-1)])
async def test_a_sweep_after_the_clock_has_jumped(kitchen: Kitchen, clocks: Time, jump: timedelta) -> None:
    """
    A clock that jumps puts nobody out of the pool, not through the sweep either (D18).
    """
    digest = await kitchen.keep(b"leek")
    await kitchen.mirror("a.example")
    clocks.forward(10)
    clocks.now += jump

    assert 0 == await kitchen.soup.mirrors.sweep(await lease(kitchen))
    assert (1, True) == await status(kitchen)
    assert 307 == (await kitchen.anyone.get(f"/{digest}")).status_code


@pytest.mark.row("S19")
async def test_reports_that_come_late(kitchen: Kitchen, clocks: Time) -> None:
    """
    A mirror that reports every 30 seconds, each time up to 8 later than it meant to, is never out.
    """
    digest = await kitchen.keep(b"leek")
    mirror = await kitchen.mirror("a.example")
    held = await lease(kitchen)
    codes = set()
    for seconds in (38, 22, 38, 30, 38):
        clocks.forward(seconds)
        await kitchen.soup.mirrors.sweep(held)
        codes.add((await kitchen.anyone.get(f"/{digest}")).status_code)
        await kitchen.report(mirror)
        codes.add((await kitchen.anyone.get(f"/{digest}")).status_code)

    assert {307} == codes


@pytest.mark.sqlite
@pytest.mark.row("S14", "S19")
async def test_a_database_that_is_busy(kitchen: Kitchen, clocks: Time) -> None:
    """
    A report counts from the moment it arrived, not from when the database had time for it.
    """
    mirror = await kitchen.mirror("a.example")
    clocks.forward(30)
    with busy(kitchen, 1):
        await kitchen.report(mirror)

    seen = datetime.fromisoformat((await kitchen.listed())["a.example"]["last_seen"])
    assert timedelta(seconds=0.8) < clocks.now - seen < timedelta(seconds=5)


@pytest.mark.row("S14", "S19")
async def test_many_reports_at_once(kitchen: Kitchen, clocks: Time) -> None:
    """
    Reports that come while one is being written are one write more, and each is acknowledged (D19).
    """
    mirrors = [await kitchen.mirror(f"m{number}.example", status=None) for number in range(50)]
    clocks.forward(5)
    gather = kitchen.soup.mirrors._reports
    write, batches = gather._act, []

    async def counted(heard):
        batches.append(len(heard))
        return await write(heard)

    gather._act = counted
    with busy(kitchen, 0.5):
        await asyncio.gather(*(kitchen.soup.mirrors.report(m["id"], Report(Status.OK)) for m in mirrors))

    listed = (await kitchen.listed()).values()
    assert [(1, True)] * 50 == [(mirror["status"], mirror["online"]) for mirror in listed]
    assert all(clocks.now - datetime.fromisoformat(m["last_seen"]) < timedelta(seconds=4) for m in listed)
    assert 50 == sum(batches)
    assert len(batches) <= 2


async def test_a_mirror_that_reports_twice_in_one_write(kitchen: Kitchen) -> None:
    """
    The last word counts; a heartbeat after it repeats it.
    """
    mirror = await kitchen.mirror("a.example")
    with busy(kitchen, 0.3):
        asks = [
            kitchen.soup.mirrors.report(mirror["id"], said)
            for said in (Report(Status.ERROR), Report(Status.WARNING, message="low disk"), HEARTBEAT)
        ]
        await asyncio.gather(kitchen.report(mirror), *asks)

    seen = (await kitchen.listed())["a.example"]
    assert (2, "low disk") == (seen["status"], seen["message"])


async def test_a_deleted_mirror_among_others(kitchen: Kitchen) -> None:
    """
    One report of nobody does not cost the others of the same write.
    """
    mirror = await kitchen.mirror("a.example", status=None)
    with busy(kitchen, 0.3):
        answers = await asyncio.gather(
            *(kitchen.soup.mirrors.report(id, Report(Status.OK)) for id in (mirror["id"], 99, mirror["id"])),
            return_exceptions=True,
        )

    assert [None, MirrorUnknown, None] == [answer and type(answer) for answer in answers]
    assert (1, True) == await status(kitchen)


async def test_a_report_that_no_database_takes(kitchen: Kitchen) -> None:
    """
    One number that is too great for it does not cost the others of the same write.
    """
    mirrors = [await kitchen.mirror(f"m{number}.example", status=None) for number in range(5)]
    reports = [Report(Status.OK, synced_to=1 << 70 if place == 3 else 0) for place in range(5)]
    answers = await asyncio.gather(
        *(kitchen.soup.mirrors.report(m["id"], report) for m, report in zip(mirrors, reports, strict=True)),
        return_exceptions=True,
    )

    assert [3] == [place for place, answer in enumerate(answers) if answer is not None]
    assert isinstance(answers[3], DatabaseDown | OverflowError)
    listed = (await kitchen.listed()).values()
    assert [True, True, True, False, True] == [mirror["online"] for mirror in listed]


async def test_more_mirrors_than_one_question_can_name(kitchen: Kitchen, clocks: Time) -> None:
    """
    They are read, and swept, some at a time: each database has a limit.
    """
    mirrors = [(await kitchen.mirror(f"{name}.example"))["id"] for name in "ab"]
    clocks.forward(60)
    named = []
    engine, happening = kitchen.soup.database._write.sync_engine, "before_cursor_execute"

    def count(_connection, _cursor, _statement, parameters, *_more):
        named.append(len(parameters))

    many = [mirrors[1], *range(10_000, 11_200), mirrors[0]]
    async with kitchen.soup.database.begin() as work:
        event.listen(engine, happening, count)
        assert mirrors == [one.id for one in await queries.every(work.session, many)]
        assert mirrors == sorted(await queries.silence(work.session, many, clocks.now, 40))
        event.remove(engine, happening, count)

    assert max(named) < queries.SOME + 10


async def test_a_client_that_leaves(kitchen: Kitchen) -> None:
    """
    An agent that gives up waiting has reported all the same, and holds nobody up.
    """
    mirror = await kitchen.mirror("a.example")
    with busy(kitchen, 0.5):
        asked = asyncio.create_task(kitchen.report(mirror, status=2))
        await asyncio.sleep(0.1)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        await kitchen.soup.mirrors.idle()

    assert (2, True) == await status(kitchen)


async def where(kitchen: Kitchen, digest: str, **headers: str) -> str | int:
    answer = await kitchen.anyone.get(f"/{digest}", headers=headers)
    return httpx.URL(answer.headers["location"]).host if answer.is_redirect else answer.status_code


async def test_a_blob_the_mirror_does_not_have_yet(kitchen: Kitchen) -> None:
    """
    A fresh upload is not redirected to a mirror that has not synced it; once it says so, it is.
    """
    old = await kitchen.keep(b"leek")
    mirror = await kitchen.mirror("a.example", status=None)
    said = (await kitchen.report(mirror, status=1)).json()
    await kitchen.report(mirror, status=1, epoch=said["epoch"], synced_to=said["head"])
    new = await kitchen.keep(b"turnip")

    assert ["a.example", 200] == [await where(kitchen, old), await where(kitchen, new)]
    await kitchen.report(mirror, status=1, epoch=said["epoch"], synced_to=said["head"] + 1)
    assert "a.example" == await where(kitchen, new)


async def test_what_a_mirror_does_not_keep(kitchen: Kitchen) -> None:
    """
    A mirror that lacks a blob or keeps no blobs of its size is not asked for it.
    """
    leek, turnip = await kitchen.keep(b"leek"), await kitchen.keep(b"turnip")
    mirror = await kitchen.mirror("a.example")

    await kitchen.report(mirror, status=1, lacking=[leek])
    assert [200, "a.example"] == [await where(kitchen, leek), await where(kitchen, turnip)]
    await kitchen.report(mirror, status=1, holds={"largest": 5})
    assert ["a.example", 200] == [await where(kitchen, leek), await where(kitchen, turnip)]
    await kitchen.report(mirror, status=1)
    assert ["a.example", "a.example"] == [await where(kitchen, leek), await where(kitchen, turnip)]


@pytest.mark.parametrize("header", ["Authorization", "Proxy-Authorization", "Cookie", "X-API-Key"])
async def test_a_request_with_credentials(kitchen: Kitchen, header: str) -> None:
    """
    A request that carries a credential goes to trusted mirrors only, or is answered here (C14a).
    """
    digest = await kitchen.keep(b"leek")
    await kitchen.mirror("open.example", trusted=False)
    alone = await where(kitchen, digest, **{header: "secret"})
    await kitchen.mirror("own.example")

    assert 200 == alone
    found = {await where(kitchen, digest, **{header: "secret"}) for _ in range(20)}
    assert {"own.example"} == found
    assert {"own.example", "open.example"} == {await where(kitchen, digest) for _ in range(30)}


async def test_a_mirror_that_asks(kitchen: Kitchen) -> None:
    """
    A mirror's token asks for the bytes: sent on to a mirror it would come back for ever (C10).
    """
    digest = await kitchen.keep(b"leek")
    mirror = await kitchen.mirror("a.example")

    assert 200 == await where(kitchen, digest, **bearer(mirror["token"]))
    assert "a.example" == await where(kitchen, digest, **bearer("soup_unknown"))
    assert "a.example" == await where(kitchen, digest)


async def test_who_has_a_blob(kitchen: Kitchen) -> None:
    """
    The facts of a blob name the mirrors that would be sent requests for it, and no others.
    """
    digest = Digest(await kitchen.keep(b"leek"))
    await kitchen.mirror("a.example")
    await kitchen.mirror("b.example", status=3)
    lacking = await kitchen.mirror("c.example")
    await kitchen.report(lacking, status=1, lacking=[digest])

    assert ["a.example"] == [m.terms.fqdn for m in await kitchen.soup.mirrors.holders(digest, 1, 4)]
