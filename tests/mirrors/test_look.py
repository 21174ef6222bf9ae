"""New reports: which are read, which are heard, and what others are told of at once."""

from dataclasses import replace
from datetime import timedelta

import pytest
from prometheus_client import REGISTRY

from soup import metrics
from soup.core.digest import Digest
from soup.core.errors import DatabaseDown
from soup.mirrors.model import Report, Status
from soup.mirrors.picture import Live
from tests.conftest import Time
from tests.mirrors.drawing import LEEK, Table, chosen


async def test_a_look_reads_those_that_have_reported(live: Live, table: Table, clocks: Time) -> None:
    """
    Of many mirrors the few that have said something since the last look are read, and nobody twice.
    """
    for id in (1, 2, 3):
        table.report(id)
    await live.look()
    assert 1 == table.reads

    clocks.forward(5)
    await live.look()
    assert (1, 1) == (table.reads, table.looks)

    table.report(2, status=3)
    clocks.forward(1)
    await live.look()
    assert (2, 2) == (table.reads, table.looks)
    assert Status.ERROR == said(live, 2).status

    clocks.forward(1)
    await live.look()
    assert (2, 3) == (table.reads, table.looks)


async def test_who_is_online_is_counted_with_every_look(live: Live, table: Table, clocks: Time) -> None:
    """
    A mirror that fell silent is counted no more within a second, though another goes on reporting.
    """
    for id in (1, 2):
        table.report(id)
    await live.look()
    for _ in range(5):
        clocks.forward(8.2)
        table.report(2)
        await live.look()
    live._thorough = live._everybody = clocks.steady() + 3600
    clocks.forward(0.1)
    table.report(2)
    metrics.MIRRORS.labels("online").set(2)
    await live.look()

    assert 1 == REGISTRY.get_sample_value("soup_mirrors", {"which": "online"})


async def test_who_is_online_is_counted_while_the_database_is_down(
    live: Live, table: Table, clocks: Time
) -> None:
    """
    A look that learns nothing counts all the same who has fallen silent.
    """
    table.report(1)
    await live.look()
    table.down = True
    clocks.forward(41)

    with pytest.raises(DatabaseDown):
        await live.look()

    assert 0 == REGISTRY.get_sample_value("soup_mirrors", {"which": "online"})


@pytest.mark.parametrize("lacking", [frozenset(), frozenset([LEEK])], ids=["alike", "not alike"])
async def test_all_fall_silent_while_the_database_is_down(
    live: Live, table: Table, clocks: Time, lacking: frozenset[Digest]
) -> None:
    """
    They leave the picture, once: nobody's choice looks at all of them in vain.
    """
    for id in (1, 2, 3):
        table.report(id)
    table.rows[1] = replace(table.rows[1], said=Report(Status.OK, lacking=lacking))
    await live.look()
    table.down = True
    clocks.forward(41)

    with pytest.raises(DatabaseDown):
        await live.look()
    drawn = live.picture
    assert () == drawn.tiers
    with pytest.raises(DatabaseDown):
        await live.look()
    assert drawn is live.picture

    table.down = False
    table.report(2)
    await live.look()
    assert [2] == [member.id for tier in live.picture.tiers for member in tier.members]


async def test_some_fall_silent_while_the_database_is_down(live: Live, table: Table, clocks: Time) -> None:
    """
    Of the others each is chosen as often as before, without a look at who is silent.
    """
    for id in (1, 2, 3):
        table.report(id, at=clocks.now - timedelta(seconds=20 if id == 1 else 0))
    await live.look()
    table.down = True
    clocks.forward(21)

    with pytest.raises(DatabaseDown):
        await live.look()

    (tier,) = live.picture.tiers
    assert [2, 3] == [member.id for member in tier.members]
    assert clocks.steady() + 19 == pytest.approx(tier.until)


async def test_a_report_that_was_written_late_is_found_all_the_same(
    live: Live, table: Table, clocks: Time
) -> None:
    """
    One that is dated long before it could be read is seen by the look that goes back far, every ten seconds.
    """
    table.report(1)
    await live.look()
    clocks.forward(9)
    await live.look()
    table.report(1, status=2, at=clocks.now - timedelta(seconds=8))

    clocks.forward(0.5)
    await live.look()
    assert Status.OK == said(live, 1).status

    clocks.forward(1)
    await live.look()
    assert Status.WARNING == said(live, 1).status


@pytest.mark.parametrize("seconds", [-3600.0, 3600.0])
async def test_a_clock_that_jumps_hides_no_report(
    live: Live, table: Table, clocks: Time, seconds: float
) -> None:
    """
    Reports dated by the clock as it is now are seen with the next look, whatever it was before.
    """
    table.report(1)
    await live.look()
    clocks.now += timedelta(seconds=seconds)
    clocks.forward(1)

    table.report(1, status=2)
    await live.look()

    assert Status.WARNING == said(live, 1).status


async def test_a_report_is_heard_without_being_read(live: Live, table: Table, clocks: Time) -> None:
    """
    What this process has written down itself it need not read: who says the same keeps its place.
    """
    table.report(1)
    await live.look()
    drawn, reads = live.picture, table.reads
    clocks.forward(30)

    last = live.remember([1])
    urgent = await live.hear({1: (Report(Status.OK), Status.OK, clocks.now)}, clocks.now, last)

    assert not urgent
    assert drawn is live.picture
    assert reads == table.reads
    clocks.forward(39)
    assert 1 == chosen(live)


@pytest.mark.parametrize(
    ("after", "urgent"),
    [
        (Report(Status.OK, epoch="history", synced_to=8), False),
        (Report(Status.OK, epoch="history", synced_to=8, lacking=frozenset([LEEK])), False),
        (Report(Status.OK, epoch="history", synced_to=5, lacking=frozenset([LEEK])), True),
        (Report(Status.OK, epoch="history", synced_to=4), True),
        (Report(Status.OK, epoch="another", synced_to=8), True),
        (Report(Status.WARNING, epoch="history", synced_to=5), False),
        (Report(Status.WARNING, epoch="history", synced_to=4), True),
        (Report(Status.ERROR, epoch="history", synced_to=5), True),
        (Report(Status.OK, leaving=True, epoch="history", synced_to=5), True),
    ],
)
async def test_others_hear_at_once_only_what_sends_clients_elsewhere(
    live: Live, table: Table, clocks: Time, after: Report, *, urgent: bool
) -> None:
    """
    A mirror that gets on is no news that cannot wait for a second; one that has lost something is.
    """
    table.report(1)
    table.rows[1] = replace(table.rows[1], said=Report(Status.OK, epoch="history", synced_to=5))
    await live.look()

    last = live.remember([1])
    assert urgent == await live.hear({1: (after, after.status or Status.OK, clocks.now)}, clocks.now, last)

    assert after.decides == said(live, 1).decides


async def test_a_report_that_was_read_before_it_was_heard(live: Live, table: Table, clocks: Time) -> None:
    """
    A look may come between writing a report down and hearing it: others are told of it all the same.
    """
    table.report(1)
    await live.look()
    last = live.remember([1])
    clocks.forward(1)
    table.report(1, status=0)
    await live.look()

    assert await live.hear({1: (Report(Status.OFFLINE), Status.OFFLINE, clocks.now)}, clocks.now, last)


async def test_a_mirror_that_nobody_here_knew(live: Live, table: Table, clocks: Time) -> None:
    """
    Another process has added it, and its first report comes here: all are told.
    """
    await live.look()
    last = live.remember([1])
    table.report(1)

    assert await live.hear({1: (Report(Status.OK), Status.OK, clocks.now)}, clocks.now, last)
    assert 1 == chosen(live)


def said(live: Live, id: int) -> Report:
    said = live.mirrors[id].said
    assert said is not None
    return said
