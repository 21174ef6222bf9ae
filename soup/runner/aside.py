"""Errands that may outlast the run of a job that sent them."""

import asyncio
from collections.abc import Coroutine, Hashable
from typing import Any

import structlog

log = structlog.get_logger(__name__)


class Aside:
    """Errands under way, one for each key.

    A job that waited for the slowest would keep all others waiting for its next run.
    """

    def __init__(self) -> None:
        self._tasks: dict[Hashable, asyncio.Task[None]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._tasks

    def send(self, key: Hashable, errand: Coroutine[Any, Any, None]) -> None:
        """Begin one."""
        task = self._tasks[key] = asyncio.create_task(errand)

        def ended(_: object) -> None:
            del self._tasks[key]
            if not task.cancelled() and (error := task.exception()) is not None:
                log.error("errand.failed", errand=str(key), exc_info=error)

        task.add_done_callback(ended)

    async def wait(self, until: float, *, fewer_than: int = 1) -> bool:
        """Wait until there are fewer than so many; whether there are before a moment on the loop's clock."""
        loop = asyncio.get_running_loop()
        while len(self._tasks) >= fewer_than and loop.time() < until:
            await asyncio.wait(
                self._tasks.values(), timeout=until - loop.time(), return_when=asyncio.FIRST_COMPLETED
            )
        return loop.time() < until

    async def settle(self) -> None:
        """Wait for all."""
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def close(self) -> None:
        """Cut them off."""
        for task in self._tasks.values():
            task.cancel()
        await self.settle()
