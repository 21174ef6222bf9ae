"""Again and again, and never stopped in the middle."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

PATIENCE = 10.0  # seconds that an act under way is waited for at the end


async def beat(act: Callable[[], Awaitable[None]], seconds: float, over: asyncio.Event) -> None:
    """Do it, wait so many seconds, do it again, until it is `over`.

    Cancelling a loop would cut a database's answer off somewhere between its thread and here.
    """
    while not over.is_set():
        await act()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await over.wait()


@asynccontextmanager
async def beating(*loops: Callable[[asyncio.Event], Awaitable[None]]) -> AsyncIterator[None]:
    """Run loops while the block lasts; each is given the event that ends it."""
    over = asyncio.Event()
    tasks = [asyncio.ensure_future(loop(over)) for loop in loops]
    try:
        yield
    finally:
        over.set()
        _, late = await asyncio.wait(tasks, timeout=PATIENCE)
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
