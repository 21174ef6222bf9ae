"""Time as soup uses it: an aware clock for what is written down, a steady one for what is measured."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
Steady = Callable[[], float]

steady: Steady = time.monotonic


def utc_now() -> datetime:
    """This moment, aware, in UTC."""
    return datetime.now(UTC)


def text(moment: datetime | None) -> str | None:
    """A moment as faces write it: RFC 3339 with milliseconds and `Z`."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
