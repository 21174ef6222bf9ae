"""What is here of a blob that is fetched: a file that grows, and its SHA-256 so far."""

import hashlib
import os
from pathlib import Path
from typing import Any

from soup_cdn_agent.folder import PIECE

AT_ONCE = 64  # pieces read before somebody else may say that it is over


class Part:
    """A part of a blob of `size` bytes. All but `close` block, and are to be run to their end."""

    def __init__(self, path: Path, size: int) -> None:
        self.fd, self.length, self._path, self._size = -1, 0, path, size
        self.sha: Any = hashlib.sha256()

    def open(self) -> None:
        """Open what is here. Raises OSError."""
        self.fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def read_on(self) -> bool:
        """Hash some of it; whether there may be more. More than all of it is nothing."""
        for _ in range(AT_ONCE):
            piece = os.pread(self.fd, PIECE, self.length)
            if not piece:
                return False
            self.sha.update(piece)
            self.length += len(piece)
            if self.length > self._size:
                self.clear()
                return False
        return True

    def clear(self) -> None:
        """Begin anew. Raises OSError."""
        os.ftruncate(self.fd, 0)
        self.sha, self.length = hashlib.sha256(), 0

    def write(self, data: bytearray) -> None:
        """Write on. Raises OSError; FileNotFoundError where it was deleted meanwhile."""
        put(self.fd, self.sha, self.length, data)
        self.length += len(data)

    def close(self) -> None:
        """Let go of the file."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def put(fd: int, sha: Any, start: int, data: bytearray) -> None:
    """Write on in a part, and hash it. Raises FileNotFoundError where it was deleted meanwhile."""
    sha.update(data)
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, start)
        view, start = view[written:], start + written
    if not os.fstat(fd).st_nlink:
        raise FileNotFoundError("it was deleted meanwhile")
