"""A clock on the wall that jumps under tokens: what is to end at a moment ends by that clock."""

from datetime import timedelta

from soup.access.model import Kind
from soup.access.service import Access
from soup.core.errors import Unauthenticated
from tests.conftest import Kitchen, Time

HOUR = timedelta(hours=1)


async def works(access: Access, token: str) -> bool:
    try:
        await access.who(token)
    except Unauthenticated:
        return False
    return True


async def test_an_end_follows_the_clock(kitchen: Kitchen, clocks: Time) -> None:
    """
    A token that lasts for half an hour is over when the clock is an hour ahead, and good again, at the next
    look at the latest, when the clock is right again.
    """
    access = kitchen.soup.access
    token = await access.new(Kind.READ, None, HOUR / 2)
    lasting = await access.new(Kind.READ, None, None)
    assert await works(access, token)

    clocks.now += HOUR
    ahead = [await works(access, token), await works(access, lasting)]
    await access.refresh()
    ahead_later = [await works(access, token), await works(access, lasting)]
    clocks.now -= HOUR
    await access.refresh()

    assert [[False, True], [False, True]] == [ahead, ahead_later]
    assert [True, True] == [await works(access, token), await works(access, lasting)]


async def test_set_back(kitchen: Kitchen, clocks: Time) -> None:
    """
    A token works when the clock is an hour behind the one that dated it, and its use is noted a minute later.
    """
    access = kitchen.soup.access
    await access.refresh()
    token = await access.new(Kind.READ, None, HOUR)
    clocks.now -= HOUR

    assert await works(access, token)
    clocks.forward(61)
    await access.refresh()

    used = (await access.every())[-1].last_used_at
    assert used is not None
    assert clocks.now.replace(tzinfo=None) == used.replace(tzinfo=None)
