"""A process that is stopped in the middle of a transaction."""

import threading
import time

import psycopg
import pytest
from sqlalchemy import text

from soup.core.errors import DatabaseDown
from soup.db import work
from soup.db.work import Database
from tests.databases import cluster, free_port


async def test_its_locks_do_not_outlive_its_time(monkeypatch) -> None:
    """
    PostgreSQL takes them back after twice the time a transaction may take, though its connection stands; what
    the sleeper wanted to write is not written.
    """
    monkeypatch.setattr(work, "SERVER_SECONDS", 0.5)
    with cluster(free_port()) as postgres:
        url = postgres.fresh()
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("insert into feed values (1, 'epoch', 0, 0)")
        took: list[float] = []

        def other() -> None:
            with psycopg.connect(url) as connection:
                began = time.monotonic()
                connection.execute("update feed set head = 7")
                took.append(time.monotonic() - began)

        database, waiting = Database(url), threading.Thread(target=other)
        with pytest.raises(DatabaseDown):  # noqa: PT012 - the block is what is tried
            async with database.begin() as sleeper:
                await sleeper.session.execute(text("update feed set head = 9"))
                waiting.start()
                time.sleep(2.5)  # noqa: ASYNC251 - as if it was stopped
                await sleeper.session.execute(text("update feed set head = 10"))
        waiting.join()
        await database.close()

        assert 0.5 < took[0] < 2
        with psycopg.connect(url) as connection:
            assert (7,) == connection.execute("select head from feed").fetchone()
