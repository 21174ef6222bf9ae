"""Copies that somebody has stumbled over are looked at, at once and behind the back of whoever waits."""

import asyncio

import structlog

from soup.blobs.damage import Damage, wrong_with
from soup.core.blob import Blob
from soup.core.digest import Digest
from soup.core.errors import SoupError
from soup.stores.base import Store
from soup.stores.disk import Disk

log = structlog.get_logger(__name__)

WAITING = 256  # that are not looked at yet; more are left to those who stumble next, and to the scrub
PAUSE = 0.2  # seconds between two
REMEMBERED = 60.0  # seconds for which a digest is not looked at again


class Suspects:
    """Finds out whether what is said of a copy is true, and writes it down if so."""

    def __init__(self, damage: Damage, store: Store, disk: Disk) -> None:
        self._damage, self._store, self._disk = damage, store, disk
        self._waiting: list[Blob] = []
        self._looked: dict[Digest, float] = {}
        self._task: asyncio.Task[None] | None = None

    def add(self, blob: Blob) -> None:
        """Have a look at it, soon: a digest once in a while, and only so many."""
        now = asyncio.get_running_loop().time()
        if len(self._waiting) >= WAITING or self._looked.get(blob.digest, 0.0) > now:
            return
        if len(self._looked) >= WAITING:
            self._looked = {digest: until for digest, until in self._looked.items() if until > now}
        self._looked[blob.digest] = now + REMEMBERED
        self._waiting.append(blob)
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            while self._waiting:
                blob = self._waiting.pop(0)
                try:
                    await self._look(blob)
                except SoupError as error:
                    log.warning("blob.not_looked_at", digest=blob.digest, reason=str(error))
                await asyncio.sleep(PAUSE)
        finally:
            self._task = None

    async def _look(self, blob: Blob) -> None:
        copy = await self._damage.copy(blob.digest)
        if copy is None or copy.damaged:
            return
        file = await self._damage.file(blob.digest)
        fault = await wrong_with(self._store, self._disk, blob)
        if fault is not None:
            await self._damage.found(copy, file, fault)

    async def close(self) -> None:
        """Look no further."""
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
