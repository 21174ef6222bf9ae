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
            files, unseen = await _files(store, (digest for _, digest in rows))
            # The locks were still ours when those files were looked at. From here on we may be stopped for as
            # long as somebody likes: what another core keeps meanwhile is another file.
            await held.check(work.session)
            for row, digest in rows:
                if digest not in unseen and await _is_dropped(store, digest, files):
                    await queries.unplace(work.session, row)
                    swept += 1
                else:
                    failed.append(row)
        if len(rows) < AT_ONCE or len(failed) >= GIVEN_UP:
            return swept


async def _files(
    store: Store, digests: Iterable[Digest]
) -> tuple[dict[Digest, File | None] | None, set[Digest]]:
    """Which files these are, where the store can tell; and those of which it cannot now."""
    if not isinstance(store, Quarantine):
        return None, set()
    files, unseen = dict[Digest, File | None](), set[Digest]()
    for digest in digests:
        try:
            files[digest] = await store.file(digest)
        except StoreDown as error:
            log.warning("blob.not_swept", digest=digest, reason=str(error))
            unseen.add(digest)
    return files, unseen


async def _is_dropped(store: Store, digest: Digest, files: dict[Digest, File | None] | None) -> bool:
    try:
        if files is None:
            await store.drop(digest)
        elif (file := files[digest]) is not None:
            await store.drop(digest, file)
    except StoreDown as error:
        log.warning("blob.not_swept", digest=digest, reason=str(error))
        return False
    return True
