"""`soup migrate`: bring the database up to this release."""

from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from soup.cli.config import CONFIG, load, on_database

if TYPE_CHECKING:
    from soup.db.work import Database


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; exit status 1 if there is something to do.")
@CONFIG
def migrate(*, check: bool, config: Path | None) -> None:
    """Bring the tables of the database up to this release, and print the revision they are at.

    `soup serve` does the same when it starts. Cores of the release before go on working meanwhile.
    """
    from alembic.script import ScriptDirectory

    from soup.core.errors import Refused
    from soup.db import migrate as migrating

    settings = load(config)
    if not check:
        click.echo(migrating.migrate(settings.database_url))
        return
    scripts = ScriptDirectory(str(migrating.SCRIPTS))
    head, current = scripts.get_current_head(), on_database(settings, _revision)
    if current is not None and current not in {script.revision for script in scripts.walk_revisions()}:
        raise Refused(f"the database is at revision {current}, which this release does not know")
    if current != head:
        raise Refused(f"the database is at revision {current or 'none'}, behind {head}: run soup migrate")
    click.echo(current)


async def _revision(database: "Database") -> str | None:
    """Which revision a database is at; None for one that soup has made no tables in."""
    from alembic.runtime.migration import MigrationContext

    if database.file is not None and not database.file.exists():
        return None
    async with database.reading() as session:
        connection = await session.connection()
        return await connection.run_sync(
            lambda plain: MigrationContext.configure(plain).get_current_revision()
        )
