"""Many ask, one statement answers all."""

import asyncio
import time
from collections.abc import Sequence

import pytest

from soup.core.errors import BlobBlocked, StoreDown, Unavailable
from soup.core.gather import Gather

Result = int | BaseException


class Till:
    """Doubles what it is given, a batch at a time, when the test lets it."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.began: list[float] = []
        self.open = asyncio.Event()
        self.open.set()
        self.called = asyncio.Event()
        self.under_way = 0
        self.most_at_once = 0

    async def __call__(self, items: Sequence[int]) -> Sequence[Result]:
        self.batches.append(list(items))
        self.began.append(time.monotonic())
        self.called.set()
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            await self.open.wait()
        finally:
            self.under_way -= 1
        return [BlobBlocked(f"{item}") if item < 0 else item * 2 for item in items]


@pytest.fixture
async def till() -> Till:
    return Till()


def gather(till: Till, *, pause: float = 0.005, most: int = 100, limit: float = 5) -> Gather[int, int]:
    return Gather(till, pause=pause, most=most, limit=limit)


async def test_alone(till: Till) -> None:
    """
    Whoever comes in a quiet time goes at once: nobody waits for company that does not come.
    """
    slow = gather(till, pause=60)

    async with asyncio.timeout(1):
        assert 42 == await slow.ask(21)

    assert [[21]] == till.batches


async def test_company(till: Till) -> None:
    """
    Those who come while a batch is under way make the next one, together and in order.
    """
    till.open.clear()
    crowd = gather(till)
    first = asyncio.create_task(crowd.ask(1))
    await till.called.wait()
    rest = [asyncio.create_task(crowd.ask(item)) for item in (2, 3, 4)]
    await asyncio.sleep(0)
    till.open.set()

    assert [2, 4, 6, 8] == await asyncio.gather(first, *rest)
    assert [[1], [2, 3, 4]] == till.batches


async def test_one_at_a_time(till: Till) -> None:
    """
    There is never more than one batch under way, however many ask.
    """
    crowd = gather(till, pause=0.0001, most=7)

    answers = await asyncio.gather(*(crowd.ask(item) for item in range(500)))

    assert [item * 2 for item in range(500)] == answers
    assert 1 == till.most_at_once
    assert list(range(500)) == [item for batch in till.batches for item in batch]


async def test_no_batch_is_too_large(till: Till) -> None:
    """
    A batch has `most` items at most, and a full one does not wait for the pause.
    """
    crowd = gather(till, pause=30, most=10)

    async with asyncio.timeout(5):
        await asyncio.gather(*(crowd.ask(item) for item in range(20)))

    assert [10, 10] == [len(batch) for batch in till.batches]


async def test_the_pause(till: Till) -> None:
    """
    In a busy time the next batch starts no sooner than the pause after the start of the last.
    """
    crowd = gather(till, pause=0.1)
    await crowd.ask(1)

    await crowd.ask(2)

    assert till.began[1] - till.began[0] >= 0.099


async def test_a_result_that_is_an_exception(till: Till) -> None:
    """
    An exception goes to the one whose result it is, and to nobody else.
    """
    till.open.clear()
    crowd = gather(till)
    tasks = [asyncio.create_task(crowd.ask(item)) for item in (0, 1, -2, 3)]
    await till.called.wait()
    till.open.set()

    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert [0, 2, 6] == [results[0], results[1], results[3]]
    assert isinstance(results[2], BlobBlocked)


async def test_a_batch_that_fails() -> None:
    """
    When a batch fails as a whole, each of its askers hears it, and the next batch is tried as if nothing was.
    """
    tries = 0

    async def act(items: Sequence[int]) -> Sequence[int]:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise StoreDown("not now")
        return list(items)

    crowd: Gather[int, int] = Gather(act, pause=0.001, most=10, limit=5)
    results = await asyncio.gather(*(crowd.ask(item) for item in range(3)), return_exceptions=True)

    assert [StoreDown, StoreDown, StoreDown] == [type(result) for result in results]
    assert 7 == await crowd.ask(7)


async def test_an_asker_leaves(till: Till) -> None:
    """
    One who leaves does not stop the batch, and what became of theirs is still done.
    """
    till.open.clear()
    crowd = gather(till)
    tasks = [asyncio.create_task(crowd.ask(item)) for item in (-1, 1)]
    await till.called.wait()
    tasks[0].cancel()
    await asyncio.wait([tasks[0]])
    till.open.set()

    assert 2 == await tasks[1]
    assert tasks[0].cancelled()
    assert [[-1, 1]] == till.batches


async def test_the_limit(till: Till) -> None:
    """
    Nobody waits for longer than the limit; they are told to try again.
    """
    till.open.clear()
    crowd = gather(till, limit=0.05)

    with pytest.raises(Unavailable):
        await crowd.ask(1)

    till.open.set()
    await crowd.idle()
    assert 4 == await crowd.ask(2)


async def test_idle(till: Till) -> None:
    """
    Idle waits for what is under way, and for what waits behind it.
    """
    till.open.clear()
    crowd = gather(till)
    tasks = [asyncio.create_task(crowd.ask(item)) for item in (1, 2)]
    await till.called.wait()
    waiting = asyncio.create_task(crowd.idle())
    await asyncio.sleep(0)
    assert not waiting.done()

    till.open.set()
    async with asyncio.timeout(5):
        await waiting

    assert all(task.done() for task in tasks)
    await crowd.idle()
