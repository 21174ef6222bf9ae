"""What rounds come to."""

import pytest

from bench.figures import Figure, Round, Spread, compared, interleaved, ratios
from bench.paced import percentiles


def turns(rates: list[float]):
    left = iter(rates)
    return lambda: Round(next(left), 100, 0.5, 2.0)


def test_a_round() -> None:
    """
    CPU is told for each request, and how much of one core the server used.
    """
    found = Round(50.0, 100, 0.5, 2.0)

    assert (5000.0, 0.25) == (found.cost, found.busy)


def test_turns_alternate() -> None:
    """
    Sides take turns, and the first round of each does not count.
    """
    order = []

    def side(name: str, rate: float):
        return lambda: order.append(name) or Round(rate, 1, 0, 1)

    found = interleaved({"a": side("a", 1.0), "b": side("b", 2.0)}, 2)

    assert ["a", "b"] * 3 == order
    assert [1.0, 1.0] == [one.rate for one in found["a"]]


def test_the_ratio_is_taken_within_a_pair() -> None:
    """
    A machine that is twice as fast for a while changes no ratio.
    """
    rounds = interleaved({"soup": turns([9, 10, 20, 10]), "nginx": turns([9, 40, 80, 40])}, 3)
    found = compared("redirect.sqlite", "soup", "nginx", rounds)

    assert [0.25] * 3 == ratios(rounds["soup"], rounds["nginx"]) == found.values
    assert Spread(0.25, 0.25, 0.25) == found.spread


def test_pairs_in_which_others_used_the_cores() -> None:
    """
    They are left out, and that is said, unless too few would be left to speak of.
    """
    quiet, loud = Round(1.0, 1, 1, 1), Round(9.0, 1, 1, 1, others=0.5)
    few = compared("start", "soup", "nginx", {"soup": [quiet, loud, loud, quiet], "nginx": [quiet] * 4})
    most = compared("start", "soup", "nginx", {"soup": [quiet, loud, quiet, quiet], "nginx": [quiet] * 4})

    assert ([1.0, 9.0, 9.0, 1.0], []) == (few.values, few.notes)
    assert ([1.0] * 3, ["start: 1 of 4 pairs left out, others used the cores"]) == (most.values, most.notes)


@pytest.mark.parametrize(
    ("figures", "spread"),
    [
        ([3.0], (3.0, 3.0, 3.0)),
        ([1.0, 2.0, 3.0, 4.0, 100.0], (2.0, 3.0, 4.0)),
        ([2.0, 1.0], (1.25, 1.5, 1.75)),
    ],
)
def test_spread(figures: list[float], spread: tuple[float, float, float]) -> None:
    """
    The median and the quartiles: one round that went wrong moves neither far.
    """
    assert Spread(*spread) == Spread.of(figures)


def test_percentiles() -> None:
    """
    In milliseconds, the worst among them.
    """
    found = percentiles([place / 1000 for place in range(1000)])

    assert (500.0, 990.0, 999.0, 1000) == tuple(found[name] for name in ("p50", "p99", "max", "requests"))


def test_a_figure_in_json() -> None:
    """
    Every side is told with its spread.
    """
    plain = Figure("start", [1.0, 2.0, 3.0], {"soup": [Round(5, 10, 1e-4, 1)]}).plain()

    assert ("start", 2.0, 1.5, 2.5) == (plain["row"], plain["median"], plain["low"], plain["high"])
    assert 10.0 == pytest.approx(plain["sides"]["soup"]["cpu_us"]["median"])
