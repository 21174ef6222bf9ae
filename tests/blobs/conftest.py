"""Blobs through the service: the kitchen's, with a store that can be made to wait."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from soup.blobs.index import Ask
from soup.blobs.model import Kept
from soup.blobs.scrub import Scrub
from soup.blobs.service import Blobs
from soup.core.blob import Blob, State
from soup.core.digest import Digest
from soup.db.lease import Held
from soup.prepare import STORE
from soup.stores.base import File, Source, Wrapper
from tests.conftest import Kitchen
from tests.contract import body
from tests.databases import KIND

LEEK = Digest.of(b"leek")
FAST = 1 << 40  # bytes per second


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


Make = Callable[..., Scrub]


@pytest.fixture
def make(blobs: Blobs) -> Make:
    """Scrubs of the kitchen's store: each is another process to the others."""

    def scrub(rate: int = FAST, seconds: float = 60) -> Scrub:
        return Scrub(blobs._database, blobs._store, STORE, blobs._reading._disk, rate=rate, seconds=seconds)

    return scrub


def rounds(kitchen: Kitchen) -> list[tuple[int, int, int, bool]]:
    """How many blobs, bytes and damaged ones the round has met, and whether it has ended."""
    rows = KIND.ask(kitchen.settings.data, "select blobs, bytes, damaged, finished_at is not null from scrub")
    return [(blobs, size, damaged, bool(ended)) for blobs, size, damaged, ended in rows]


async def copies(blobs: Blobs, digest: Digest) -> list[tuple[str, bool]]:
    """What is known of each copy, and whether it was ever verified."""
    facts = await blobs.facts(digest)
    return [(copy.state, copy.verified_at is not None) for copy in facts.placements]


def quarantine(kitchen: Kitchen) -> Path:
    return kitchen.settings.blobs_folder / ".quarantine"


def spoil(kitchen: Kitchen, data: bytes) -> None:
    """The same file with other bytes."""
    kitchen.file(Digest.of(data)).write_bytes(b"x" * len(data))


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

    async def drop(self, digest: Digest, only: File | None = None) -> None:
        self.drop_asked.set()
        await self.go_on.wait()
        await self.inner.drop(digest, only)


@asynccontextmanager
async def gated(blobs: Blobs) -> AsyncIterator[Gate]:
    gate = Gate(blobs)
    blobs._store = gate
    async with asyncio.timeout(20):
        yield gate
    blobs._store = gate.inner
