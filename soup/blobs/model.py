"""Blobs as the faces see them."""

from dataclasses import dataclass
from datetime import datetime

from soup.core.blob import State
from soup.core.digest import Digest


@dataclass(frozen=True, slots=True)
class Known:
    """What a request for a blob needs to know of it."""

    seq: int
    size: int
    state: State


@dataclass(frozen=True, slots=True)
class Placement:
    """A copy in a store."""

    store: str
    state: str
    verified_at: datetime | None


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything the database knows of a blob."""

    digest: Digest
    size: int
    state: State
    seq: int
    created_at: datetime
    placements: tuple[Placement, ...] = ()


@dataclass(frozen=True, slots=True)
class Feed:
    """Which history of changes this is, how far it goes, and below which number it is forgotten."""

    epoch: str
    head: int
    floor: int = 0


@dataclass(frozen=True, slots=True)
class Changes:
    """A stretch of the feed.

    `next` is the cursor behind it, `head` the number of the last change there is.
    """

    feed: Feed
    changes: tuple[Facts, ...]
    next: int


@dataclass(frozen=True, slots=True)
class Kept:
    """What an upload came to: `new` is whether the blob was not here before."""

    digest: Digest
    size: int
    new: bool
