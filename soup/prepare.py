"""What is done once, before any worker starts: folders, tables, the store's identity, the first token."""

import asyncio
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from soup.access import queries as tokens
from soup.access.model import Kind
from soup.access.service import Access
from soup.blobs import queries as blobs
from soup.core.bell import Bell
from soup.core.clock import utc_now
from soup.core.errors import Refused
from soup.db.migrate import migrate
from soup.db.work import Database
from soup.settings import Settings
from soup.stores import identity
from soup.stores.disk import Disk, sync_folder
from soup.stores.local import SPOOL
from soup.stores.spool import Spool

STORE = "local"
TOKEN = "admin-token"  # noqa: S105 - the name of a file


@dataclass(frozen=True, slots=True)
class Prepared:
    """`token` is the file with the first administrator's token; `new` is whether it was made now.

    None where it is not here: it may have been moved away, or another core on the database has made it.
    """

    token: Path | None
    new: bool


def prepare(settings: Settings) -> Prepared:
    """Make the data folder ready, or find that it is. Raises Refused where soup must not start (D15)."""
    try:
        settings.data.mkdir(parents=True, exist_ok=True)
        settings.blobs_folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(f"cannot make the folder {error.filename}: {error.strerror}") from error
    migrate(settings.database_url)
    try:
        return asyncio.run(_prepare(settings))
    except OSError as error:
        raise Refused(f"cannot write {error.filename or settings.data}: {error.strerror}") from error


async def _prepare(settings: Settings) -> Prepared:
    database = Database(settings.database_url)
    file = settings.data.absolute() / TOKEN
    try:
        async with database.begin() as work:
            await blobs.begin_feed(work.session, secrets.token_hex(8))
            known = await blobs.store_uuid(work.session, STORE)
            uuid = identity.settle(settings.blobs_folder, known)
            await blobs.register(work.session, STORE, uuid, "local")
            new = not await tokens.count(work.session, Kind.ADMIN)
            if new:
                access = Access(database, Bell(), clock=utc_now)
                _write(file, await access.issue(work, Kind.ADMIN))
    finally:
        await database.close()
    Spool(Disk(threads=1), settings.blobs_folder / SPOOL, keep_free=0, largest=None).sweep()
    return Prepared(file if file.is_file() else None, new)


def _write(file: Path, token: str) -> None:
    new = file.with_name(f"{file.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(
        os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii"
    ) as written:
        written.write(f"{token}\n")
        written.flush()
        os.fsync(written.fileno())
    new.rename(file)
    sync_folder(file.parent)
