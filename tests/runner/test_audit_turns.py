"""Mirrors asked from outside: who is asked, when, for what, and what happens meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from soup.db.lease import Held
from soup.runner import audit
from tests.conftest import Cook, Time, sha256
from tests.runner.auditing import LARGE, LEEK, Audited, count
from tests.runner.odd import Odd, odd


async def test_who_is_not_asked(audited: Audited, clocks: Time) -> None:
    """
    Nobody asks mirrors that would not be chosen for a reason of their own; as soon as they might be, they
    are.
    """
    await audited.add(LEEK)
    mirror, kitchen = audited.mirror, audited.kitchen
    path = f"/api/cdn/{mirror['id']}"

    await kitchen.admin.patch(path, json={"drained": True})
    assert 0 == await audited.run()
    await kitchen.admin.patch(path, json={"drained": False})
    for says in ({"status": 0}, {"status": 1, "leaving": True}):
        await kitchen.report(mirror, **says)
        assert 0 == await audited.run()
    await kitchen.report(mirror, status=1)
    clocks.forward(41)
    assert 0 == await audited.run()
    assert [] == audited.web.asked
    for status in (1, 3):
        await kitchen.report(mirror, status=status)
        assert 1 == await audited.run()
    assert 2 == len(audited.web.asked)


async def test_its_turn(cook: Cook, web: Odd) -> None:
    """
    A mirror is asked as often as is set, whatever the job is run.
    """
    audited = Audited(await cook(cdn={"audit_seconds": 3600}, jobs={"mirrors_audit_seconds": 3600}), web)
    await audited.add(LEEK)

    assert [1, 0, 0] == [await audited.run() for _ in range(3)]


async def test_what_it_claims(audited: Audited) -> None:
    """
    It is asked for what it says it has, and for nothing else.
    """
    early, late, lacking, large = LEEK, b"turnip", b"chard", LARGE
    await audited.add(early)
    said = (await audited.kitchen.report(audited.mirror, status=1)).json()
    for data in (late, lacking, large):
        await audited.kitchen.keep(data)

    async def asked(**says: Any) -> set[str]:
        audited.web.asked = []
        await audited.kitchen.report(audited.mirror, status=1, **says)
        for _ in range(20):
            await audited.run()
        return {request.split()[1].decode()[1:] for request in audited.web.asked}

    assert {sha256(early)} == await asked(epoch=said["epoch"], synced_to=said["head"])
    audited.web.add(late)
    claims = {"holds": {"largest": 6}, "lacking": [sha256(lacking)]}
    assert {sha256(early), sha256(late)} == await asked(**claims)
    assert set() == await asked(epoch="another", synced_to=4)
    assert set() == await asked(holds={"smallest": 1 << 30})


async def test_far_behind(audited: Audited) -> None:
    """
    A mirror that has but a few of many blobs is asked for one of them.
    """
    await audited.add(LEEK)
    said = (await audited.kitchen.report(audited.mirror, status=1)).json()
    await audited.kitchen.report(audited.mirror, status=1, epoch=said["epoch"], synced_to=said["head"])
    for start in (0, 150):
        await asyncio.gather(*(audited.kitchen.keep(b"%d" % number) for number in range(start, start + 150)))
    before = count("passed")

    for _ in range(10):
        await audited.run()

    assert before + 10 == count("passed")


async def test_a_mirror_that_pulls(audited: Audited) -> None:
    """
    It is asked for small blobs only: a large one it would fetch whole, for nobody.
    """
    await audited.add(LARGE, mode="pull")
    await audited.run()
    assert [] == audited.web.asked

    audited.web.add(LEEK)
    await audited.kitchen.keep(LEEK)
    await audited.run()

    assert 1 == len(audited.web.asked)
    assert (await audited.seen())["audited_at"]


@pytest.mark.parametrize("change", ["deleted", "blocked", "lacking", "drained", "moved"])
async def test_what_changes_meanwhile(audited: Audited, change: str) -> None:
    """
    A wrong answer is none where the blob is gone by then, or the mirror has said that it lacks it, or is
    drained or moved.
    """
    await audited.add(LEEK)
    kitchen, mirror, blob, before = (
        audited.kitchen,
        audited.mirror,
        f"/api/blob/{sha256(LEEK)}",
        count("void"),
    )
    path = f"/api/cdn/{mirror['id']}"
    changes: dict[str, Callable[[], Awaitable[object]]] = {
        "deleted": lambda: kitchen.admin.delete(blob),
        "blocked": lambda: kitchen.admin.patch(blob, json={"blocked": True}),
        "lacking": lambda: kitchen.report(mirror, status=1, lacking=[sha256(LEEK)]),
        "drained": lambda: kitchen.admin.patch(path, json={"drained": True}),
        "moved": lambda: kitchen.admin.patch(path, json={"port": 1}),
    }
    audited.web.way, audited.web.meanwhile = "404", changes[change]

    await audited.run()

    assert None is await audited.reason()
    assert before + 1 == count("void")


@pytest.mark.parametrize(
    "change", [{"fqdn": "localhost"}, {"scheme": "https"}, {"port": 1}, {"mode": "pull"}]
)
async def test_another_address(audited: Audited, change: dict[str, Any]) -> None:
    """
    What was found out about one address says nothing of another; other terms change nothing.
    """
    await audited.add(LEEK)
    await audited.run()
    audited.web.way = "500"
    await audited.run()
    path = f"/api/cdn/{audited.mirror['id']}"
    await audited.kitchen.admin.patch(path, json={"weight": 7, "trusted": False})
    assert await audited.reason()
    assert (await audited.seen())["audited_at"]

    seen = (await audited.kitchen.admin.patch(path, json=change)).json()

    assert [None, None, None] == [seen["doubt"], seen["audited_at"], seen["why"]]


@pytest.mark.parametrize("fault", ["other bytes", "missing"])
async def test_our_own_damage(audited: Audited, fault: str) -> None:
    """
    Where our own copy is the one that is wrong, it is told, and the mirror is not blamed.
    """
    await audited.add(LARGE)
    file, before = audited.kitchen.file(sha256(LARGE)), count("void")
    if fault == "missing":
        file.unlink()
    else:
        file.write_bytes(LARGE[::-1])

    await audited.run()

    assert None is await audited.reason()
    assert before + 1 == count("void")

    async def standing() -> str:
        facts = await audited.kitchen.admin.get(f"/api/blob/{sha256(LARGE)}")
        return str(facts.json()["placements"][0]["state"])

    async with asyncio.timeout(10):
        while "damaged" != await standing():  # noqa: ASYNC110 - nobody sets an event here
            await asyncio.sleep(0.02)


async def test_audit_off(cook: Cook, web: Odd) -> None:
    """
    Nobody is asked, and who is doubted is chosen all the same; on again, it is doubted as before.
    """
    audited = Audited(await cook(cdn={"audit_seconds": 1e-9}, jobs={"mirrors_audit_seconds": 3600}), web)
    await audited.add(LEEK)
    web.way = "500"
    await audited.run()
    doubted, web.asked = await audited.reason(), []
    on = audited.kitchen.settings
    off = on.model_validate({**on.model_dump(), "cdn": {"audit": False, "audit_seconds": 1e-9}})

    audited.kitchen.soup.adopt(off)
    assert 0 == await audited.run()
    assert [] == web.asked
    assert (None, doubted) == ((await audited.seen())["why"], await audited.reason())
    assert 307 == (await audited.kitchen.anyone.get(f"/{sha256(LEEK)}")).status_code
    audited.kitchen.soup.adopt(on)
    assert f"it is doubted: {doubted}" == (await audited.seen())["why"]


async def test_without_the_lease(audited: Audited) -> None:
    """
    A process whose lease has passed on judges nobody.
    """
    await audited.add(LEEK)
    audited.web.way = "500"
    held = await audited.held()

    with capture_logs() as logs:
        await audited.kitchen.soup.audit.run(Held(held.name, held.epoch - 1))

    assert None is await audited.reason()
    assert ["mirror.not_audited"] == [log["event"] for log in logs]


async def test_one_that_hangs_among_others(audited: Audited, web: Odd) -> None:
    """
    It holds up nobody: the others are asked and judged while it is waited for.
    """
    await audited.add(LEEK)
    slow, audited.mirror = audited.mirror, {}
    async with odd() as other:
        other.add(LEEK)
        await audited.kitchen.mirror(**{**other.terms, "fqdn": "localhost"})
        web.way = "hang"
        run = asyncio.create_task(audited.run())
        async with asyncio.timeout(2):
            while not (await audited.kitchen.listed())["localhost"]["audited_at"]:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.02)
        assert not run.done()
        assert (await audited.kitchen.listed())[slow["fqdn"]]["audited_at"] is None
        web.way = "well"
        await web.stop()
        await run


async def test_a_run_ends_in_time(cook: Cook, web: Odd) -> None:
    """
    However many there are to be asked, a run ends before the next, which goes on with those it left.
    """
    audited = Audited(await cook(cdn={"audit_seconds": 3600}, jobs={"mirrors_audit_seconds": 3600}), web)
    audited.kitchen.soup.audit._share = audit.SHARE * 0.4
    web.add(LEEK)
    await audited.kitchen.keep(LEEK)
    for number in range(60):
        await audited.kitchen.mirror(**{**web.terms, "fqdn": f"127.0.0.{number + 1}"})
    began, counts = asyncio.get_running_loop().time(), list[int]()
    while sum(counts) < 60:
        counts.append(await audited.run())
        assert asyncio.get_running_loop().time() - began < 20

    assert len(counts) >= 2
    assert max(counts) <= 1 + audit.RATE * audit.SHARE * 0.4
    assert 60 == sum(counts)
