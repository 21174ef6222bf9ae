"""Places for bodies: more than so many at once are told to come back (D4, D8)."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from soup import metrics
from soup.core.errors import Busy


class Slots:
    """Counts bodies that are being sent. `reason` is what the metric calls a want of places.

    Whoever finds none is told to come back within `spread` seconds, each at another moment.
    """

    def __init__(self, reason: str, *, spread: int = 1) -> None:
        self._reason, self._spread, self._taken = reason, spread, 0

    @contextmanager
    def place(self, most: int, digest: str | None = None) -> Iterator[None]:
        """One of `most` places. Raises Busy where all are taken."""
        if self._taken >= most:
            metrics.REFUSED.labels(self._reason).inc()
            later = 1 + secrets.randbelow(self._spread)
            raise Busy("every place for a body is taken", digest=digest, retry_after=later)
        self._taken += 1
        metrics.DIRECT_BODIES.inc()
        try:
            yield
        finally:
            self._taken -= 1
            metrics.DIRECT_BODIES.dec()
