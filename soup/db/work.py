"""The unit of work."""

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from soup import metrics
from soup.core.clock import Clock, utc_now
from soup.core.errors import DatabaseDown
from soup.core.limit import Limit
from soup.db.engines import engines, parsed

# The longest that any transaction may take: who waits for a server is to hear within 5 s that it is down; a
# disk that takes its time is waited for, because what it is asked to keep has come all the way.
SERVER_SECONDS, DISK_SECONDS = 4.0, 60.0
PATIENCE = 5.0
# What PostgreSQL calls a transaction that may do when tried again: two that were in each other's way (a
# serialization failure, a deadlock), a connection that was cut by an administrator or by a crash.
AGAIN = {"40001", "40P01", "57P01", "57P02"}


@dataclass(slots=True)
class Work:
    """One transaction, and what is to happen once it is true."""

    session: AsyncSession
    acts: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    def after(self, act: Callable[[], Awaitable[None]]) -> None:
        """Do this once it is true, and not at all if it never became true."""
        self.acts.append(act)


class Database:
    """Where rows are. Raises DatabaseDown from every block when it does not answer within `seconds`.

    `clock` dates what is written; without it that is the server's own, or this machine's for SQLite.
    `patience` is how many seconds a block waits for another process that is writing, before it is Contended.
    """

    def __init__(self, url: str, *, patience: float = PATIENCE, clock: Clock | None = None) -> None:
        self.url = parsed(url)
        self._clock = clock or (utc_now if self.file is not None else None)
        self.seconds = SERVER_SECONDS if self.file is None else DISK_SECONDS
        self._write, self._read = engines(self.url, patience=patience, seconds=self.seconds)
        self._writing = async_sessionmaker(self._write, expire_on_commit=False)
        self._reading = async_sessionmaker(self._read, expire_on_commit=False)

    @property
    def file(self) -> Path | None:
        """The file of an SQLite database; None for PostgreSQL."""
        return Path(self.url.database or "") if self.url.get_backend_name() == "sqlite" else None

    async def now(self, session: AsyncSession) -> datetime:
        """The one clock everything in the database is dated by: the server's, or this machine's (D18)."""
        if self._clock is not None:
            return self._clock()
        moment: datetime = (await session.execute(select(func.clock_timestamp()))).scalar_one()
        return moment

    @property
    def plain_url(self) -> str:
        """The URL as PostgreSQL's own library reads it."""
        return self.url.set(drivername="postgresql").render_as_string(hide_password=False)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Work]:
        """A transaction that may write. It is committed when the block ends, and undone when it raises."""
        with translated():
            async with Limit(self.seconds), self._writing.begin() as session:
                work = Work(session)
                yield work
        for act in work.acts:
            await act()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """A transaction that sees one state of everything and writes nothing."""
        with translated():
            async with Limit(self.seconds), self._reading.begin() as session:
                yield session

    async def close(self) -> None:
        """Give the connections back."""
        await self._write.dispose()
        await self._read.dispose()


class Contended(DatabaseDown):
    """Another process was faster, or is still at it, or has cut the connection. The next try may do."""


def _sqlstate(error: DBAPIError) -> str | None:
    return getattr(error.orig, "sqlstate", None)


class translated:  # noqa: N801 - reads as a verb where it is used
    """Nothing leaves but soup's own errors; the cause stays attached."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        match error:
            case TimeoutError():
                metrics.DATABASE_ERRORS.labels("timeout").inc()
                raise DatabaseDown("the database did not answer in time") from error
            case PoolTimeout():
                metrics.DATABASE_ERRORS.labels("busy").inc()
                raise Contended("others of this process are waiting for the database") from error
            case IntegrityError():
                metrics.DATABASE_ERRORS.labels("raced").inc()
                raise Contended(f"another process was faster: {error.orig}") from error
            case DBAPIError() if getattr(error.orig, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
                metrics.DATABASE_ERRORS.labels("busy").inc()
                raise Contended(f"another process is writing: {error.orig}") from error
            case DBAPIError() if error.connection_invalidated or _sqlstate(error) in AGAIN:
                metrics.DATABASE_ERRORS.labels("raced").inc()
                raise Contended(f"the database gave up: {error.orig}") from error
            case DBAPIError():
                metrics.DATABASE_ERRORS.labels("refused").inc()
                raise DatabaseDown(f"the database refuses: {error.orig}") from error
