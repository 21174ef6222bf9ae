"""Places for bodies: more than so many at once are told to come back (D4, D8)."""

import asyncio
import secrets

from soup import metrics
from soup.core.errors import Busy

PAUSE = 0.1  # seconds after which the metric is told: it is dearer than all the rest here


class Slots:
    """Counts bodies that are being sent. `reason` is what the metric calls a want of places.

    Whoever finds none is told to come back within `spread` seconds, each at another moment.
    """

    def __init__(self, reason: str, *, spread: int = 1) -> None:
        self._reason, self._spread, self._taken = reason, spread, 0
        self._told, self._to_tell = 0, False

    def place(self, most: int, digest: str | None = None) -> "Place":
        """One of `most` places, for the length of a block. Entering it raises Busy where all are taken."""
        return Place(self, most, digest)

    def take(self, most: int, digest: str | None) -> None:
        """See `place`."""
        if self._taken >= most:
            metrics.REFUSED.labels(self._reason).inc()
            later = 1 + secrets.randbelow(self._spread)
            raise Busy("every place for a body is taken", digest=digest, retry_after=later)
        self._move(1)

    def give_back(self) -> None:
        """See `place`."""
        self._move(-1)

    def _move(self, by: int) -> None:
        self._taken += by
        if not self._to_tell:
            self._to_tell = True
            asyncio.get_running_loop().call_later(PAUSE, self._tell)

    def _tell(self) -> None:
        metrics.DIRECT_BODIES.inc(self._taken - self._told)
        self._told, self._to_tell = self._taken, False


class Place:
    """A block that holds one place."""

    __slots__ = ("_digest", "_most", "_slots")

    def __init__(self, slots: Slots, most: int, digest: str | None) -> None:
        self._slots, self._most, self._digest = slots, most, digest

    def __enter__(self) -> None:
        self._slots.take(self._most, self._digest)

    def __exit__(self, *_: object) -> None:
        self._slots.give_back()
