"""The jobs: name, interval, function."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from soup.blobs.service import Blobs
from soup.db.lease import Held
from soup.mirrors.service import Mirrors


@dataclass(frozen=True, slots=True)
class Job:
    """`run` takes the lease it runs under and returns how much it did."""

    name: str
    seconds: float
    run: Callable[[Held], Awaitable[int]]


def jobs(
    blobs: Blobs, mirrors: Mirrors, *, mirrors_sweep: float, blobs_sweep: float, feed_trim: float
) -> tuple[Job, ...]:
    """Every job soup has."""
    return (
        Job("mirrors.sweep", mirrors_sweep, mirrors.sweep),  # silent mirrors become status 0 (S16)
        Job("feed.trim", feed_trim, blobs.trim),  # readers get a month to hear of a deletion (D7)
        Job("blobs.sweep", blobs_sweep, blobs.sweep),  # bytes of gone blobs, and what crashes left (D17)
    )
