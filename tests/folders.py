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
