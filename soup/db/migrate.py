"""Bringing a database up to this release: forward only, by one process at a time."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DBAPIError

from soup.core.errors import Refused
from soup.db.work import parsed

SCRIPTS = Path(__file__).parent / "migrations"


def migrate(url: str) -> str:
    """Apply every migration this release has and the database has not; the revision it is at then.

    Raises Refused for a database that a newer release has written, or that cannot be opened.
    """
    found = parsed(url).set(drivername="sqlite")
    file = Path(found.database or "")
    engine = create_engine(found)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with _alone(file), engine.begin() as connection:
            return _upgrade(connection)
    except (DBAPIError, OSError) as error:
        reason = error.orig if isinstance(error, DBAPIError) else error
        raise Refused(f"the database {file} cannot be opened: {reason}") from error
    finally:
        engine.dispose()


def _upgrade(connection: Connection) -> str:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    scripts = ScriptDirectory.from_config(config)
    known = {script.revision for script in scripts.walk_revisions()}
    current = MigrationContext.configure(connection).get_current_revision()
    if current is not None and current not in known:
        raise Refused(
            f"the database is at revision {current}, which this release does not know. Run the newer soup"
        )
    head = scripts.get_current_head() or ""

    def steps(revision: object, _: MigrationContext) -> object:
        return scripts._upgrade_revs(head, revision)  # type: ignore[arg-type]  # noqa: SLF001 - what env.py itself calls

    with EnvironmentContext(config, scripts, fn=steps, destination_rev=head) as context:
        context.configure(connection=connection, render_as_batch=True)
        with context.begin_transaction():
            context.run_migrations()
    return head


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    with file.with_name(file.name + ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
