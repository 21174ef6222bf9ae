"""What the read path of SQLite knows without asking, and when it stops knowing it."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from soup.blobs.index import SqliteIndex
from soup.core.bell import Bell
from soup.core.errors import DatabaseDown
from soup.prepare import prepare
from soup.settings import Settings

pytestmark = pytest.mark.sqlite

LEEK, KALE = b"l" * 32, b"k" * 32
PRESENT, GONE = 1, 3


class Books:
    """A database that somebody else changes, and a bell that he rings when he wants to."""

    def __init__(self, folder: Path) -> None:
        prepare(Settings.load({"SOUP_DATA": str(folder)}))
        self.file, self.bell = folder / "soup.db", Bell()
        self.put(LEEK, 1)
        self.put(KALE, 2)

    @contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.file)) as connection, connection:
            yield connection

    def put(self, raw: bytes, seq: int) -> None:
        with self.change() as connection:
            connection.execute(
                "insert into blob (digest, size, state, seq, created_at, touched_at) "
                "values (?, 4, 1, ?, '2026-01-01 00:00:00.000000', '2026-01-01 00:00:00.000000')",
                (raw, seq),
            )
            connection.execute("update feed set head = ?", (seq,))

    def remove(self, raw: bytes, seq: int) -> None:
        with self.change() as connection:
            connection.execute("update blob set state = ?, seq = ? where digest = ?", (GONE, seq, raw))
            connection.execute("update feed set head = ?", (seq,))


@pytest.fixture
def books(tmp_path: Path) -> Books:
    return Books(tmp_path)


@pytest.fixture
async def index(books: Books) -> AsyncIterator[SqliteIndex]:
    index = SqliteIndex(books.file, books.bell, remembered=100)
    await index.start()
    yield index
    await index.close()


def state(index: SqliteIndex, raw: bytes) -> int | None:
    found = index.peek(raw)
    return found[2] if found else None


async def test_what_was_asked_for_is_known(books: Books, index: SqliteIndex) -> None:
    """
    A second lookup asks nobody: what somebody changed without a word is found out with the next refresh.
    """
    before = state(index, LEEK)
    books.remove(LEEK, 3)
    await asyncio.sleep(0)

    assert [PRESENT, PRESENT] == [before, state(index, LEEK)]
    await index.refresh()
    assert GONE == state(index, LEEK)


async def test_a_bell_is_heard_at_once(books: Books, index: SqliteIndex) -> None:
    """
    Whoever changes a state rings, and the next lookup knows, in the middle of a turn of the loop as well.
    """
    assert [PRESENT, PRESENT] == [state(index, LEEK), state(index, KALE)]

    books.remove(LEEK, 3)
    books.bell.ring()

    assert [GONE, PRESENT] == [state(index, LEEK), state(index, KALE)]


async def test_what_comes_is_found_in_the_next_turn(books: Books, index: SqliteIndex) -> None:
    """
    Nobody is told twice that something is not there: it is found as soon as a request can come for it.
    """
    new = b"n" * 32
    assert state(index, new) is None
    books.put(new, 3)
    await asyncio.sleep(0)

    assert PRESENT == state(index, new)


async def test_what_this_process_has_changed(books: Books, index: SqliteIndex) -> None:
    """
    It is forgotten, and whoever shares the bell hears of it.
    """
    other = SqliteIndex(books.file, books.bell, remembered=100)
    await other.start()
    assert [PRESENT, PRESENT] == [state(index, LEEK), state(other, LEEK)]
    await asyncio.sleep(0)
    books.remove(LEEK, 3)
    index.forget([LEEK])

    assert [GONE, GONE] == [state(index, LEEK), state(other, LEEK)]
    await other.close()


@pytest.mark.parametrize("what", ["another history", "a head behind", "very many changes"])
async def test_everything_is_forgotten(books: Books, index: SqliteIndex, what: str) -> None:
    """
    Where changes cannot be followed one by one nothing is known any more.
    """
    assert PRESENT == state(index, LEEK)
    with books.change() as connection:
        connection.execute("update blob set state = ? where digest = ?", (GONE, LEEK))
        wanted = {
            "another history": "update feed set epoch = 'another'",
            "a head behind": "update feed set head = 1",
            "very many changes": "update feed set head = 20000",
        }
        connection.execute(wanted[what])
    books.bell.ring()

    assert GONE == state(index, LEEK)


async def test_a_database_without_a_feed(books: Books, index: SqliteIndex) -> None:
    """
    It is no database of soup: a lookup says so, and so does the next.
    """
    with books.change() as connection:
        connection.execute("delete from feed")
    books.bell.ring()

    for _ in range(2):
        with pytest.raises(DatabaseDown, match="it was not prepared by soup"):
            index.peek(KALE)


async def test_closed_in_the_middle_of_a_turn(index: SqliteIndex) -> None:
    """
    The transaction that lookups shared ends with it, and the loop has nothing to complain of.
    """
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    index.peek(LEEK)
    await index.close()
    await asyncio.sleep(0)

    assert not complaints
    with pytest.raises(DatabaseDown):
        index.peek(KALE)
