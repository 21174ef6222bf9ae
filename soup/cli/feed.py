"""`soup feed`: the order of all changes."""

from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from soup.cli.config import CONFIG, load, on_database

if TYPE_CHECKING:
    from soup.db.work import Database


@click.group()
def feed() -> None:
    """Look after the feed, the one order of all changes."""


@feed.command()
@CONFIG
def renew(config: Path | None) -> None:
    """Begin another history, and print its epoch: once, after a backup of the database was restored.

    What was changed after the backup is lost, and its numbers will be given again: every reader has to begin
    anew, and learns it by the epoch. A running soup hears of it within a second.
    """
    import secrets

    from soup.blobs import queries
    from soup.core.errors import Refused

    async def act(database: "Database") -> str:
        if database.file is not None and not database.file.exists():
            raise Refused(f"no soup has run here yet: there is no {database.file}")
        epoch = secrets.token_hex(8)
        async with database.begin() as work:
            await queries.renew_feed(work.session, epoch)
        return epoch

    click.echo(on_database(load(config), act))
