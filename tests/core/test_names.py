"""Names that are looked up, and names that hang."""

import asyncio
import socket
import threading

import pytest

from soup.core import names
from soup.core.errors import Busy
from soup.core.names import Names


@pytest.fixture
def hang(monkeypatch):
    """Lookups of names with `hang` in them wait until the event is set; others have two addresses."""
    go_on, asked = threading.Event(), list[str]()

    def look(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        asked.append(host)
        if "hang" in host:
            go_on.wait(10)
        if "none" in host:
            raise socket.gaierror(-2, "Name or service not known")
        return [(0, 0, 0, "", (address, 0)) for address in ("192.0.2.1", "192.0.2.2", "192.0.2.1")]

    monkeypatch.setattr(names.socket, "getaddrinfo", look)
    yield go_on, asked
    go_on.set()


@pytest.mark.usefixtures("hang")
async def test_a_name() -> None:
    """
    Its addresses, each once and in order; what is an address is its own.
    """
    looked = Names()

    assert ["192.0.2.1", "192.0.2.2"] == await looked.addresses("a.example")
    assert ["127.0.0.1"] == await looked.addresses("127.0.0.1")
    assert ["::1"] == await looked.addresses("[::1]")
    with pytest.raises(OSError, match="not known"):
        await looked.addresses("none.example")


async def test_names_that_hang(hang) -> None:
    """
    They hold up no others, and each has one lookup however often it is asked for.
    """
    go_on, asked = hang
    looked = Names()
    waiting = [asyncio.create_task(looked.addresses(f"hang{number % 40}")) for number in range(80)]
    await asyncio.sleep(0)
    for one in waiting[:20]:
        one.cancel()

    assert ["192.0.2.1", "192.0.2.2"] == await looked.addresses("a.example")
    go_on.set()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert 60 == found.count(["192.0.2.1", "192.0.2.2"])
    assert 41 == len(asked)


@pytest.mark.usefixtures("hang")
async def test_more_than_can_be_asked_for(hang) -> None:
    """
    Where too many hang, that is said: it is no fault of the name.
    """
    looked = Names()
    waiting = [asyncio.create_task(looked.addresses(f"hang{number}")) for number in range(names.MOST)]
    await asyncio.sleep(0)

    with pytest.raises(Busy):
        await looked.addresses("a.example")

    hang[0].set()
    await asyncio.gather(*waiting)
    assert ["192.0.2.1", "192.0.2.2"] == await looked.addresses("a.example")
