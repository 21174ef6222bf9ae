"""Databases with many blobs, and the digests to ask for.

Blobs of redirects are rows without files: whoever is sent to a mirror is not sent bytes. All digests are
drawn from one seed, so a database that was kept is as good as a new one.
"""

import contextlib
import hashlib
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import psycopg

from soup.prepare import prepare
from soup.settings import Settings

LINE = 65  # bytes of a digest and the end of its line
SIZE = 4096  # what rows without files say
PORTION = 50_000
MOMENT = "2026-01-01 00:00:00.000000"
HOT = 10  # one blob of so many is asked for 9 times in 10
BLOB = "insert into blob (digest, size, state, seq, created_at, touched_at) values (?, ?, 1, ?, ?, ?)"
MIRROR = (
    "insert into mirror (id, fqdn, scheme, port, mode, weight, trusted, drained, created_at)"
    " values (%s, %s, 'https', 443, 'full', 1, %s, %s, %s)"
)
REPORT = "insert into report (mirror_id, status, last_seen, leaving) values (%s, 1, %s, %s)"


@dataclass
class Deck:
    """A file of digests, a line each, that are asked for in this order from `place` on."""

    file: Path
    lines: int
    place: int = 0

    def move(self, by: int) -> None:
        """So many were asked for."""
        self.place = (self.place + by) % self.lines

    def draw(self, dice: Random) -> str:
        """Any of them."""
        with self.file.open("rb") as file:
            file.seek(dice.randrange(self.lines) * LINE)
            return file.read(LINE - 1).decode()


def raws(blobs: int, seed: int = 7) -> Iterator[bytes]:
    """The digests of so many blobs, 32 bytes each, the same ones each time."""
    dice = Random(seed)  # noqa: S311 - the same ones each time are the point
    for _ in range(blobs):
        yield dice.randbytes(32)


def deck(file: Path, blobs: int, seed: int = 7) -> Deck:
    """A million of them at most, in the order they were made: digests have no order that shows."""
    lines = min(blobs, 1_000_000)
    return _written(file, lines, (raw.hex() for raw in raws(lines, seed)))


def skewed(file: Path, blobs: int, lines: int = 400_000) -> Deck:
    """Nine of ten lines for a tenth of the blobs, at random."""
    dice = Random(11)  # noqa: S311 - the same ones each time are the point
    known = [raw.hex() for raw in raws(blobs)]
    hot = max(1, blobs // HOT)

    def drawn() -> Iterator[str]:
        for _ in range(lines):
            first, last = (0, hot) if dice.random() < 1 - 1 / HOT else (hot, blobs)
            yield known[dice.randrange(first, max(last, first + 1)) % blobs]

    return _written(file, lines, drawn())


def _written(file: Path, lines: int, digests: Iterable[str]) -> Deck:
    if not file.exists() or file.stat().st_size != lines * LINE:
        with file.open("w") as written:
            written.writelines(f"{digest}\n" for digest in digests)
    return Deck(file, lines)


def sqlite(data: Path, blobs: int) -> None:
    """A data folder of soup with so many blobs, if it is not there yet."""
    done = data / "filled"
    prepare(Settings.load({"SOUP_DATA": str(data)}))
    if done.exists():
        return
    with contextlib.closing(sqlite3.connect(data / "soup.db")) as handle:
        handle.execute("pragma synchronous = off")
        handle.execute("pragma journal_mode = memory")  # the log would be as large as the whole
        handle.execute("pragma cache_size = -2000000")
        handle.execute("delete from blob")
        handle.executemany(
            BLOB, ((raw, SIZE, place, MOMENT, MOMENT) for place, raw in enumerate(raws(blobs), 1))
        )
        handle.execute("update feed set head = ?", (blobs,))
        handle.commit()
        handle.execute("pragma journal_mode = wal")
    done.touch()


def copied(data: Path, copy: Path) -> Path:
    """Another data folder with the same in it, if it is not there yet; the first may be in use."""
    if not (copy / "filled").exists():
        shutil.copytree(data, copy, ignore=shutil.ignore_patterns("soup.db*", "filled"), dirs_exist_ok=True)
        with (
            contextlib.closing(sqlite3.connect(data / "soup.db")) as source,
            contextlib.closing(sqlite3.connect(copy / "soup.db")) as target,
        ):
            source.backup(target)
            target.execute("pragma journal_mode = wal")
        (copy / "filled").touch()
    return copy


def postgresql(url: str, data: Path, blobs: int) -> None:
    """A database and a data folder of soup with so many blobs; the database must be empty."""
    prepare(Settings.load({"SOUP_DATA": str(data), "SOUP_DATABASE": url}))
    with psycopg.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        with cursor.copy(
            "copy blob (digest, size, state, seq, created_at, touched_at) from stdin (format binary)"
        ) as copy:
            copy.set_types(["bytea", "int8", "int2", "int8", "timestamptz", "timestamptz"])
            moment = datetime(2026, 1, 1, tzinfo=UTC)
            for place, raw in enumerate(raws(blobs), 1):
                copy.write_row((raw, SIZE, 1, place, moment, moment))
        cursor.execute("update feed set head = %s", [blobs])
        cursor.execute("vacuum (analyze)")  # what autovacuum would do in the middle of it
        cursor.execute("checkpoint")


def mirrors(database: str | Path, many: int) -> None:
    """So many mirrors, `mirror-1.example` and on, that have just reported that they are well."""
    now = datetime.now(UTC)
    ids = range(1, many + 1)
    if isinstance(database, Path):
        text = now.strftime("%Y-%m-%d %H:%M:%S.%f")
        with contextlib.closing(sqlite3.connect(database)) as handle:
            handle.execute("delete from report")
            handle.execute("delete from mirror")
            named = ((id, f"mirror-{id}.example", True, False, MOMENT) for id in ids)
            handle.executemany(MIRROR.replace("%s", "?"), named)
            handle.executemany(REPORT.replace("%s", "?"), ((id, text, False) for id in ids))
            handle.commit()
        return
    with psycopg.connect(database) as connection, connection.cursor() as cursor:
        cursor.execute("delete from report")
        cursor.execute("delete from mirror")
        cursor.executemany(MIRROR, [(id, f"mirror-{id}.example", True, False, now) for id in ids])
        cursor.executemany(REPORT, [(id, now, False) for id in ids])


def file(store: Path, size: int) -> bytes:
    """A blob of random bytes under its name in a store's folder; the 32 bytes of that."""
    sha, new = hashlib.sha256(), store / "new"
    with new.open("wb") as written:
        for start in range(0, size, 1 << 22):
            piece = os.urandom(min(1 << 22, size - start))
            sha.update(piece)
            written.write(piece)
    digest = sha.hexdigest()
    (store / digest[:3]).mkdir(exist_ok=True)
    new.rename(store / digest[:3] / digest)
    return sha.digest()
