"""A clock on the wall that jumps under mirrors and their sweep (D18)."""

from datetime import timedelta

import pytest

from tests.conftest import Kitchen, Time

HOUR = timedelta(hours=1)


async def swept(kitchen: Kitchen) -> int:
    held = await kitchen.soup.runner._lease.renew()
    assert held is not None
    return await kitchen.soup.mirrors.sweep(held)


@pytest.mark.row("S15", "S16")
@pytest.mark.parametrize("jump", [HOUR, -HOUR, timedelta()])
async def test_silent_after_the_jump(kitchen: Kitchen, clocks: Time, jump: timedelta) -> None:
    """
    A mirror that falls silent after the clock was put is out, and its status on record becomes 0, at the time
    the steady clock says.
    """
    path = f"/{await kitchen.keep(b'leek')}"
    await kitchen.mirror("a.example", status=2)
    clocks.now += jump

    clocks.forward(39)
    await kitchen.soup.mirrors.refresh()
    assert 0 == await swept(kitchen)
    assert 307 == (await kitchen.anyone.get(path)).status_code

    clocks.forward(2)
    assert 200 == (await kitchen.anyone.get(path)).status_code
    assert 1 == await swept(kitchen)
    assert 0 == (await kitchen.listed())["a.example"]["status"]


@pytest.mark.row("S17")
@pytest.mark.parametrize("jump", [HOUR, -HOUR])
async def test_one_report_brings_it_back(kitchen: Kitchen, clocks: Time, jump: timedelta) -> None:
    """
    A silent mirror that reports after the clock was put is online for forty seconds, as ever.
    """
    mirror = await kitchen.mirror("a.example")
    clocks.forward(50)
    await swept(kitchen)
    clocks.now += jump

    await kitchen.report(mirror)
    clocks.forward(39)
    assert 0 == await swept(kitchen)
    shown = (await kitchen.listed())["a.example"]
    clocks.forward(2)

    assert (1, True) == (shown["status"], shown["online"])
    assert not (await kitchen.listed())["a.example"]["online"]


async def test_there_and_back(kitchen: Kitchen, clocks: Time) -> None:
    """
    A mirror that reports every thirty seconds stays online while the clock is put to and fro.
    """
    path = f"/{await kitchen.keep(b'leek')}"
    mirror = await kitchen.mirror("a.example")
    seen = set()
    for jump in (HOUR, -HOUR, -HOUR, 2 * HOUR, -HOUR):
        clocks.now += jump
        clocks.forward(30)
        await kitchen.soup.mirrors.refresh()
        await swept(kitchen)
        seen.add((await kitchen.anyone.get(path)).status_code)
        await kitchen.report(mirror)

    assert {307} == seen
