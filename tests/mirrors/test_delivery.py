"""What mirrors have delivered: totals that grow become bytes and requests of a day."""

import asyncio
from datetime import date
from typing import Any

import pytest

from soup import metrics
from soup.mirrors.model import Counted, Delivery, Report, Status
from tests.conftest import Kitchen, Time, bearer
from tests.databases import KIND

MOST = (1 << 62) - 1


def said(boot: str | None, **totals: int) -> Report:
    return Report(Status.OK, boot_id=boot, totals=totals)


async def totals(kitchen: Kitchen, mirror: dict[str, Any], boot: str | None, **grown: int) -> None:
    await kitchen.report(mirror, status=1, totals=grown, **({"boot_id": boot} if boot else {}))


async def delivered(kitchen: Kitchen, fqdn: str = "a.example") -> tuple[int, int, int, int]:
    """Bytes and requests in all, and those of today."""
    seen = (await kitchen.listed())[fqdn]["delivered"]
    return seen["bytes"], seen["requests"], seen["today"]["bytes"], seen["today"]["requests"]


@pytest.mark.parametrize(
    ("before", "report", "grown", "after"),
    [
        (Counted(), said("a", bytes=5, requests=2), (5, 2), ("a", 5, 2)),
        (Counted("a", 5, 2), said("a", bytes=9, requests=3), (4, 1), ("a", 9, 3)),
        (Counted("a", 5, 2), said("a", bytes=5, requests=2), (0, 0), ("a", 5, 2)),
        (Counted("a", 5, 2), said("b", bytes=3, requests=1), (3, 1), ("b", 3, 1)),
        (Counted("a", 5, 2), said("a", bytes=3, requests=1), (0, 0), ("a", 3, 1)),
        (Counted("a", 5, 2), said("a", bytes=9, requests=1), (0, 0), ("a", 9, 1)),
        (Counted("a", 5, 2), said("a"), (0, 0), ("a", 5, 2)),
        (Counted("a", 5, 2), said("a", soups=9), (0, 0), ("a", 5, 2)),
        (Counted("a", 5, 2), said("b"), (0, 0), ("a", 5, 2)),
        (Counted("a", 5, 2), said("a", requests=4), (0, 2), ("a", 5, 4)),
        (Counted("a", 5, 2), said("b", bytes=4), (4, 0), ("b", 4, 0)),
        (Counted("a", 5, 2), said(None, bytes=9, requests=9), (0, 0), ("a", 5, 2)),
    ],
)
def test_what_has_grown(
    before: Counted, report: Report, grown: tuple[int, int], after: tuple[str, int, int]
) -> None:
    """
    Within a boot what is more than before, from 0 in another; less counts nothing and is what comes next.
    """
    assert (Delivery(*grown), Counted(*after)) == before.grown(report)


async def test_reports_with_totals(kitchen: Kitchen) -> None:
    """
    A beat, a report without totals and one by an administrator neither lose anything nor count it twice.
    """
    mirror = await kitchen.mirror("a.example")
    assert (0, 0, 0, 0) == await delivered(kitchen)

    await totals(kitchen, mirror, "a", bytes=1000, requests=10)
    await kitchen.report(mirror)
    await kitchen.report(mirror, status=2, message="low disk")
    await kitchen.admin.patch(f"/api/cdn/{mirror['id']}", json={"status": 3})
    await totals(kitchen, mirror, "a", bytes=1500, requests=12)

    assert (1500, 12, 1500, 12) == await delivered(kitchen)
    await totals(kitchen, mirror, "b", bytes=100, requests=1)
    assert (1600, 13, 1600, 13) == await delivered(kitchen)


async def test_reports_that_come_together(kitchen: Kitchen) -> None:
    """
    Of one mirror, with a start of its machine between them, and of others: each counts once.
    """
    mirrors = [await kitchen.mirror(f"{name}.example") for name in "abc"]
    reports = [
        (mirrors[0], said("a", bytes=7, requests=1)),
        (mirrors[1], said("b", bytes=70, requests=2)),
        (mirrors[0], said("c", bytes=700, requests=3)),
        (mirrors[0], said("c", bytes=900, requests=4)),
        (mirrors[2], Report(Status.OK)),
    ]

    await asyncio.gather(*(kitchen.soup.mirrors.report(one["id"], report) for one, report in reports))

    assert (907, 5, 907, 5) == await delivered(kitchen, "a.example")
    assert (70, 2, 70, 2) == await delivered(kitchen, "b.example")
    assert (0, 0, 0, 0) == await delivered(kitchen, "c.example")


async def test_days(kitchen: Kitchen, clocks: Time) -> None:
    """
    A day is one of UTC by the database's clock; each mirror shows its last 30.
    """
    mirror = await kitchen.mirror("a.example")
    first = clocks.now.date()

    async def days() -> list[tuple[int, int, int]]:
        """How many days after the first, bytes, requests."""
        answer = await kitchen.anyone.get(f"/api/cdn/{mirror['id']}", headers=bearer(mirror["token"]))
        return [
            ((date.fromisoformat(one["day"]) - first).days, one["bytes"], one["requests"])
            for one in answer.json()["days"]
        ]

    await totals(kitchen, mirror, "a", bytes=100, requests=1)
    clocks.forward(12 * 3600)  # from noon to midnight
    await totals(kitchen, mirror, "a", bytes=150, requests=3)
    clocks.forward(28.9 * 86_400)
    await totals(kitchen, mirror, "a", bytes=350, requests=7)

    assert [(0, 100, 1), (1, 50, 2), (29, 200, 4)] == await days()
    assert (350, 7, 200, 4) == await delivered(kitchen)
    clocks.forward(0.2 * 86_400)
    assert [(1, 50, 2), (29, 200, 4)] == await days()
    assert (350, 7, 0, 0) == await delivered(kitchen)


async def test_a_mirror_that_boasts(kitchen: Kitchen) -> None:
    """
    Totals as large as any are counted until the day is full, and cost neither a report nor the list.
    """
    mirror, other = await kitchen.mirror("a.example"), await kitchen.mirror("b.example")
    for boot in "abcd":
        await totals(kitchen, mirror, boot, bytes=MOST, requests=1 << 62)
    await totals(kitchen, other, "a", bytes=5, requests=1)

    boasted = await delivered(kitchen)
    assert 1 << 62 <= boasted[0] <= 1 << 63
    assert 1 << 62 <= boasted[1] <= 1 << 63
    assert (5, 1, 5, 1) == await delivered(kitchen, "b.example")


async def test_a_mirror_that_boasts_in_one_breath(kitchen: Kitchen) -> None:
    """
    Totals that come together are no more than the day can take, however much is in it already.
    """
    mirror, other = await kitchen.mirror("a.example"), await kitchen.mirror("b.example")
    await totals(kitchen, mirror, "first", bytes=MOST, requests=MOST)
    boasts = [(mirror, said(boot, bytes=MOST, requests=1 << 62)) for boot in "abcd"]
    reports = [*boasts, (other, said("a", bytes=5, requests=1))]

    await asyncio.gather(*(kitchen.soup.mirrors.report(one["id"], report) for one, report in reports))

    boasted = await delivered(kitchen)
    assert 1 << 62 <= boasted[0] <= 1 << 63
    assert 1 << 62 <= boasted[1] <= 1 << 63
    assert (5, 1, 5, 1) == await delivered(kitchen, "b.example")


async def test_a_mirror_that_is_deleted(kitchen: Kitchen) -> None:
    """
    What it has delivered goes with it.
    """
    mirror = await kitchen.mirror("a.example")
    await totals(kitchen, mirror, "a", bytes=5, requests=1)

    await kitchen.admin.delete(f"/api/cdn/{mirror['id']}")

    assert [(0,)] == KIND.ask(kitchen.settings.data, "select count(*) from delivery")


async def test_metrics_of_deliveries(kitchen: Kitchen) -> None:
    """
    What is counted is told as well, by the mirror's id.
    """
    mirror = await kitchen.mirror("a.example")
    counters = [one.labels(mirror["id"]) for one in (metrics.MIRROR_BYTES, metrics.MIRROR_REQUESTS)]
    before = [one._value.get() for one in counters]

    await totals(kitchen, mirror, "a", bytes=1000, requests=10)
    await totals(kitchen, mirror, "a", bytes=1500, requests=11)

    assert [before[0] + 1500, before[1] + 11] == [one._value.get() for one in counters]
