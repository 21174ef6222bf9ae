"""The bytes of blobs that are gone go too, when nobody may still be sending them (D17)."""

from collections.abc import Iterable
from datetime import timedelta

import structlog

from soup.blobs import queries
from soup.core.digest import Digest
from soup.core.errors import StoreDown
from soup.db.lease import Held
from soup.db.work import Database
from soup.stores.base import File, Quarantine, Store

log = structlog.get_logger(__name__)

AT_ONCE = 16  # blobs whose bytes go in one transaction
GIVEN_UP = 256  # that cannot be removed, after which a sweep ends
Files = dict[Digest, File | None] | None  # None: no blob has one, for the store is none of files


async def sweep(database: Database, store: Store, held: Held, after: timedelta) -> int:
    """Remove the bytes of blobs that have been gone for so long; how many.

    Bytes that cannot be removed do not hold up the others: they are tried again the next time. Raises
    LeaseLost.
    """
    swept, failed = 0, list[int]()
    while True:
        async with database.begin() as work:
            await held.check(work.session)
            before = await database.now(work.session) - after
            rows = await queries.sweepable(work.session, before, AT_ONCE, but=failed)
            files = await _files(store, (digest for _, digest in rows))
            # The locks were still ours when those files were looked at. From here on we may be stopped for as
            # long as somebody likes: what another core keeps meanwhile is another file.
            await held.check(work.session)
            for row, digest in rows:
                if await _is_dropped(store, digest, files):
                    await queries.unplace(work.session, row)
                    swept += 1
                else:
                    failed.append(row)
        if len(rows) < AT_ONCE or len(failed) >= GIVEN_UP:
            return swept


async def _files(store: Store, digests: Iterable[Digest]) -> Files:
    """Which file each is, but for those of which the store cannot tell now."""
    if not isinstance(store, Quarantine):
        return None
    files = dict[Digest, File | None]()
    for digest in digests:
        try:
            files[digest] = await store.file(digest)
        except StoreDown as error:
            log.warning("blob.not_swept", digest=digest, reason=str(error))
    return files


async def _is_dropped(store: Store, digest: Digest, files: Files) -> bool:
    if files is not None and digest not in files:
        return False
    try:
        if files is None:
            await store.drop(digest)
        elif (file := files[digest]) is not None:
            await store.drop(digest, file)
    except StoreDown as error:
        log.warning("blob.not_swept", digest=digest, reason=str(error))
        return False
    return True
