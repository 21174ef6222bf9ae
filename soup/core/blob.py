"""What is kept: a digest and a size, and the state it is in."""

from dataclasses import dataclass
from enum import IntEnum

from soup.core.digest import Digest


@dataclass(frozen=True, slots=True)
class Blob:
    """Immutable bytes, by digest and size in bytes."""

    digest: Digest
    size: int


class State(IntEnum):
    """What a blob may be; the numbers are what the table holds."""

    PRESENT = 1
    BLOCKED = 2
    GONE = 3
