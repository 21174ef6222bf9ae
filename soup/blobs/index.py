"""The narrow read path of a redirect: one lookup, no session, no thread (D3).

`peek` answers at once where it can, and says ASK where it cannot; then `ask` waits. An SQLite handle always
can. Blobs that were asked for lately are known without a lookup, until a change of their state is heard of.
There is no negative cache: what one core has acknowledged, all find at once.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Protocol

from soup import metrics
from soup.blobs.known import PRESENT, Found, Known
from soup.blobs.model import Feed
from soup.core.bell import Bell
from soup.core.errors import DatabaseDown


class Ask:
    """Not known here: the database has to be asked."""


ASK: Final = Ask()
NO_FEED: Final = "the database has no feed: it was not prepared by soup"


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
    """A read-only handle in the event loop, and at most `remembered` blobs that are known without it.

    What any process of this machine has changed is heard of at once.
    """

    # The covering index answers alone. Left to itself SQLite takes the unique one and the table as well.
    _FIND = "select seq, size, state from blob indexed by blob_known where digest = ?"
    _FEED = "select epoch, head from feed where id = 1"
    _CHANGED = "select digest from blob where seq > ?"
    _MANY = 10_000  # changes, above which everything is forgotten: to read them would hold up the loop
    _MAPPED = 1 << 31  # bytes of the file; SQLite maps no more, and reads what lies behind

    def __init__(self, file: Path, bell: Bell, *, remembered: int) -> None:
        self._file, self._bell, self._rung = file, bell, -1
        self._known, self._seen = Known(remembered), Feed("", 0)
        self._handle: sqlite3.Connection | None = None
        self._reading = False

    def peek(self, raw: bytes) -> Found | None:
        """See Index."""
        try:
            if self._bell.rung != self._rung:
                self._hear()
            found = self._known.get(raw)
            if found is None:
                if not self._reading:
                    self._begin()
                found = self._execute(self._FIND, (raw,)).fetchone()
                if found is not None and found[2] == PRESENT:
                    self._known.put(raw, found[0], found[1])
        except sqlite3.Error as error:
            raise _refused(error) from error
        return found

    def _begin(self) -> None:
        """Let all lookups of this turn of the loop share a transaction: its locks cost as much as a lookup.

        None of them is stale by that: whoever asks for what is acknowledged meanwhile comes in a later turn.
        """
        self._execute("begin")
        self._reading = True
        asyncio.get_running_loop().call_soon(self._end)

    def _end(self) -> None:
        if self._reading:
            self._reading = False
            with contextlib.suppress(sqlite3.Error):  # it was closed meanwhile, or gave up by itself
                self._execute("commit")

    def _hear(self) -> None:
        self._end()  # a transaction sees nothing that is newer than itself
        rung, feed = self._bell.rung, self._feed()
        if feed.epoch != self._seen.epoch or not 0 <= feed.head - self._seen.head <= self._MANY:
            self._known.clear()
        else:
            for (raw,) in self._execute(self._CHANGED, (self._seen.head,)).fetchall():
                self._known.drop(raw)
        self._rung, self._seen = rung, feed

    async def ask(self, raw: bytes) -> Found | None:
        """See Index."""
        return self.peek(raw)

    async def feed(self) -> Feed:
        """See Index."""
        try:
            return self._feed()
        except sqlite3.Error as error:
            raise _refused(error) from error

    def _feed(self) -> Feed:
        row = self._execute(self._FEED).fetchone()
        if row is None:
            raise DatabaseDown(NO_FEED)
        return Feed(*row)

    async def refresh(self) -> None:
        """See Index. The bell has told already, unless somebody died before ringing it."""
        try:
            self._hear()
        except sqlite3.Error as error:
            raise _refused(error) from error

    def forget(self, raws: Iterable[bytes]) -> None:
        """See Index."""
        changed = list(raws)
        if changed:
            for raw in changed:
                self._known.drop(raw)
            self._bell.ring()

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
        self._handle, self._execute = handle, handle.cursor().execute

    async def close(self) -> None:
        """Give the handle back."""
        if self._handle is not None:
            self._end()
            self._handle.close()


def _refused(error: sqlite3.Error) -> DatabaseDown:
    metrics.DATABASE_ERRORS.labels("refused").inc()
    return DatabaseDown(f"the database refuses: {error}")
