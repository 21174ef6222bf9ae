"""Bringing a database up to this release: forward only, by one process at a time."""

import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, create_engine, event, text
from sqlalchemy.exc import DBAPIError, OperationalError

from soup.core.errors import DatabaseDown, Refused
from soup.db.engines import begin_immediate, parsed

SCRIPTS = Path(__file__).parent / "migrations"
LOCK = 0x736F7570  # "soup": whoever migrates a PostgreSQL database holds it
_BROKEN = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def migrate(url: str) -> str:
    """Apply every migration this release has and the database has not; the revision it is at then.

    Raises Refused for a database that a newer release has written, or that cannot be opened; DatabaseDown for
    one that does not answer.
    """
    found = parsed(url)
    if found.get_backend_name() == "sqlite":
        return _migrate_sqlite(found.set(drivername="sqlite"))
    engine = create_engine(found, connect_args={"connect_timeout": 5}, hide_parameters=True)
    try:
        with engine.begin() as connection:
            connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
            return _upgrade(connection)
    except OperationalError as error:
        raise DatabaseDown(f"the database does not answer: {error.orig}") from error
    except DBAPIError as error:
        raise Refused(f"the database refuses: {error.orig}") from error
    finally:
        engine.dispose()


def _migrate_sqlite(url: URL) -> str:
    file = Path(url.database or "")
    engine = create_engine(url)
    # All or nothing: left to itself the driver commits each table as it is made, and a start that is cut
    # short would leave some behind, for every later one to stumble over.
    event.listen(engine, "connect", _no_transactions_of_its_own)
    event.listen(engine, "begin", begin_immediate)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with _alone(file), engine.begin() as connection:
            return _upgrade(connection)
    except (DBAPIError, OSError) as error:
        reason = error.orig if isinstance(error, DBAPIError) else error
        advice = ". Restore it from a backup" if getattr(reason, "sqlite_errorcode", 0) in _BROKEN else ""
        raise Refused(f"the database {file} cannot be opened: {reason}{advice}") from error
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


def _no_transactions_of_its_own(connection: Any, _: object) -> None:
    connection.isolation_level = None
    connection.execute("pragma journal_mode = wal")  # here, where nobody else can be at it for the first time


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    with file.with_name(file.name + ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
