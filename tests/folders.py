"""What is in a folder and in its files, and what is open."""

import hashlib
import os
from pathlib import Path


def names(folder: Path) -> list[str]:
    """What is in a folder."""
    return sorted(path.name for path in folder.iterdir())


def handles() -> int:
    """How many files this process has open."""
    return len(names(Path("/proc/self/fd")))


def tells(file: Path) -> bool:
    """Whether a file's file system says what of it is in memory. Asked of the kernel, not of soup."""
    with file.open("rb") as opened:
        try:
            os.preadv(opened.fileno(), (bytearray(1),), 0, os.RWF_NOWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
    return True


def flip(file: Path) -> None:
    """One bit in the middle, and the file's dates as before: what a disk does."""
    seen = file.stat()
    with file.open("r+b") as opened:
        opened.seek(seen.st_size // 2)
        byte = opened.read(1)
        opened.seek(seen.st_size // 2)
        opened.write(bytes([byte[0] ^ 1]))
    os.utime(file, ns=(seen.st_atime_ns, seen.st_mtime_ns))


def right(file: Path) -> bool:
    """Whether a blob's file has the bytes of its name."""
    return file.exists() and hashlib.sha256(file.read_bytes()).hexdigest() == file.name
