"""Links to mirrors that differ in nothing: drawn without a look at any of them, and as if it were taken."""

from collections import Counter
from random import Random

import pytest

from soup.mirrors.picture import OVERLAP, Live
from soup.mirrors.policy import FEW, Picture, links
from tests.conftest import Time
from tests.mirrors.drawing import Table
from tests.mirrors.test_policy import HEAD, HISTORY, LEEK, drawn, mirror, spread

MANY = 3 * FEW


def crowd(*, behind: int = 0) -> Picture:
    """Many mirrors, some of which have nothing beyond number 1."""
    return drawn(
        *(mirror(id, epoch=HISTORY, synced_to=1 if id <= behind else HEAD) for id in range(1, MANY + 1))
    )


@pytest.mark.row("S7")
@pytest.mark.parametrize("most", [1, 2, 3, 5])
def test_many_that_are_alike(most: int) -> None:
    """
    Each stands first as often as any other, and at every place behind it, and nowhere twice.
    """
    counts = spread(crowd(), 24_000, most)

    assert all(len(set(choice)) == most for choice in counts)
    for place in range(most):
        at = Counter[int]()
        for choice, times in counts.items():
            at[choice[place]] += times
        assert all(abs(at[id] - 1000) < 5 * 31 for id in range(1, MANY + 1)), place


@pytest.mark.row("S7")
@pytest.mark.parametrize("behind", [1, MANY - 4, MANY - 2, MANY - 1])
def test_some_are_behind(behind: int) -> None:
    """
    Of a new blob only those are named that have it; as many as are wanted, or as there are.
    """
    seen, able = crowd(behind=behind), set(range(behind + 1, MANY + 1))

    counts = spread(seen, 2000, 3, seq=HEAD)

    assert able == {id for choice in counts for id in choice}
    assert {min(3, len(able))} == {len(set(choice)) for choice in counts}


@pytest.mark.row("S19")
@pytest.mark.parametrize("mirrors", [3, MANY])
def test_one_falls_silent(mirrors: int) -> None:
    """
    From the moment on that one has been silent for too long it is named no more, the others as before.
    """
    deadlines = dict.fromkeys(range(1, mirrors + 1), 40.0) | {2: 5.0}
    seen = drawn(*(mirror(id) for id in range(1, mirrors + 1)), deadlines=deadlines)

    before, after = (spread(seen, 1000, 2, now=now) for now in (5.0, 5.001))

    assert 2 in {id for choice in before for id in choice}
    assert set(range(1, mirrors + 1)) - {2} == {id for choice in after for id in choice}


async def test_a_report_before_the_picture_wanes(live: Live, table: Table, clocks: Time) -> None:
    """
    While all go on reporting, the picture learns in time until when nobody can be silent.
    """
    table.report(1)
    table.report(2)
    await live.look()
    for _ in range(100):
        clocks.forward(1)
        if not clocks.steady() % 10:
            for id in (1, 2):
                last = live.remember([id])
                table.report(id)
                said = live.mirrors[id].said
                assert said is not None
                assert said.status is not None
                await live.hear({id: (said, said.status, clocks.now)}, clocks.now, last)
        await live.look()

        assert clocks.steady() + OVERLAP / 2 <= live.picture.tiers[0].until
    dice = Random(7).random
    assert 2 == len(links(live.picture, LEEK.raw, 1, 4, live.now(), dice, 2))
