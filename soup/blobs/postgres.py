"""The index where a lookup is a round trip: many are asked for at once."""

import asyncio
import struct
from collections.abc import Iterable, Sequence
from typing import Any

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from soup import metrics
from soup.blobs.index import ASK, NO_FEED, Ask
from soup.blobs.known import PRESENT, Found, Known
from soup.blobs.model import Feed
from soup.core.bell import Bell
from soup.core.errors import DatabaseDown
from soup.core.gather import Gather
from soup.core.limit import Limit


class Digests(tuple[bytes, ...]):
    """Digests as an argument of a query."""

    __slots__ = ()


class _DigestsDumper(Dumper):
    """Writes an array of bytea as PostgreSQL reads it.

    The driver's own way for any list takes as long for each digest as the database takes to find it.
    """

    format, oid = Format.BINARY, psycopg.adapters.types["bytea"].array_oid
    _HEAD = struct.Struct("!iiIii")  # dimensions, any nulls, type of elements, how many, number of the first
    _LENGTH = struct.pack("!i", 32)

    def dump(self, obj: Digests) -> bytes:
        head = self._HEAD.pack(1, 0, psycopg.adapters.types["bytea"].oid, len(obj), 1)
        return head + b"".join([self._LENGTH + raw for raw in obj])


async def _teach(connection: psycopg.AsyncConnection[Any]) -> None:
    connection.adapters.register_dumper(Digests, _DigestsDumper)


class PostgresIndex:
    """Few connections, many lookups a query, and at most `remembered` blobs that are known without one.

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
            configure=_teach,
            open=False,
        )
        self._bell, self._rung, self._seconds = bell, -1, seconds
        self._alone = asyncio.Lock()
        self._known = Known(remembered)
        self._feed = Feed("", 0)
        self._turn = 0  # grows with everything that is forgotten
        self._asked: Gather[bytes, Found | None] = Gather(self._find, pause=0, most=1000, limit=seconds)

    def peek(self, raw: bytes) -> Found | Ask:
        """See Index."""
        if self._bell.rung != self._rung:
            return ASK
        return self._known.get(raw) or ASK

    async def ask(self, raw: bytes) -> Found | None:
        """See Index."""
        if self._bell.rung != self._rung:
            await self.refresh()
        return await self._asked.ask(raw)

    async def _find(self, raws: Sequence[bytes]) -> Sequence[Found | None]:
        turn = self._turn
        with metrics.LOOKUP_SECONDS.time():
            rows = await self._query(self._FIND, [Digests(set(raws))])
        found: dict[bytes, Found] = {row[0]: row[1:] for row in rows}
        if turn == self._turn:
            # Otherwise something changed meanwhile, and these rows may have been read before it did.
            for raw, seq, size, state in rows:
                if state == PRESENT:  # what is gone another core may bring back at any moment
                    self._known.put(raw, seq, size)
        return [found.get(raw) for raw in raws]

    async def feed(self) -> Feed:
        """See Index."""
        rows = await self._query(self._FEED, [])
        if not rows:
            raise DatabaseDown(NO_FEED)
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
            self._known.clear()
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
            self._known.drop(raw)

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
