"""The calls every local file goes through: off the event loop, with a limit, in soup's own errors."""

import asyncio
import errno
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

from soup import metrics
from soup.core.errors import NoRoom, SoupError, StoreDown
from soup.core.limit import expire

P = ParamSpec("P")
T = TypeVar("T")

Call = tuple["asyncio.Future[Any]", Callable[[], Any]]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Disk:
    """Threads for blocking file calls. `seconds` is the longest that any one call may take.

    A call that takes longer raises StoreDown in its asker; the thread it hangs in is lost until the kernel
    lets it go, which is why a hung disk cannot take more than these threads. They do not keep the process
    from ending.

    A trip to the executor of the standard library and back costs as much as ten lookups; one of these, the
    half when it goes alone, and a sixth when many go together.
    """

    def __init__(self, *, threads: int = 32, seconds: float = 60) -> None:
        self._most, self._threads, self._seconds = threads, 0, seconds
        self._under_way = 0  # calls, with those whose asker waits no more
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._closed = False

    async def run(self, act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `act` returns. Raises NoRoom and StoreDown in place of every OSError."""
        if self._closed:
            raise StoreDown("the disk takes no more calls")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._under_way += 1
        self._calls.put((future, partial(act, *args, **kwargs)))
        if self._threads < min(self._under_way, self._most):
            self._threads += 1
            threading.Thread(target=self._work, name=f"disk-{self._threads}", daemon=True).start()
        limit = loop.call_later(self._seconds, expire, future)
        try:
            return await future
        except OSError as error:
            raise _in_our_words(error) from error
        finally:
            limit.cancel()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            future, act = call
            result, failure = None, None
            try:
                result = None if future.done() else act()  # its asker may wait no more, and think it undone
            except BaseException as error:  # noqa: BLE001 - its asker is told, and this thread lives on
                failure = error
            with suppress(RuntimeError):  # the loop has ended meanwhile, and nobody asks any more
                future.get_loop().call_soon_threadsafe(self._settle, future, result, failure)
            del call, future, act, result, failure  # or it all lives until the next call comes

    def _settle(self, future: asyncio.Future[Any], result: Any, failure: BaseException | None) -> None:
        self._under_way -= 1
        if future.done():  # its asker has left, or has waited too long
            return
        if failure is None:
            future.set_result(result)
        else:
            future.set_exception(failure)

    @property
    def crowded(self) -> bool:
        """Whether half of the threads have something to do, or hang: the disk has no time to spare."""
        return self._under_way > self._most // 2

    def close(self) -> None:
        """Take no more calls; do not wait for those that hang."""
        self._closed = True
        for _ in range(self._threads):
            self._calls.put(None)


def _in_our_words(error: OSError) -> SoupError:
    """Nothing leaves but soup's own errors; the cause stays attached."""
    if isinstance(error, TimeoutError):
        return StoreDown("the disk does not answer")
    if error.errno in _FULL:
        metrics.REFUSED.labels("full").inc()
        return NoRoom(f"the disk is full: {os.strerror(error.errno or 0)}")
    return StoreDown(f"the disk refuses: {error.strerror or error}")


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable: a file that is synced and whose folder is not may vanish in a power
    cut.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
