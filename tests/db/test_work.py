"""One transaction at a time, and what may happen around it."""

import asyncio
import subprocess
import sys
import threading
from typing import Any

import pytest
from sqlalchemy import text

from soup.core.errors import DatabaseDown, Refused, SoupError
from soup.db.migrate import migrate
from soup.db.work import Database, Work, parsed

HOLD = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("begin immediate")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def url(tmp_path):
    migrate(f"sqlite:///{tmp_path / 'soup.db'}")
    return f"sqlite:///{tmp_path / 'soup.db'}"


@pytest.fixture
async def database(url):
    database = Database(url)
    async with database.begin() as work:
        await work.session.execute(text("insert into feed values (1, 'epoch', 0, 0)"))
    yield database
    await database.close()


@pytest.fixture
def held(database):
    """Another process has the lock for writing."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, database.file], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout
        assert holder.stdin
        assert "held\n" == holder.stdout.readline()
        yield holder
        holder.stdin.close()


async def head(database: Database) -> Any:
    async with database.reading() as session:
        return (await session.execute(text("select head from feed"))).scalar()


async def write(work: Work, number: int) -> None:
    await work.session.execute(text("update feed set head = :head"), {"head": number})


async def test_committed_when_the_block_ends(database) -> None:
    """
    What was written is there for everybody.
    """
    async with database.begin() as work:
        await write(work, 7)

    assert 7 == await head(database)


async def test_nobody_sees_it_before(database) -> None:
    """
    Until the commit readers see what was.
    """
    async with database.begin() as work:
        await write(work, 7)

        assert 0 == await head(database)


async def test_undone_when_the_block_raises(database) -> None:
    """
    An error passes through as it is, and what was written is gone.
    """

    async def fail() -> None:
        async with database.begin() as work:
            await write(work, 7)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()

    assert 0 == await head(database)


async def test_undone_when_the_asker_leaves(database) -> None:
    """
    A client that hangs up in the middle takes its transaction with it, and the next one can write.
    """
    inside = asyncio.Event()

    async def ask() -> None:
        async with database.begin() as work:
            await write(work, 7)
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(ask())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert 0 == await head(database)
    async with database.begin() as work:
        await write(work, 8)
    assert 8 == await head(database)


async def test_acts_wait_for_the_commit(database) -> None:
    """
    `after` acts once it is true, in the order it was asked, and sees what was written.
    """
    seen: list[Any] = []

    async def look() -> None:
        seen.append(await head(database))

    async def count() -> None:
        seen.append("then")

    async with database.begin() as work:
        work.after(look)
        work.after(count)
        await write(work, 7)

        assert [] == seen
    assert [7, "then"] == seen


async def test_acts_of_what_was_undone(database) -> None:
    """
    `after` does not act at all if it never became true.
    """
    seen: list[int] = []

    async def act() -> None:
        seen.append(1)

    async def fail() -> None:
        async with database.begin() as work:
            work.after(act)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()

    assert [] == seen


async def test_acts_of_a_commit_that_fails(database) -> None:
    """
    A commit that is refused is not true either.
    """
    seen: list[int] = []

    async def act() -> None:
        seen.append(1)

    async def fail() -> None:
        async with database.begin() as work:
            work.after(act)
            await work.session.execute(text("pragma defer_foreign_keys = on"))
            await work.session.execute(text("insert into placement values (5, 5, 1, null, null)"))

    with pytest.raises(DatabaseDown, match="FOREIGN KEY"):
        await fail()

    assert [] == seen


async def test_writers_queue(database) -> None:
    """
    Twenty at once: each reads what the one before has written, none fails.
    """

    async def more() -> None:
        async with database.begin() as work:
            number = (await work.session.execute(text("select head from feed"))).scalar()
            await write(work, number + 1)

    await asyncio.gather(*(more() for _ in range(20)))

    assert 20 == await head(database)


async def test_a_reader_sees_one_state(database) -> None:
    """
    What others commit meanwhile is seen by the next reader, not by this one.
    """
    async with database.reading() as session:
        before = (await session.execute(text("select head from feed"))).scalar()
        async with database.begin() as work:
            await write(work, 7)
        after = (await session.execute(text("select head from feed"))).scalar()

    assert (0, 0) == (before, after)
    assert 7 == await head(database)


async def test_a_reader_writes_nothing(database) -> None:
    """
    Reading is reading: whoever tries to write there is refused.
    """
    with pytest.raises(DatabaseDown, match="readonly"):
        async with database.reading() as session:
            await session.execute(text("update feed set head = 7"))

    assert 0 == await head(database)


async def test_a_reader_does_not_wait_for_a_writer(database, held) -> None:
    """
    Another process that writes for long stops no reader.
    """
    assert 0 == await head(database)
    assert held.poll() is None


async def test_another_process_writes_for_too_long(url, held) -> None:
    """
    A writer waits as long as its patience and is then told DatabaseDown; the lock comes first, so nothing is
    half done.
    """
    impatient = Database(url, patience=0.3)
    began = asyncio.get_running_loop().time()

    with pytest.raises(DatabaseDown, match="another process is writing: database is locked"):
        async with impatient.begin() as work:
            await write(work, 7)

    took = asyncio.get_running_loop().time() - began
    await impatient.close()
    assert 0.3 <= took < 3
    assert held.poll() is None


async def test_another_process_writes_for_a_moment(url, held) -> None:
    """
    A writer waits for it, and then it is its turn.
    """
    patient = Database(url, patience=5)

    async def leave() -> None:
        await asyncio.sleep(0.2)
        held.stdin.close()

    async with asyncio.TaskGroup() as both:
        both.create_task(leave())
        async with patient.begin() as work:
            await write(work, 7)

    assert 7 == await head(patient)
    await patient.close()


async def test_what_was_committed_survives(database) -> None:
    """
    Write-ahead log with every commit synced, foreign keys on, five seconds of patience (D6).
    """
    for name, wanted in {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 5000,
    }.items():
        async with database.begin() as work:
            assert wanted == (await work.session.execute(text(f"pragma {name}"))).scalar()


async def test_errors_of_the_driver(database) -> None:
    """
    Nothing leaves but soup's own errors; the cause stays attached, and values are not shown.
    """
    with pytest.raises(SoupError, match="no such table") as raised:
        async with database.begin() as work:
            await work.session.execute(text("insert into nowhere values (:secret)"), {"secret": "saffron"})

    assert raised.value.__cause__ is not None
    assert "saffron" not in str(raised.value.__cause__)


async def test_a_file_that_is_gone(tmp_path) -> None:
    """
    A database that cannot be opened is DatabaseDown, when it is used and not before.
    """
    database = Database(f"sqlite:///{tmp_path}/no/such/soup.db")

    with pytest.raises(DatabaseDown, match="unable to open database file"):
        await head(database)
    await database.close()
    for thread in threading.enumerate():
        if "_connection_worker" in thread.name:  # of the driver: it says goodbye to this loop
            await asyncio.to_thread(thread.join, 5)


def test_a_url_with_a_password() -> None:
    """
    What is said of a URL that is refused does not show its password.
    """
    with pytest.raises(Refused) as refused:
        parsed("mysql://cook:saffron@db/soup")

    assert "saffron" not in str(refused.value)
