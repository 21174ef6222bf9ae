"""What the kernel says of processes: time they used, and memory that is theirs."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    """Those it has started and not waited for."""
    found: list[int] = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, file.read_text().split())
    return found


def tree(pid: int) -> Iterator[int]:
    """It and all below it."""
    yield pid
    for child in children(pid):
        yield from tree(child)


def cpu(*roots: int) -> float:
    """Seconds of all cores that these and all below them have used, those that have ended with them."""
    ticks = 0
    for root in roots:
        for pid in tree(root):
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += sum(map(int, fields[11:15]))  # its own and its children's, user and system
    return ticks / TICKS


def used(core: str) -> float:
    """Seconds that all processes together have used of a core; what interrupts took is nobody's."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{core} "):
            return sum(map(int, line.split()[1:4])) / TICKS
    return 0.0


def anonymous(pid: int) -> int:
    """Bytes of memory that is not a file's; 0 of a process that has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0
