"""Engines and the unit of work."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from soup.core.errors import DatabaseDown, Refused

SECONDS = 10  # the longest that any transaction may take

# WAL: readers never wait for a writer. FULL: what was committed survives a power cut, NORMAL loses the last
# commits.
PRAGMAS = ("journal_mode = wal", "synchronous = full", "foreign_keys = on")


@dataclass(slots=True)
class Work:
    """One transaction, and what is to happen once it is true."""

    session: AsyncSession
    acts: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    def after(self, act: Callable[[], Awaitable[None]]) -> None:
        """Do this once it is true, and not at all if it never became true."""
        self.acts.append(act)


class Database:
    """Where rows are. Raises DatabaseDown from every block when it does not answer within SECONDS.

    `patience` is how many seconds a block waits for another process that is writing.
    """

    def __init__(self, url: str, *, patience: float = 5) -> None:
        self.url = parsed(url)
        pragmas = (*PRAGMAS, f"busy_timeout = {round(patience * 1000)}")
        self._write = _engine(self.url, 1, pragmas)
        self._read = _engine(self.url, 4, (*pragmas, "query_only = on"))
        event.listen(self._write.sync_engine, "begin", begin_immediate)
        event.listen(self._read.sync_engine, "begin", _begin)
        self._writing = async_sessionmaker(self._write, expire_on_commit=False)
        self._reading = async_sessionmaker(self._read, expire_on_commit=False)

    @property
    def file(self) -> Path:
        """The file of an SQLite database."""
        return Path(self.url.database or "")

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Work]:
        """A transaction that may write. It is committed when the block ends, and undone when it raises."""
        with translated():
            async with asyncio.timeout(SECONDS), self._writing.begin() as session:
                work = Work(session)
                yield work
        for act in work.acts:
            await act()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """A transaction that sees one state of everything and writes nothing."""
        with translated():
            async with asyncio.timeout(SECONDS), self._reading.begin() as session:
                yield session

    async def close(self) -> None:
        """Give the connections back."""
        await self._write.dispose()
        await self._read.dispose()


class translated:  # noqa: N801 - reads as a verb where it is used
    """Nothing leaves but soup's own errors; the cause stays attached."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        match error:
            case TimeoutError() | PoolTimeout():
                raise DatabaseDown("the database did not answer in time") from error
            case DBAPIError():
                raise DatabaseDown(f"the database refuses: {error.orig}") from error


def parsed(url: str) -> URL:
    """A database URL with the driver soup uses. Raises Refused for a database soup does not know."""
    try:
        found = make_url(url)
    except Exception as error:
        raise Refused(f"not a database URL: {url!r}. For example sqlite:////var/lib/soup/soup.db") from error
    if found.get_backend_name() != "sqlite" or not found.database:
        raise Refused(
            f"soup keeps its rows in SQLite: sqlite:///path/to/soup.db, not {found.render_as_string()!r}"
        )
    return found.set(drivername="sqlite+aiosqlite")


def _engine(url: URL, connections: int, pragmas: Iterable[str]) -> AsyncEngine:
    engine = create_async_engine(
        url,
        poolclass=AsyncAdaptedQueuePool,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=SECONDS,
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
