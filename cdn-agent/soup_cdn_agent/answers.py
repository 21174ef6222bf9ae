"""What the core's answers say, out of their JSON.

Each reader raises ValueError, TypeError, LookupError, AttributeError or OverflowError where it is none of
soup's.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from soup_cdn_agent.index import Wanted

INTERVAL = 0.5, 3600.0  # seconds between reports that a core may ask for
_DIGEST = re.compile("[0-9a-f]{64}").fullmatch


@dataclass(frozen=True, slots=True)
class Heard:
    """The answer to a report."""

    epoch: str
    head: int
    interval: float


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of the feed: what should be here, what should not, and the cursor behind it."""

    epoch: str
    head: int
    next: int
    present: tuple[Wanted, ...]
    absent: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the list of blobs, and the feed of then. `next` is None on the last."""

    epoch: str
    head: int
    present: tuple[Wanted, ...]
    next: str | None


def heard(answer: Any) -> Heard:
    """The answer to a report."""
    least, most = INTERVAL
    interval = min(most, max(least, float(answer.get("interval", 30))))
    return Heard(str(answer["epoch"]), int(answer["head"]), interval)


def joined(answer: Any) -> tuple[int, str]:
    """Id and token of who has joined."""
    id, token = int(answer["id"]), str(answer["token"])
    if not (id > 0 and re.fullmatch("[!-~]+", token)):
        raise ValueError("no id and token")
    return id, token


def stretch(answer: Any) -> Stretch:
    """A stretch of the feed."""
    last = {_digest(one): one for one in answer["changes"]}  # a blob's last word counts
    return Stretch(
        str(answer["epoch"]),
        int(answer["head"]),
        int(answer["next"]),
        tuple(_wanted(one) for one in last.values() if one["state"] == "present"),
        tuple(digest for digest, one in last.items() if one["state"] != "present"),
    )


def page(answer: Any) -> Page:
    """A page of the list."""
    blobs, after = tuple(_wanted(one) for one in answer["blobs"]), answer["next"]
    return Page(str(answer["epoch"]), int(answer["head"]), blobs, None if after is None else str(after))


def _digest(one: Any) -> str:
    digest = one["digest"]
    if not _DIGEST(digest):
        raise ValueError(f"no digest: {digest!r}")
    return str(digest)


def _wanted(one: Any) -> Wanted:
    created_at = int(datetime.fromisoformat(one["created_at"]).timestamp())
    size, number = int(one["size"]), int(one["seq"])
    if not (0 <= size < 1 << 63 and 0 <= number < 1 << 63):
        raise ValueError(f"no size and number: {size}, {number}")
    return Wanted(_digest(one), size, created_at, number)
