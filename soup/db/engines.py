"""Engines for the two databases soup knows (D6)."""

import re
from collections.abc import Iterable
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from soup.core.errors import Refused

WRITERS, READERS = 8, 4  # connections of a worker to PostgreSQL
DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+psycopg"}
KNOWN = "sqlite:///path/to/soup.db or postgresql://user@host/name"

# WAL: readers never wait for a writer. FULL: what was committed survives a power cut, NORMAL loses the last
# commits.
PRAGMAS = ("journal_mode = wal", "synchronous = full", "foreign_keys = on")


def parsed(url: str) -> URL:
    """A database URL with the driver soup uses. Raises Refused for a database soup does not know."""
    try:
        found = make_url(re.sub("^postgres:", "postgresql:", url))
        driver = DRIVERS[found.get_backend_name()]
    except (ArgumentError, KeyError, ValueError) as error:
        raise Refused(f"no URL of a database soup knows: {KNOWN}") from error
    if not found.database:
        raise Refused(f"the URL names no database: {KNOWN}")
    return found.set(drivername=driver)


def engines(url: URL, *, patience: float, seconds: float) -> tuple[AsyncEngine, AsyncEngine]:
    """One engine for writing and one for reading.

    A block waits for a connection, or for another writer of SQLite, for `patience` seconds at most;
    `seconds` is the longest that connecting may take.
    """
    if url.get_backend_name() == "sqlite":
        return _sqlite(url, patience)
    return _postgres(url, WRITERS, patience, seconds), _postgres(
        url, READERS, patience, seconds, isolation_level="REPEATABLE READ"
    )


def _postgres(url: URL, connections: int, patience: float, seconds: float, **more: Any) -> AsyncEngine:
    engine = create_async_engine(
        url,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=patience,
        pool_pre_ping=True,  # a connection that died with its server is replaced, not handed out
        hide_parameters=True,
        # Prepared statements do not survive PgBouncer's transaction mode.
        connect_args={"prepare_threshold": None, "connect_timeout": max(2, round(seconds))},
        **more,
    )

    def connected(connection: Any, _: object) -> None:
        # No transaction takes so long: a process that was stopped in the middle of one would keep its locks,
        # and everybody else from the jobs or the feed, until it wakes. Said here and not in the URL, for
        # PgBouncer refuses options there.
        cursor = connection.cursor()
        cursor.execute(f"set idle_in_transaction_session_timeout = {round(2 * seconds * 1000)}")
        cursor.close()
        connection.commit()

    event.listen(engine.sync_engine, "connect", connected)
    return engine


def _sqlite(url: URL, patience: float) -> tuple[AsyncEngine, AsyncEngine]:
    pragmas = (f"busy_timeout = {round(patience * 1000)}", *PRAGMAS)  # first: each of the others may wait
    write = _sqlite_engine(url, 1, patience, pragmas)
    read = _sqlite_engine(url, READERS, patience, (*pragmas, "query_only = on"))
    event.listen(write.sync_engine, "begin", begin_immediate)
    event.listen(read.sync_engine, "begin", _begin)
    return write, read


def _sqlite_engine(url: URL, connections: int, patience: float, pragmas: Iterable[str]) -> AsyncEngine:
    engine = create_async_engine(
        url,
        poolclass=AsyncAdaptedQueuePool,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=patience,
        hide_parameters=True,  # what is logged of a failed statement has no values in it
    )

    def connected(connection: Any, _: object) -> None:
        # The driver would start transactions of its own, at the wrong moments.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(f"pragma {pragma}")
        cursor.close()

    event.listen(engine.sync_engine, "connect", connected)
    return engine


def begin_immediate(connection: Any) -> None:
    """Take the lock for writing at the start: see the package."""
    connection.exec_driver_sql("begin immediate")


def _begin(connection: Any) -> None:
    # Without it each statement would see another state.
    connection.exec_driver_sql("begin")
