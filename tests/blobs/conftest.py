"""Blobs through the service: the kitchen's, with a store that can be made to wait."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from soup.blobs.index import Ask
from soup.blobs.model import Kept
from soup.blobs.service import Blobs
from soup.core.blob import Blob, State
from soup.core.digest import Digest
from soup.db.lease import Held
from soup.stores.base import Source, Wrapper
from tests.conftest import Kitchen
from tests.contract import body

LEEK = Digest.of(b"leek")


@pytest.fixture
def blobs(kitchen: Kitchen) -> Blobs:
    return kitchen.soup.blobs


@pytest.fixture
async def held(kitchen: Kitchen) -> Held:
    """The lease that jobs run under."""
    return await lease(kitchen)


async def lease(kitchen: Kitchen) -> Held:
    found = await kitchen.soup.runner._lease.renew()
    assert found
    return found


async def keep(blobs: Blobs, data: bytes, wanted: Digest | None = None) -> Kept:
    return await blobs.keep(body(data), wanted)


async def state(blobs: Blobs, data: bytes) -> State | None:
    """What the read path says of a blob."""
    raw = Digest.of(data).raw
    found = blobs.peek(raw)
    if isinstance(found, Ask):
        found = await blobs.ask(raw)
    return State(found[2]) if found else None


def on_disk(kitchen: Kitchen) -> dict[str, bytes]:
    """Every file of the store but its identity, what lies in the spool included."""
    folder = kitchen.settings.blobs_folder
    files = (file for file in folder.rglob("*") if file.is_file() and file.name != "soup-store.json")
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


async def until(true: Callable[[], bool]) -> None:
    """Wait for something that nothing announces."""
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 - nobody sets an event here
            await asyncio.sleep(0.005)


class Gate(Wrapper):
    """A store that stops behind a put, or in front of a drop, until it is let go on."""

    def __init__(self, inner: Blobs) -> None:
        super().__init__(inner._store)
        self.put_done, self.drop_asked, self.go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def put(self, blob: Blob, source: Source) -> None:
        await self.inner.put(blob, source)
        self.put_done.set()
        await self.go_on.wait()

    async def drop(self, digest: Digest) -> None:
        self.drop_asked.set()
        await self.go_on.wait()
        await self.inner.drop(digest)


@asynccontextmanager
async def gated(blobs: Blobs) -> AsyncIterator[Gate]:
    gate = Gate(blobs)
    blobs._store = gate
    async with asyncio.timeout(20):
        yield gate
    blobs._store = gate.inner
