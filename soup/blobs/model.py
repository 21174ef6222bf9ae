"""Blobs as the faces see them."""

from dataclasses import dataclass
from datetime import datetime

from soup.core.blob import Blob, State
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

    @property
    def blob(self) -> Blob:
        """The blob itself."""
        return Blob(self.digest, self.size)


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


@dataclass(frozen=True, slots=True)
class Copy:
    """A blob in a store as the database has it: `row` is its id, `damaged` what is known of its bytes.

    Two that are equal say that nobody has deleted it or sent it again in between.
    """

    row: int
    blob: Blob
    touched_at: datetime
    damaged: bool


@dataclass(frozen=True, slots=True)
class Round:
    """A reading of a whole store, in digest order: `after` is the last digest it has read.

    `blobs` and `bytes` are what it has read so far, `damaged` how many of these blobs were not what they
    should be.
    """

    started_at: datetime
    after: Digest | None = None
    blobs: int = 0
    bytes: int = 0
    damaged: int = 0
    finished_at: datetime | None = None
