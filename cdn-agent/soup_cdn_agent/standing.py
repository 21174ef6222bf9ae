"""What the mirror says of itself. Pure: facts in, words out."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

LACKING = 1000  # digests that a report may name


class Status(IntEnum):
    """What a mirror says. 0 is not among it: who is offline says nothing."""

    OK = 1
    WARNING = 2
    ERROR = 3


@dataclass(frozen=True, slots=True)
class Facts:
    """What the agent has found out.

    `probe` is why the last look through the web server failed, None where it went well; `looked` is whether
    there was a blob to look at. `unwritable` is why the folder cannot be written. `wanted` blobs are to be
    fetched, `failing` of them could not be. `failed` is what of the agent itself does not go on.
    """

    probe: str | None = None
    looked: bool = False
    unwritable: str | None = None
    full: str | None = None
    reading: str | None = None
    wanted: int = 0
    failing: int = 0
    failed: str | None = None


def standing(facts: Facts, behind: int) -> tuple[Status, str | None]:
    """The status, and why it is not 1. `behind` is how many blobs may be wanted without a word."""
    reasons = (
        (facts.unwritable, Status.ERROR),
        (facts.probe, Status.ERROR),
        (facts.full, Status.WARNING),
        (facts.failed, Status.WARNING),
        (facts.reading, Status.WARNING),
        (f"{facts.wanted} blobs behind" if facts.wanted > behind else None, Status.WARNING),
        (f"{facts.failing} blobs cannot be fetched" if facts.failing else None, Status.WARNING),
        (None if facts.looked else "no blob is here yet", Status.WARNING),
    )
    for reason, status in reasons:
        if reason is not None:
            return status, reason
    return Status.OK, None


@dataclass(frozen=True, slots=True)
class Claim:
    """The blobs a mirror answers for: all up to a number of the feed, but for some, each with its number."""

    synced_to: int = 0
    lacking: tuple[tuple[int, str], ...] = ()

    def less_than(self, other: "Claim") -> bool:
        """Whether there is a blob that the other answers for, and this does not."""
        missing = set(self.lacking) - set(other.lacking)
        return self.synced_to < other.synced_to or any(number <= other.synced_to for number, _ in missing)


def claim(cursor: int, wanted: Sequence[tuple[int, str]]) -> Claim:
    """What can be claimed by who has read the feed up to `cursor` and still wants these.

    `wanted` is number and digest in the order of numbers, LACKING + 1 of them at least where there are as
    many. More than a report may name lower what is claimed (D8).
    """
    if len(wanted) <= LACKING:
        return Claim(cursor, tuple(wanted))
    return Claim(wanted[LACKING][0] - 1, tuple(wanted[:LACKING]))
