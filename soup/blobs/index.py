"""The narrow read path of a redirect: one lookup, no session, no thread (D3)."""

import sqlite3
from pathlib import Path

from soup.blobs.model import Feed
from soup.core.errors import DatabaseDown

# The covering index answers alone. Left to itself SQLite takes the unique one and then looks into the table
# as well.
_FIND = "select seq, size, state from blob indexed by blob_known where digest = ?"
_FEED = "select epoch, head from feed where id = 1"
_MAPPED = 1 << 31


class Index:
    """A read-only SQLite handle in the event loop: some microseconds a lookup, and never stale."""

    def __init__(self, file: Path) -> None:
        self._handle = sqlite3.connect(
            f"{file.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
        )
        self._handle.execute(f"pragma mmap_size = {_MAPPED}")
        self._handle.execute("pragma query_only = on")
        self._ask = self._handle.execute

    def find(self, raw: bytes) -> tuple[int, int, int] | None:
        """seq, size and state of a digest in its 32 bytes; None where there is no row.

        Raises DatabaseDown.
        """
        try:
            found: tuple[int, int, int] | None = self._ask(_FIND, (raw,)).fetchone()
        except sqlite3.Error as error:
            raise DatabaseDown(f"the database refuses: {error}") from error
        return found

    def feed(self) -> Feed:
        """Which history this is, and the number of its last change. Raises DatabaseDown."""
        try:
            return Feed(*self._ask(_FEED).fetchone())
        except (sqlite3.Error, TypeError) as error:
            raise DatabaseDown(f"the database refuses: {error}") from error

    def store_id(self, name: str) -> int:
        """The id of a store that is registered. Raises DatabaseDown."""
        try:
            found: int = self._ask("select id from store where name = ?", (name,)).fetchone()[0]
        except (sqlite3.Error, TypeError) as error:
            raise DatabaseDown(f"no store {name!r} in the database: {error}") from error
        return found

    def close(self) -> None:
        """Give the handle back."""
        self._handle.close()
