"""An upload in a process of its own, or a sweep that never rests: `python -m tests.stores.spooling`.

upload FOLDER BYTES [named]   take so many bytes down, say "half", go on when told, say the digest
sweep FOLDER                  say "sweeping", then sweep again and again until standard input ends
"""

import asyncio
import errno
import os
import select
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from soup.stores.disk import Disk
from soup.stores.spool import Spool

ROOT = Path(__file__).parents[2]
HALF = b"half"


def refusing(real: Callable[..., int]) -> Callable[..., int]:
    """`os.open` on a file system without unnamed files; the answer is the one NFS gives."""

    def refuse(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), str(path))
        return real(path, flags, *args, **kwargs)

    return refuse


def start(*arguments: object) -> subprocess.Popen[bytes]:
    """This module as a process, once it has said its first word."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.stores.spooling", *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout
    assert process.stdout.readline().strip() in {HALF, b"sweeping"}
    return process


def spool_in(folder: Path) -> Spool:
    return Spool(Disk(threads=1), folder, keep_free=0, largest=None)


async def upload(folder: Path, size: int) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield bytes(size)
        yield bytes(1 << 20)  # more than a piece: what came before is on disk by now
        print(HALF.decode(), flush=True)  # noqa: T201 - into a pipe
        await asyncio.to_thread(sys.stdin.readline)
        yield b"end"

    async with spool_in(folder).receive(body()) as spooled:
        print(spooled.blob.digest, flush=True)  # noqa: T201 - into a pipe


def sweep(folder: Path) -> None:
    print("sweeping", flush=True)  # noqa: T201 - into a pipe
    spool = spool_in(folder)
    while not select.select([sys.stdin], [], [], 0)[0]:
        spool.sweep()


if __name__ == "__main__":
    if sys.argv[-1] == "named":
        os.open = refusing(os.open)
    if sys.argv[1] == "upload":
        asyncio.run(upload(Path(sys.argv[2]), int(sys.argv[3])))
    else:
        sweep(Path(sys.argv[2]))
