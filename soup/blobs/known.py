"""Blobs that were asked for lately."""

import struct
from array import array
from typing import Final

from soup.core.blob import State

Found = tuple[int, int, int]  # seq, size and state of a digest

PRESENT: Final = int(State.PRESENT)
DIGEST: Final = 32  # bytes
PLACES: Final = 4
ROW: Final = PLACES * DIGEST  # bytes
_leading = struct.Struct("=I").unpack_from


class Known:
    """A table of at most so many present blobs, 48 bytes each, that never grows.

    A digest belongs in one of the four places of one row, by its first bytes, and a new one takes the place
    of another. A dict is faster, and for the same memory knows a quarter as many.
    """

    def __init__(self, most: int) -> None:
        self._rows, self._turn = max(1, most // PLACES), 0
        self.clear()

    def get(self, raw: bytes) -> Found | None:
        """What is known of a digest in its 32 bytes; None where nothing is."""
        start = _leading(raw)[0] % self._rows * ROW
        at = self._digests.find(raw, start, start + ROW)
        if at < 0 or at % DIGEST:
            return None
        at //= DIGEST
        seq = self._seqs[at]
        return (seq, self._sizes[at], PRESENT) if seq else None  # an empty place looks like a digest of zeros

    def put(self, raw: bytes, seq: int, size: int) -> None:
        """Know that a blob is present. It must not be known already."""
        self._turn = (self._turn + 1) % PLACES
        at = _leading(raw)[0] % self._rows * PLACES + self._turn
        self._digests[at * DIGEST : at * DIGEST + DIGEST] = raw
        self._seqs[at], self._sizes[at] = seq, size

    def drop(self, raw: bytes) -> None:
        """Know nothing of it any more."""
        first = _leading(raw)[0] % self._rows * PLACES
        for at in range(first, first + PLACES):
            if self._digests[at * DIGEST : at * DIGEST + DIGEST] == raw:
                self._digests[at * DIGEST : at * DIGEST + DIGEST] = bytes(DIGEST)
                self._seqs[at] = 0

    def clear(self) -> None:
        """Know nothing any more."""
        places = self._rows * PLACES
        self._digests = bytearray(places * DIGEST)
        self._seqs, self._sizes = array("Q", bytes(8 * places)), array("Q", bytes(8 * places))
