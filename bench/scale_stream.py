"""What `bench.scale` sends through a worker: digests by Zipf's law, a memory, queries that gather."""

import math
from collections.abc import Callable
from random import Random

MOST = 1000  # digests in one query (soup/blobs/postgres.py)
PLACES = 4  # in a row of what a worker knows (soup/blobs/known.py)


class Zipf:
    """Ranks from 1 to `count`, each as often as rank ** -exponent (Hoermann and Derflinger 1996)."""

    def __init__(self, count: int, exponent: float) -> None:
        self._count, self._exponent, self._rest = count, exponent, 1 - exponent
        self._first, self._last = self._sum(1.5) - 1, self._sum(count + 0.5)
        self._sure = 2 - self._back(self._sum(2.5) - 2**-exponent)

    def _sum(self, x: float) -> float:
        return (x**self._rest - 1) / self._rest if self._rest else math.log(x)

    def _back(self, y: float) -> float:
        return (1 + y * self._rest) ** (1 / self._rest) if self._rest else math.exp(y)

    def draw(self, dice: Callable[[], float]) -> int:
        """One rank."""
        while True:
            y = self._last + dice() * (self._first - self._last)
            x = self._back(y)
            rank = min(max(1, int(x + 0.5)), self._count)
            if rank - x <= self._sure or y >= self._sum(rank + 0.5) - rank**-self._exponent:
                return rank


class Remembered:
    """As `Known` of soup/blobs/known.py, of numbers from 1: whether one was in mind; from now on it is."""

    def __init__(self, most: int) -> None:
        self._rows, self._turn = max(1, most // PLACES), 0
        self._places = [0] * (self._rows * PLACES)

    def ask(self, rank: int) -> bool:
        """Whether it was."""
        first = mixed(rank) % self._rows * PLACES
        if rank in self._places[first : first + PLACES]:
            return True
        self._turn = (self._turn + 1) % PLACES
        self._places[first + self._turn] = rank
        return False


def mixed(rank: int) -> int:
    """32 bits that look like the first of a digest (Fibonacci hashing)."""
    return (rank * 0x9E3779B97F4A7C15 >> 32) & 0xFFFFFFFF


def gathered(misses: float, alone: float, each: float, dice: Random, queries: int = 2000) -> float:
    """Digests in a query where so many a second come by chance, and what comes during one is the next.

    `alone` and `each` are the seconds a query takes, and each digest in it.
    """
    now, due, asked = 0.0, dice.expovariate(misses), 0
    for _ in range(queries):
        now, batch = max(now, due), 0
        while due <= now and batch < MOST:
            batch, due = batch + 1, due + dice.expovariate(misses)
        asked, now = asked + batch, now + alone + each * batch
    return asked / queries
