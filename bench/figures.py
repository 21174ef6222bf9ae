"""Rounds, what they come to, and how two of them are compared.

A shared machine is never the same for long, so nothing is said by one figure: what is compared takes turns of
a second or so, each ratio is taken within a turn, and the median of the ratios counts.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


class Wrong(Exception):
    """An answer was not what it has to be, so no figure counts."""


@dataclass(frozen=True, slots=True)
class Round:
    """One turn of a side: `rate` a second, `asked` in all, with `cpu` seconds of the server in `seconds`.

    `others` is what somebody else used of the server's core and the load's: 0.1 is a tenth of one.
    """

    rate: float
    asked: float
    cpu: float
    seconds: float
    others: float = 0.0

    @property
    def cost(self) -> float:
        """Microseconds of the server's cores for a request."""
        return 1e6 * self.cpu / self.asked if self.asked else 0.0

    @property
    def busy(self) -> float:
        """How much of one core the server used."""
        return self.cpu / self.seconds if self.seconds else 0.0


QUIET = 0.1  # of a core: what others may use
ENOUGH = 3  # pairs
Turn = Callable[[], Round]


@dataclass(frozen=True, slots=True)
class Spread:
    """A median, and the quartiles around it."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> "Spread":
        """Of at least one figure."""
        if len(figures) == 1:
            return cls(figures[0], figures[0], figures[0])
        low, median, high = statistics.quantiles(figures, n=4, method="inclusive")
        return cls(low, median, high)

    def plain(self) -> dict[str, float]:
        """For JSON."""
        return {"low": self.low, "median": self.median, "high": self.high}


@dataclass(slots=True)
class Figure:
    """What a row came to: a value for each pair, and the rounds of both sides, ours first.

    `unit` is what rates of sides are counted in.
    """

    row: str
    values: list[float]
    sides: dict[str, list[Round]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    unit: str = "/s"

    @property
    def spread(self) -> Spread:
        """Of the values."""
        return Spread.of(self.values)

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "row": self.row,
            "values": self.values,
            **self.spread.plain(),
            "unit": self.unit,
            "sides": {name: _side(rounds) for name, rounds in self.sides.items()},
            "notes": self.notes,
        }


def _side(rounds: Sequence[Round]) -> dict[str, Any]:
    return {
        "rate": Spread.of([one.rate for one in rounds]).plain(),
        "cpu_us": Spread.of([one.cost for one in rounds]).plain(),
        "busy": Spread.of([one.busy for one in rounds]).plain(),
        "others": Spread.of([one.others for one in rounds]).plain(),
    }


def interleaved(sides: Mapping[str, Turn], pairs: int) -> dict[str, list[Round]]:
    """So many rounds of each side, in turns, after one of each that does not count."""
    rounds: dict[str, list[Round]] = {name: [] for name in sides}
    for pair in range(pairs + 1):
        for name, turn in sides.items():
            found = turn()
            if pair:
                rounds[name].append(found)
    return rounds


def ratios(ours: Sequence[Round], theirs: Sequence[Round]) -> list[float]:
    """Ours to theirs, pair by pair."""
    return [one.rate / other.rate for one, other in zip(ours, theirs, strict=True)]


def compared(row: str, ours: str, theirs: str, rounds: Mapping[str, list[Round]], unit: str = "/s") -> Figure:
    """The figure of a row that is one side's rate to another's.

    Pairs in which others had more than a tenth of a core are left out, where enough are left to speak of.
    """
    pairs = list(zip(rounds[ours], rounds[theirs], strict=True))
    quiet = [pair for pair in pairs if max(one.others for one in pair) < QUIET]
    taken = quiet if len(quiet) >= min(ENOUGH, len(pairs)) else pairs
    left = len(pairs) - len(taken)
    notes = [f"{row}: {left} of {len(pairs)} pairs left out, others used the cores"] if left else []
    mine, other = [pair[0] for pair in taken], [pair[1] for pair in taken]
    return Figure(row, ratios(mine, other), {ours: mine, theirs: other}, notes, unit)
