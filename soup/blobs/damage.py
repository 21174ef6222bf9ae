"""Copies that are not what they should be: doubted in their row, set aside, and put right again.

What is damaged is first doubted in its row and then set aside. In this order, and both under the lock that an
upload of the same digest takes, no upload that is acknowledged is ever set aside: one whose file was put
before is seen in the row or in the file, and one whose row comes after finds the doubt and puts its file
again. A copy that is put right is put under the same lock.
"""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import replace

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from soup import metrics
from soup.blobs import queries
from soup.blobs.model import Copy, Facts
from soup.core.blob import Blob, State
from soup.core.digest import Digest
from soup.core.errors import BlobUnknown, StoreDown
from soup.db.lease import Held
from soup.db.work import Database
from soup.stores.base import File, Quarantine, Store
from soup.stores.disk import Disk
from soup.stores.spool import Spooled

log = structlog.get_logger(__name__)

MISSING = "it is not in the store"

Check = Callable[[AsyncSession], Awaitable[None]]


async def anybody(_: AsyncSession) -> None:
    """The check of what needs no lease."""


class Damage:
    """Keeps the rows of a store's copies true to what is found in it."""

    def __init__(self, database: Database, store: Store, store_name: str) -> None:
        self._database, self._store, self._store_name = database, store, store_name
        self._quarantine = store if isinstance(store, Quarantine) else None
        self._id = 0

    async def store_id(self) -> int:
        """The id of the store. Raises DatabaseDown."""
        if not self._id:
            async with self._database.reading() as session:
                self._id = await queries.store_id(session, self._store_name)
        return self._id

    async def file(self, digest: Digest) -> File | None:
        """Which file a copy is; None where there is none, or where a store cannot say. Raises StoreDown."""
        return await self._quarantine.file(digest) if self._quarantine else None

    async def copy(self, digest: Digest) -> Copy | None:
        """The copy of a blob that may be read; None where there is none. Raises DatabaseDown."""
        store = await self.store_id()
        async with self._database.reading() as session:
            return await queries.copy_of(session, digest, store)

    async def found(self, copy: Copy, file: File | None, fault: str, check: Check = anybody) -> bool:
        """Write down that a copy is damaged, and set its file aside, if both still are what they were.

        `file` is the one that has the fault, None for one that is not there; whether both were. Raises
        DatabaseDown, StoreDown, and what `check` raises.
        """
        digest = copy.blob.digest
        if not await self._doubt(copy, file, check):
            return False
        metrics.BLOBS_DAMAGED.inc()
        log.error("blob.missing" if fault == MISSING else "blob.damaged", digest=digest, reason=fault)
        if self._quarantine and file:
            try:
                await self._set_aside(copy, self._quarantine, file, check)
            except StoreDown as error:
                log.warning("blob.not_set_aside", digest=digest, reason=str(error))
        return True

    async def _doubt(self, copy: Copy, file: File | None, check: Check) -> bool:
        store = await self.store_id()
        async with self._database.begin() as work:
            await check(work.session)
            if await queries.copy(work.session, copy.row, store) != copy:
                return False
            if self._quarantine and await self._quarantine.file(copy.blob.digest) != file:
                return False
            await queries.doubt(work.session, copy.row, store)
        return True

    async def _set_aside(self, copy: Copy, quarantine: Quarantine, file: File, check: Check) -> None:
        store = await self.store_id()
        async with self._database.begin() as work:
            await check(work.session)
            now = await queries.copy(work.session, copy.row, store)
            if now == replace(copy, damaged=True):  # otherwise an upload has healed it
                await quarantine.set_aside(copy.blob.digest, file)

    async def known(self, after: int, limit: int) -> list[tuple[Copy, Facts]]:
        """Copies that are damaged, of blobs that may be read, by their ids from behind `after`."""
        store = await self.store_id()
        async with self._database.reading() as session:
            return await queries.broken(session, store, after, limit)

    async def mend(self, held: Held, copy: Copy, spooled: Spooled) -> bool:
        """Put a damaged copy right, if it still is damaged; whether it was. Nobody sees it as another blob.

        Raises LeaseLost, DigestMismatch, NoRoom, StoreDown, DatabaseDown.
        """
        store = await self.store_id()
        await spooled.sync()  # here, for a large one may take longer than a transaction
        async with self._database.begin() as work:
            await held.check(work.session)
            digest = copy.blob.digest
            known = await queries.states(work.session, [digest])
            if known.get(digest) != (copy.row, State.PRESENT):
                return False
            if await queries.copy(work.session, copy.row, store) != copy:
                return False
            await self._store.put(copy.blob, spooled)
            await queries.place(work.session, [copy.row], store)
        return True


async def wrong_with(store: Store, disk: Disk, blob: Blob) -> str | None:
    """What is wrong with the bytes that a store has of a blob, all of them read now; None where nothing is.

    Raises StoreDown.
    """
    sha, size = hashlib.sha256(), 0
    try:
        async for piece in store.open(blob.digest):
            await disk.run(sha.update, piece)
            size += len(piece)
            if size > blob.size:
                return f"it has more bytes than {blob.size}"
    except BlobUnknown:
        return MISSING
    if size < blob.size:
        return f"it has {size} bytes, not {blob.size}"
    return None if sha.hexdigest() == blob.digest else "it has other bytes"
