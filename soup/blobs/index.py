"""The narrow read path of a redirect: one lookup, no session, no thread (D3).

`peek` answers at once where it can, and says ASK where it cannot; then `ask` waits. An SQLite handle always
can: some microseconds a lookup, and never stale. For PostgreSQL, lookups that come while one is under way
travel together, and blobs known by then are kept in memory, within bounds, until a change of their state is
heard of. There is no negative cache: what one core has acknowledged, all find at once.
"""

import asyncio
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from soup import metrics
from soup.blobs.model import Feed
from soup.core.bell import Bell
from soup.core.blob import State
from soup.core.errors import DatabaseDown
from soup.core.gather import Gather
from soup.core.limit import Limit

Found = tuple[int, int, int]  # seq, size and state of a digest


class Ask:
    """Not known here: the database has to be asked."""


ASK: Final = Ask()


class Index(Protocol):
    """Finds digests by their 32 bytes. Every verb raises DatabaseDown."""

    def peek(self, raw: bytes) -> Found | Ask | None:
        """What is known now; None where there is no row."""

    async def ask(self, raw: bytes) -> Found | None:
        """What the database says; None where there is no row."""

    async def feed(self) -> Feed:
        """Which history this is, and the number of its last change."""

    async def refresh(self) -> None:
        """Hear of what other processes have changed. Called each second."""

    def forget(self, raws: Iterable[bytes]) -> None:
        """This process has changed their state."""

    async def start(self) -> None: ...

    async def close(self) -> None: ...


class SqliteIndex:
    """A read-only handle in the event loop."""

    # The covering index answers alone. Left to itself SQLite takes the unique one and the table as well.
    _FIND = "select seq, size, state from blob indexed by blob_known where digest = ?"
    _FEED = "select epoch, head from feed where id = 1"
    _MAPPED = 1 << 31

    def __init__(self, file: Path) -> None:
        self._file = file
        self._handle: sqlite3.Connection | None = None

    def peek(self, raw: bytes) -> Found | None:
        """See Index."""
        try:
            found: Found | None = self._execute(self._FIND, (raw,)).fetchone()
        except sqlite3.Error as error:
            metrics.DATABASE_ERRORS.labels("refused").inc()
            raise DatabaseDown(f"the database refuses: {error}") from error
        return found

    async def ask(self, raw: bytes) -> Found | None:
        """See Index."""
        return self.peek(raw)

    async def feed(self) -> Feed:
        """See Index."""
        try:
            return Feed(*self._execute(self._FEED).fetchone())
        except (sqlite3.Error, TypeError) as error:
            metrics.DATABASE_ERRORS.labels("refused").inc()
            raise DatabaseDown(f"the database refuses: {error}") from error

    async def refresh(self) -> None:
        """See Index. It is never stale."""

    def forget(self, raws: Iterable[bytes]) -> None:
        """See Index. It remembers nothing."""

    async def start(self) -> None:
        """See Index."""
        if self._handle is not None:
            return
        try:
            handle = sqlite3.connect(
                f"{self._file.absolute().as_uri()}?mode=ro",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
            )
            handle.execute(f"pragma mmap_size = {self._MAPPED}")
            handle.execute("pragma query_only = on")
        except sqlite3.Error as error:
            raise DatabaseDown(f"the database cannot be opened: {error}") from error
        self._handle, self._execute = handle, handle.execute

    async def close(self) -> None:
        """Give the handle back."""
        if self._handle is not None:
            self._handle.close()


class Memory:
    """The most recent of many, in two generations: an entry that is not asked for in either is forgotten."""

    def __init__(self, most: int) -> None:
        self._half = max(1, most // 2)
        self._young: dict[bytes, Found] = {}
        self._old: dict[bytes, Found] = {}

    def get(self, raw: bytes) -> Found | None:
        """What is remembered of a digest."""
        found = self._young.get(raw)
        if found is None and (found := self._old.get(raw)) is not None:
            self.put(raw, found)
        return found

    def put(self, raw: bytes, found: Found) -> None:
        """Remember it."""
        if len(self._young) >= self._half:
            self._old, self._young = self._young, {}
        self._young[raw] = found

    def drop(self, raw: bytes) -> None:
        """Forget it."""
        self._young.pop(raw, None)
        self._old.pop(raw, None)

    def clear(self) -> None:
        """Forget everything."""
        self._young, self._old = {}, {}


class PostgresIndex:
    """Few connections, many lookups a query, and a memory of at most `remembered` blobs.

    What another core has changed is heard of within a second, what another worker of this machine has, at
    once.
    """

    _FIND = "select digest, seq, size, state from blob where digest = any(%s)"
    _FEED = "select epoch, head from feed where id = 1"
    _CHANGED = "select digest, seq from blob where seq > %s order by seq limit 10000"
    _MANY = 10_000

    def __init__(self, url: str, bell: Bell, *, seconds: float, remembered: int) -> None:
        # Prepared statements do not survive PgBouncer's transaction mode, and gain little here.
        self._pool = AsyncConnectionPool(
            url,
            kwargs={"autocommit": True, "prepare_threshold": None, "connect_timeout": max(2, round(seconds))},
            min_size=1,
            max_size=3,
            timeout=seconds,
            reconnect_timeout=1,  # left to itself it waits twice as long after each try, for minutes
            open=False,
        )
        self._bell, self._rung, self._seconds = bell, -1, seconds
        self._alone = asyncio.Lock()
        self._memory = Memory(remembered)
        self._feed = Feed("", 0)
        self._turn = 0  # grows with everything that is forgotten
        self._asked: Gather[bytes, Found | None] = Gather(self._find, pause=0, most=1000, limit=seconds)

    def peek(self, raw: bytes) -> Found | Ask:
        """See Index."""
        if self._bell.rung != self._rung:
            return ASK
        return self._memory.get(raw) or ASK

    async def ask(self, raw: bytes) -> Found | None:
        """See Index."""
        if self._bell.rung != self._rung:
            await self.refresh()
        return await self._asked.ask(raw)

    async def _find(self, raws: Sequence[bytes]) -> Sequence[Found | None]:
        turn = self._turn
        with metrics.LOOKUP_SECONDS.time():
            rows = await self._query(self._FIND, [list(set(raws))])
        found: dict[bytes, Found] = {bytes(row[0]): (row[1], row[2], row[3]) for row in rows}
        if turn == self._turn:
            # Otherwise something changed meanwhile, and these rows may have been read before it did.
            for raw, row in found.items():
                if row[2] == State.PRESENT:  # what is gone another core may bring back at any moment
                    self._memory.put(raw, row)
        return [found.get(raw) for raw in raws]

    async def feed(self) -> Feed:
        """See Index."""
        rows = await self._query(self._FEED, [])
        if not rows:
            raise DatabaseDown("the database has no feed: it was not prepared by soup")
        return Feed(*rows[0])

    async def refresh(self) -> None:
        """See Index. What changed since the last time is forgotten; the next to ask for it learns it anew."""
        async with self._alone:
            rung = self._bell.rung
            await self._hear()
            self._rung = rung

    async def _hear(self) -> None:
        feed = await self.feed()
        if feed.epoch != self._feed.epoch or feed.head < self._feed.head:
            self._turn += 1
            self._memory.clear()
        else:
            heard = self._feed.head
            while heard < feed.head:
                rows = await self._query(self._CHANGED, [heard])
                self._drop(bytes(raw) for raw, _ in rows)
                heard = rows[-1][1] if len(rows) == self._MANY else feed.head
        self._feed = feed

    def forget(self, raws: Iterable[bytes]) -> None:
        """See Index."""
        changed = list(raws)
        if changed:
            self._drop(changed)
            self._bell.ring()

    def _drop(self, raws: Iterable[bytes]) -> None:
        self._turn += 1
        for raw in raws:
            self._memory.drop(raw)

    async def _query(self, statement: str, arguments: Sequence[object]) -> list[tuple[Any, ...]]:
        try:
            async with Limit(self._seconds):
                try:
                    return await self._one(statement, arguments)
                except psycopg.OperationalError:
                    # It may be cut, and the others with it, as when the server has been restarted.
                    await self._pool.check()
                    return await self._one(statement, arguments)
        except (TimeoutError, PoolTimeout) as error:
            metrics.DATABASE_ERRORS.labels("timeout").inc()
            raise DatabaseDown("the database did not answer in time") from error
        except psycopg.Error as error:
            metrics.DATABASE_ERRORS.labels("refused").inc()
            raise DatabaseDown(f"the database refuses: {error}") from error

    async def _one(self, statement: str, arguments: Sequence[object]) -> list[tuple[Any, ...]]:
        async with self._pool.connection() as connection:
            cursor = await connection.execute(statement, arguments, binary=True)
            return await cursor.fetchall()

    async def start(self) -> None:
        """See Index."""
        await self._pool.open()
        await self.refresh()

    async def close(self) -> None:
        """Give the connections back."""
        await self._pool.close(self._seconds)
