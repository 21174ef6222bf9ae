"""The picture of a process: what it hears of, and what clocks cannot do to it."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from soup.core.bell import Bell
from soup.core.errors import DatabaseDown
from soup.mirrors.model import Fqdn, Mirror, Report, Status, Terms
from soup.mirrors.picture import Live
from soup.mirrors.policy import Rules
from tests.conftest import Time
from tests.mirrors.drawing import Table, chosen


async def test_how_far_the_feed_goes(live: Live, table: Table) -> None:
    """
    A mirror may be ahead of what this process had heard of the feed: it asks, once it has read the reports.
    """
    table.report(1)
    row = table.rows[1]
    table.rows[1] = replace(row, said=Report(Status.OK, epoch="history", synced_to=10))

    await live.refresh()
    assert chosen(live) is None

    table.head = 10
    await live.refresh()
    assert 1 == chosen(live)


async def test_a_report_while_the_feed_goes_on(table: Table, bell: Bell, clocks: Time) -> None:
    """
    What is committed between the two questions is in the feed before it is in a report, and counts.
    """

    class Quick(Table):
        async def some(self, ids: Collection[int]) -> tuple[Sequence[Mirror], datetime]:
            found, moment = await super().some(ids)
            table.head += 1
            said = Report(Status.OK, epoch="history", synced_to=10)
            return [replace(one, said=said) for one in found], moment

    table.report(1)
    live = Live(Quick(clocks, table.rows), bell, Rules(), table.history, monotonic=clocks.steady)

    await live.refresh()

    assert 1 == chosen(live)


@pytest.mark.row("S15")
@pytest.mark.parametrize(("seconds", "expected"), [(0, 1), (39, 1), (40, 1), (40.001, None), (3600, None)])
async def test_silence(live: Live, table: Table, clocks: Time, seconds: float, expected: int | None) -> None:
    """
    Time alone silences: nobody needs to look anything up, and looking it up changes nothing.
    """
    table.report(1)
    await live.refresh()

    clocks.forward(seconds)

    assert expected == chosen(live)
    await live.refresh()
    assert expected == chosen(live)
    assert (expected == 1) is live.online(1)
    assert (expected == 1) is (live.explain(1) is None)


async def test_a_report_that_is_old_when_first_seen(live: Live, table: Table, clocks: Time) -> None:
    """
    A process that starts now knows how old a report is already.
    """
    table.report(1, at=clocks.now - timedelta(seconds=39))
    table.report(2, at=clocks.now - timedelta(seconds=41))
    await live.refresh()

    assert [True, False] == [live.online(1), live.online(2)]
    assert "silent for 41 s, more than 40" == live.explain(2)
    clocks.forward(2)
    assert not live.online(1)


@pytest.mark.parametrize("jump", [timedelta(hours=1), timedelta(hours=-1), timedelta(days=-20_000)])
async def test_a_clock_that_jumps_does_not_silence(
    live: Live, table: Table, clocks: Time, jump: timedelta
) -> None:
    """
    Whoever was heard of ten steady seconds ago is online, whatever the clock on the wall says (D18).
    """
    table.report(1)
    await live.refresh()

    clocks.forward(10)
    clocks.now += jump
    await live.refresh()

    assert 1 == chosen(live)
    clocks.forward(30)
    assert 1 == chosen(live)


@pytest.mark.parametrize("jump", [timedelta(hours=1), timedelta(hours=-1), timedelta(seconds=-41)])
async def test_a_clock_that_jumps_does_not_revive(
    live: Live, table: Table, clocks: Time, jump: timedelta
) -> None:
    """
    Whoever has been silent for forty steady seconds stays silent, though the clock says it was just now.
    """
    table.report(1)
    await live.refresh()

    clocks.forward(41)
    clocks.now += jump
    await live.refresh()

    assert chosen(live) is None


@pytest.mark.row("S17")
@pytest.mark.parametrize("jump", [timedelta(), timedelta(hours=1), timedelta(hours=-1)])
async def test_a_report_after_the_jump(live: Live, table: Table, clocks: Time, jump: timedelta) -> None:
    """
    A new report counts from the moment it is seen, under either clock.
    """
    table.report(1)
    await live.refresh()
    clocks.forward(41)
    clocks.now += jump

    table.report(1)
    await live.refresh()

    assert 1 == chosen(live)
    clocks.forward(40)
    assert 1 == chosen(live)
    clocks.forward(0.001)
    assert chosen(live) is None


async def test_a_report_from_the_future(live: Live, table: Table, clocks: Time) -> None:
    """
    A report dated ahead is as old as one of now: it lives for forty seconds and no longer.
    """
    table.report(1, at=clocks.now + timedelta(hours=1))
    await live.refresh()

    clocks.forward(40)
    assert 1 == chosen(live)
    clocks.forward(0.001)
    await live.refresh()
    assert chosen(live) is None


@pytest.mark.row("S13")
async def test_a_zero(live: Live, table: Table) -> None:
    """
    A mirror that says 0 is not online however fresh its report.
    """
    table.report(1, 0)
    await live.refresh()

    assert not live.online(1)
    assert "it says it is offline" == live.explain(1)


async def test_never_reported(live: Live, table: Table, clocks: Time) -> None:
    """
    A mirror without a report is not online.
    """
    table.rows[1] = Mirror(1, Terms(Fqdn("a.example"), "https", 443), clocks.now)
    await live.refresh()

    assert not live.online(1)
    assert "it has never reported" == live.explain(1)


async def test_a_mirror_that_is_deleted(live: Live, table: Table) -> None:
    """
    What is no longer in the table is no longer in the picture.
    """
    table.report(1)
    await live.refresh()
    del table.rows[1]
    await live.refresh()

    assert chosen(live) is None
    assert not live.online(1)


async def test_only_some_are_read(live: Live, table: Table) -> None:
    """
    Reading one mirror leaves the others as they were.
    """
    table.report(1)
    table.report(2)
    await live.refresh()
    table.report(1, 0)
    table.report(2, 0)
    await live.refresh([1])

    assert [False, True] == [live.online(1), live.online(2)]


async def test_the_bell(live: Live, table: Table, bell: Bell) -> None:
    """
    A ring is heard once: what it is about is read again, and then there is nothing to catch up with.
    """
    await live.refresh()
    table.report(1)
    bell.ring()

    assert live.stale
    await live.catch_up()
    assert 1 == chosen(live)
    assert not live.stale
    await live.catch_up()
    assert 2 == table.reads


async def test_a_database_that_is_down(live: Live, table: Table, bell: Bell, clocks: Time) -> None:
    """
    The picture stays as it is and ages by itself; requests do not fail, nor ask again each time.
    """
    table.report(1)
    await live.refresh()
    table.down = True
    bell.ring()

    await live.catch_up()
    await live.catch_up()

    assert 2 == table.reads
    assert 1 == chosen(live)
    clocks.forward(41)
    assert chosen(live) is None
    with pytest.raises(DatabaseDown):
        await live.refresh()


async def test_a_close_call(live: Live, table: Table, clocks: Time) -> None:
    """
    In the last eighth of its time a mirror's report is worth telling others at once.
    """
    table.report(1)
    await live.refresh()

    assert not live.close_call(1)
    clocks.forward(35.1)
    assert live.close_call(1)
    assert live.close_call(2)
