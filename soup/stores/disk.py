"""The calls every local file goes through: off the event loop, with a limit, in soup's own errors."""

import asyncio
import errno
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

from soup import metrics
from soup.core.errors import NoRoom, StoreDown

P = ParamSpec("P")
T = TypeVar("T")

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Disk:
    """Threads for blocking file calls. `seconds` is the longest that any one call may take.

    A call that takes longer raises StoreDown in its asker; the thread it hangs in is lost until the kernel
    lets it go, which is why a hung disk cannot take more than these threads.
    """

    def __init__(self, *, threads: int = 32, seconds: float = 60) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="disk")
        self._seconds = seconds

    async def run(self, act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `act` returns. Raises NoRoom and StoreDown in place of every OSError."""
        with translated():
            future = asyncio.get_running_loop().run_in_executor(self._pool, lambda: act(*args, **kwargs))
            async with asyncio.timeout(self._seconds):
                return await future

    def close(self) -> None:
        """Take no more calls; do not wait for those that hang."""
        self._pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def translated() -> Iterator[None]:
    """Nothing leaves but soup's own errors; the cause stays attached."""
    try:
        yield
    except TimeoutError as error:
        raise StoreDown("the disk does not answer") from error
    except OSError as error:
        if error.errno in _FULL:
            metrics.REFUSED.labels("full").inc()
            raise NoRoom(f"the disk is full: {os.strerror(error.errno or 0)}") from error
        raise StoreDown(f"the disk refuses: {error.strerror or error}") from error


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable: a file that is synced and whose folder is not may vanish in a power
    cut.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
