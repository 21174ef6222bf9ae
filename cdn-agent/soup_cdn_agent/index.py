"""What should be in the folder, and whether it is: a small SQLite database beside the blobs.

It is written after the files it speaks of, and read by one thread at a time.
"""

import json
import secrets
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TABLES = """
create table if not exists blob (
    digest blob primary key, size integer not null, created_at integer not null, seq integer not null,
    here integer not null, round integer not null
) without rowid;
create index if not exists blob_missing on blob (here, seq, size, created_at) where here = 0;
create table if not exists served (digest blob primary key, at real not null) without rowid;
create index if not exists served_longest_ago on served (at);
create table if not exists note (name text primary key, value text not null) without rowid;
"""
NEAR = 1000  # rows looked at for one that is small


class Corrupt(Exception):
    """The file of the index is damaged: it is to be begun anew."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A blob that should be here: `created_at` in Unix seconds, `seq` its number in the feed."""

    digest: str
    size: int
    created_at: int
    seq: int


class Index:
    """The index in a file. Its methods block, for milliseconds."""

    def __init__(self, file: Path) -> None:
        self.file = file
        file.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(file, check_same_thread=False, isolation_level=None, timeout=5)
        try:
            self._begin()
        except sqlite3.DatabaseError as error:
            if not damaged(error):
                raise
            self.discard()
            self._db = sqlite3.connect(file, check_same_thread=False, isolation_level=None, timeout=5)
            self._begin()
        self._node = self._inode()
        self._every: int | None = None  # how many rows there are

    def _begin(self) -> None:
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = normal")
        self._db.execute("pragma cache_size = -4000")
        self._db.executescript(_TABLES)
        if self.note("boot_id") is None:
            self.write(boot_id=secrets.token_hex(16))

    def _inode(self) -> tuple[int, int] | None:
        try:
            seen = self.file.stat()
        except FileNotFoundError:
            return None
        return seen.st_dev, seen.st_ino

    @property
    def lost(self) -> bool:
        """Whether its file is gone, and with it, most likely, everything it speaks of."""
        return self._inode() != self._node

    def discard(self) -> None:
        """Throw it away. It is not worth mending: the folder and the feed say it all again."""
        self._db.close()
        for name in (self.file.name, f"{self.file.name}-wal", f"{self.file.name}-shm"):
            self.file.with_name(name).unlink(missing_ok=True)

    def close(self) -> None:
        """Take in the log and let go of the file."""
        self._db.close()

    def note(self, name: str) -> Any:
        """What was written down under a name; None if nothing was."""
        row = self._db.execute("select value from note where name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def write(self, **notes: Any) -> None:
        """Write down notes, all or none."""
        self._many(
            "insert into note values (?, ?) on conflict (name) do update set value = excluded.value",
            ((name, json.dumps(value)) for name, value in notes.items()),
        )

    def _many(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
        self._db.execute("begin immediate")
        try:
            self._db.executemany(statement, rows)
        except BaseException:
            self._undo()
            raise
        try:
            self._db.execute("commit")
        except BaseException:
            self._undo()
            raise

    def _undo(self) -> None:
        if self._db.in_transaction:  # a full disk has ended it already
            self._db.execute("rollback")

    def expect(self, blobs: Iterable[Wanted], round: int) -> None:
        """These should be here. What is here already stays so."""
        self._every = None
        self._many(
            "insert into blob values (?, ?, ?, ?, 0, ?) on conflict (digest) do update set"
            " created_at = excluded.created_at, seq = excluded.seq, round = excluded.round",
            ((bytes.fromhex(b.digest), b.size, b.created_at, b.seq, round) for b in blobs),
        )

    def forget(self, digests: Iterable[str]) -> None:
        """These should not be here any more."""
        self._every = None
        raws = [(bytes.fromhex(digest),) for digest in digests]
        self._many("delete from blob where digest = ?", raws)
        self._many("delete from served where digest = ?", raws)

    def arrived(self, digests: Iterable[str]) -> list[str]:
        """These are here now; those of them that should not be, for somebody has deleted them meanwhile."""
        raws = [bytes.fromhex(digest) for digest in digests]
        self._many("update blob set here = 1 where digest = ?", ((raw,) for raw in raws))
        return [raw.hex() for raw in raws if self._row(raw) is None]

    def lost_files(self, digests: Iterable[str]) -> None:
        """These are not here, though they should be."""
        self._many("update blob set here = 0 where digest = ?", ((bytes.fromhex(d),) for d in digests))

    def _row(self, raw: bytes) -> Any:
        return self._db.execute(
            "select digest, size, created_at, seq, here from blob where digest = ?", (raw,)
        ).fetchone()

    def here(self, digest: str) -> bool | None:
        """Whether a blob is here; None where it should not be."""
        row = self._row(bytes.fromhex(digest))
        return None if row is None else bool(row[4])

    def wanted(self, limit: int, *, above: int = -1, up_to: int = 1 << 62, after: int = -1) -> list[Wanted]:
        """What is still to be fetched, of sizes above and up to these, oldest change first.

        Only changes of numbers above `after`.
        """
        rows = self._db.execute(
            "select digest, size, created_at, seq from blob where here = 0 and seq > ?"
            " and size > ? and size <= ? order by seq limit ?",
            (after, above, up_to, limit),
        )
        return [_wanted(row) for row in rows]

    def wanted_of(self, digests: Iterable[str]) -> list[Wanted]:
        """Those of these that are still to be fetched."""
        rows = (self._row(bytes.fromhex(digest)) for digest in digests)
        return [_wanted(row[:4]) for row in rows if row is not None and not row[4]]

    def wanted_numbers(self, limit: int) -> list[tuple[int, str]]:
        """Number and digest of what is still to be fetched, oldest change first."""
        rows = self._db.execute("select seq, digest from blob where here = 0 order by seq limit ?", (limit,))
        return [(seq, raw.hex()) for seq, raw in rows]

    def counts(self) -> tuple[int, int]:
        """How many should be here, and how many of them are not."""
        (wanted,) = self._db.execute("select count(*) from blob where here = 0").fetchone()
        if self._every is None:
            (self._every,) = self._db.execute("select count(*) from blob").fetchone()
        return self._every or 0, wanted

    def folder(self, prefix: str) -> dict[str, tuple[int, bool]]:
        """Size and presence of all that should be in a folder of three digits."""
        first = bytes.fromhex(prefix + "0" * 61)
        last = bytes.fromhex(prefix + "f" * 61)
        rows = self._db.execute(
            "select digest, size, here from blob where digest between ? and ?", (first, last)
        )
        return {raw.hex(): (size, bool(here)) for raw, size, here in rows}

    def after(self, digest: str | None, limit: int) -> list[Wanted]:
        """What is here, in the order of digests, from behind one."""
        raw = b"" if digest is None else bytes.fromhex(digest)
        rows = self._db.execute(
            "select digest, size, created_at, seq from blob where digest > ? and here = 1"
            " order by digest limit ?",
            (raw, limit),
        )
        return [_wanted(row) for row in rows]

    def any(self, largest: int) -> Wanted | None:
        """Something that is here, at random, of a small size if there is one near; None where nothing is."""
        found = self.after(secrets.token_hex(32), NEAR) or self.after(None, NEAR)
        fits = [one for one in found if one.size <= largest]
        return secrets.choice(fits) if fits else min(found, key=lambda one: one.size, default=None)

    def outdated(self, round: int, limit: int) -> list[str]:
        """What no list of this round has named: the core does not have it."""
        rows = self._db.execute("select digest from blob where round < ? limit ?", (round, limit))
        return [raw.hex() for (raw,) in rows]

    def begin_pull(self) -> None:
        """From now on what is not here is not wanted, and it counts when a blob was served."""
        self.give_up_wanted()
        self._db.execute("insert or ignore into served select digest, created_at from blob")

    def give_up_wanted(self) -> None:
        """What is not here should not be: nobody has asked for it yet."""
        self._every = None
        self._db.execute("delete from served where digest in (select digest from blob where here = 0)")
        self._db.execute("delete from blob where here = 0")

    def pulled(self, blob: Wanted, now: float) -> None:
        """The core has sent it: it is here, and served from `now` on, in Unix time."""
        raw = bytes.fromhex(blob.digest)
        self.expect([blob], 1)
        self._many("update blob set here = 1 where digest = ?", [(raw,)])
        self._many("insert or replace into served values (?, ?)", [(raw, now)])

    def found(self, blobs: Iterable[Wanted], now: float) -> None:
        """These lie here and are right; whether the core has them is not known yet: they are of round 0."""
        self._every = None
        rows = [(bytes.fromhex(b.digest), b.size, b.created_at, b.seq) for b in blobs]
        self._many("insert or ignore into blob values (?, ?, ?, ?, 1, 0)", rows)
        self._many("insert or ignore into served values (?, ?)", ((raw, now) for raw, *_ in rows))

    def confirm(self, digests: Iterable[str]) -> None:
        """The core has these."""
        self._many(
            "update blob set round = 1 where digest = ? and round = 0", ((bytes.fromhex(d),) for d in digests)
        )

    def unconfirmed(self, digests: Iterable[str]) -> set[str]:
        """Those of these of which the core has never said that it has them."""
        found = "select 1 from blob where digest = ? and round = 0"
        return {d for d in digests if self._db.execute(found, (bytes.fromhex(d),)).fetchone()}

    def served(self, digests: Iterable[str], now: float) -> None:
        """These were served now, in this order."""
        self._many(
            "update served set at = ? where digest = ?",
            ((now + place * 1e-6, bytes.fromhex(digest)) for place, digest in enumerate(digests)),
        )

    def longest_ago(
        self, before: float, after: tuple[float, str], limit: int
    ) -> list[tuple[str, int, float]]:
        """Digest, size and time of what was served before a moment, the oldest first.

        It begins behind the time and digest `after`: many may have the same time.
        """
        at, digest = after
        rows = self._db.execute(
            "select blob.digest, size, at from served join blob using (digest)"
            " where at < ? and (at, served.digest) > (?, ?) and here = 1 order by at, served.digest limit ?",
            (before, at, bytes.fromhex(digest), limit),
        )
        return [(raw.hex(), size, at) for raw, size, at in rows]


def damaged(error: BaseException) -> bool:
    """Whether it says that the file itself is bad, and not that the disk is full or somebody else writes."""
    code = getattr(error, "sqlite_errorcode", None) or 0
    return code & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def _wanted(row: Any) -> Wanted:
    raw, size, created_at, seq = row
    return Wanted(raw.hex(), size, created_at, seq)
