import asyncio
import time

import pytest

from soup.core.limit import Limit


async def test_in_time() -> None:
    """
    What ends in time is let alone.
    """
    async with Limit(5):
        await asyncio.sleep(0)

    assert 0 == asyncio.current_task().cancelling()


async def test_too_late() -> None:
    """
    What does not is a TimeoutError, and the task is as it was before.
    """
    with pytest.raises(TimeoutError):
        async with Limit(0.01):
            await asyncio.sleep(60)

    assert 0 == asyncio.current_task().cancelling()


async def test_what_does_not_listen() -> None:
    """
    A block that takes its time over being cancelled is cancelled again.
    """

    async def stubborn() -> None:
        async with Limit(0.01):
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(60)

    began = time.monotonic()
    with pytest.raises(TimeoutError):
        await stubborn()

    assert time.monotonic() - began < 5
    assert 0 == asyncio.current_task().cancelling()


async def test_somebody_else_cancels() -> None:
    """
    A task that is cancelled from outside is cancelled, and not out of time.
    """

    async def waits() -> None:
        async with Limit(60):
            await asyncio.sleep(60)

    task = asyncio.create_task(waits())
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_an_error_of_its_own() -> None:
    """
    What fails in time fails as it does without a limit.
    """
    with pytest.raises(KeyError):
        async with Limit(60):
            raise KeyError
