"""Many ask, one statement answers all."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from soup.core.errors import Unavailable
from soup.core.limit import expire

Item = TypeVar("Item")
Result = TypeVar("Result")


class Gather(Generic[Item, Result]):
    """Collects items while the batch before is under way and hands them on together (D7, D19).

    The first item of a quiet time goes at once: nobody waits for company that does not come. After a batch
    the next one starts no sooner than `pause` seconds after the start of the last, so a busy time makes few,
    large batches. `act` takes the items and returns one result for each, in order; a result that is an
    exception is raised to its asker.
    """

    def __init__(
        self,
        act: Callable[[Sequence[Item]], Awaitable[Sequence[Result | BaseException]]],
        *,
        pause: float,
        most: int,
        limit: float,
    ) -> None:
        self._act, self._pause, self._most, self._limit = act, pause, most, limit
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._task: asyncio.Task[None] | None = None

    async def ask(self, item: Item) -> Result:
        """The result for this item.

        An asker who leaves does not stop the batch. Raises Unavailable after `limit` seconds.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.append((item, future))
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        limit = loop.call_later(self._limit, expire, future)
        try:
            return await future
        except TimeoutError as error:
            raise Unavailable("the database did not answer in time") from error
        finally:
            limit.cancel()

    async def _run(self) -> None:
        try:
            while self._waiting:
                began = time.monotonic()
                batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
                await self._one(batch)
                left = began + self._pause - time.monotonic()
                if left > 0 and len(self._waiting) < self._most:
                    await asyncio.sleep(left)
        finally:
            self._task = None

    async def _one(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results: Sequence[Result | BaseException] = await self._act([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 - whatever it was, each asker must hear of it
            results = [error] * len(batch)
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():
                continue
            if isinstance(result, BaseException):
                future.set_exception(result)
                future.exception()  # the asker may have left: an unheard exception is no news then
            else:
                future.set_result(result)

    async def idle(self) -> None:
        """Wait until nothing is under way."""
        while self._task is not None:
            await asyncio.wait([self._task])
