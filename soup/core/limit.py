"""A limit in time that is meant."""

import asyncio
from types import TracebackType
from typing import Any, Self

AGAIN = 0.2  # seconds between one cancellation and the next


class Limit:
    """As `asyncio.timeout`, and it cancels again while the block does not end. Raises TimeoutError.

    A driver that is cancelled may want to tell its server so, and wait for its word: psycopg gives a server
    that has stopped answering ten seconds more. The second cancellation makes it close the connection.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds, self._cancelled = seconds, 0

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - there is no `await` outside of one
        self._task, self._before = task, task.cancelling()
        self._handle = asyncio.get_running_loop().call_later(self._seconds, self._cancel)
        return self

    def _cancel(self) -> None:
        self._cancelled += 1
        self._task.cancel()
        self._handle = asyncio.get_running_loop().call_later(AGAIN, self._cancel)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.cancel()
        for _ in range(self._cancelled):
            self._task.uncancel()
        if (
            self._cancelled
            and isinstance(error, asyncio.CancelledError)
            and self._task.cancelling() <= self._before
        ):
            raise TimeoutError from error


def expire(future: asyncio.Future[Any]) -> None:
    """For `call_later`: whoever waits for this future has waited long enough, and gets a TimeoutError.

    A tenth of what a timeout around each of many costs.
    """
    if not future.done():
        future.set_exception(TimeoutError())
