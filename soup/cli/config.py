"""The settings a verb goes by, and the database they name."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import rich_click as click

if TYPE_CHECKING:
    from soup.db.work import Database
    from soup.settings import Settings

T = TypeVar("T")

CONFIG = click.option(
    "--config", type=click.Path(path_type=Path), help="Settings file (YAML); else SOUP_CONFIG."
)


def load(config: Path | None) -> "Settings":
    """The settings of this file, or of the environment."""
    from soup.settings import Settings

    return Settings.load(os.environ, config)


def load_to_serve(config: Path | None) -> "Settings":
    """The same, for a soup that is to run by them. Raises Refused where a file they name is no good."""
    from soup.access.joining import read
    from soup.core.errors import Refused

    settings = load(config)
    if settings.cdn.join.token_file is not None:
        try:
            read(settings.cdn.join.token_file)
        except Refused as error:
            raise Refused(f"cdn.join.token_file: {error}") from error
    return settings


async def recognise(database: "Database") -> str:
    """The uuid of the store that this database knows. Raises Refused where no soup has run on it."""
    from sqlalchemy import inspect

    from soup.blobs import queries
    from soup.core.errors import Refused
    from soup.prepare import STORE

    if database.file is not None and not database.file.exists():
        raise Refused(f"no soup has run here yet: there is no {database.file}")
    async with database.reading() as session:
        if not await session.run_sync(lambda within: inspect(within.connection()).has_table("store")):
            raise Refused("no soup has run here yet: the database has no tables of soup")
        known = await queries.store_uuid(session, STORE)
    if known is None:
        raise Refused("no soup has run on this database yet")
    return known


def on_database(settings: "Settings", act: "Callable[[Database], Awaitable[T]]") -> T:
    """Do something on the database that the settings name."""
    from soup.db.work import Database

    async def run() -> T:
        database = Database(settings.database_url)
        try:
            return await act(database)
        finally:
            await database.close()

    return asyncio.run(run())
