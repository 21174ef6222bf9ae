"""A bell that every process of one machine hears at once."""

import mmap
import os
from pathlib import Path


class Bell:
    """Says that something in the database is worth reading again now, not at the next tick.

    A hint and never the truth: who misses it learns the same within a second from the database. It is eight
    bytes that the workers of one parent map, so looking at it costs no system call. Without a folder it rings
    inside one process.
    """

    def __init__(self, folder: Path | None = None, name: str = "bell") -> None:
        if folder is None:
            self._bytes: mmap.mmap = mmap.mmap(-1, 8)
        else:
            fd = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                os.posix_fallocate(fd, 0, 8)  # where there is no room, say so now: a page that has none kills
                self._bytes = mmap.mmap(fd, 8)
            finally:
                os.close(fd)
        self._rung = memoryview(self._bytes).cast("Q")

    @property
    def rung(self) -> int:
        """A number that differs from the one before when somebody rang."""
        return self._rung[0]

    def ring(self) -> None:
        """Tell everybody. Two that ring at once are one ring, and that is enough."""
        self._rung[0] = int.from_bytes(os.urandom(7), "big") + 1

    def close(self) -> None:
        """Let go of the mapping."""
        self._rung.release()
        self._bytes.close()
