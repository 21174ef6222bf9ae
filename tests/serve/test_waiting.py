"""A database that is not there when soup starts."""

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import httpx
import pytest

from tests.databases import Cluster, cluster, free_port
from tests.serve.processes import alive, ready
from tests.wire import until

pytestmark = pytest.mark.sqlite  # the database is its own here


@pytest.fixture
def down() -> Iterator[tuple[int, Any]]:
    """A port where PostgreSQL is not yet, and what starts it there."""
    port = free_port()
    with ExitStack() as stack:
        yield port, lambda: stack.enter_context(cluster(port))


@contextmanager
def frozen(found: Cluster) -> Iterator[None]:
    """It takes connections, and nothing comes of them."""
    main = int((found.folder / "data" / "postmaster.pid").read_text().split()[0])
    os.kill(main, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(main, signal.SIGCONT)


def waiting(url: str) -> str | None:
    """The reason why it is not ready, if it answers at all."""
    try:
        answer = httpx.get(f"{url}/readyz", timeout=5)
    except httpx.TransportError:
        return None
    return str(answer.json()["reason"]) if answer.status_code == 503 else None


def test_it_waits(down, serve) -> None:
    """
    Soup is alive, says what it waits for, refuses everything else for the time being, and is ready by itself
    within seconds of the database's start.
    """
    port, start = down
    database = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    server = serve(wait=False, database=database, server__workers=1)
    until(lambda: waiting(server.url))

    assert 200 == httpx.get(f"{server.url}/healthz").status_code
    assert 200 == httpx.get(f"{server.url}/metrics").status_code
    for method, path in (("GET", "/" + "a" * 64), ("POST", "/api/blob"), ("GET", "/api/cdn:list")):
        answer = httpx.request(method, server.url + path)
        assert 503 == answer.status_code
        assert "1" == answer.headers["retry-after"]
        assert "urn:soup:error:not-ready" == answer.json()["type"]
    assert "database.waiting" in server.log.read_text()
    assert "Connection refused" in server.log.read_text()

    start()
    took = until(lambda: ready(server.url), 20)

    assert 5 > took
    assert 201 == server.client.post("/api/blob", content=b"broth", headers=server.admin).status_code
    assert "soup serves on" in server.log.read_text()


def test_it_is_told_to_stop_while_it_waits(down, serve) -> None:
    """
    Waiting for a database keeps nobody from stopping it.
    """
    port, _ = down
    server = serve(wait=False, database=f"postgresql://postgres@127.0.0.1:{port}/postgres")
    until(lambda: waiting(server.url))
    began = time.monotonic()

    assert 0 == server.stop()

    assert 5 > time.monotonic() - began


def test_its_parent_is_killed_while_it_waits(down, serve) -> None:
    """
    Neither the workers nor the process that tries to prepare outlive it, though the database hangs.
    """
    _, start = down
    found = start()
    with frozen(found):
        server = serve(wait=False, database=found.url("postgres"))
        until(lambda: waiting(server.url), 15)
        children = server.workers()
        assert 3 == len(children)

        server.stop(signal.SIGKILL)

        until(lambda: not any(map(alive, children)))


def test_one_that_hangs(down, serve) -> None:
    """
    A server that takes connections and never answers is waited for as well.
    """
    _, start = down
    found = start()
    with frozen(found):
        server = serve(wait=False, database=found.url("postgres"))
        until(lambda: waiting(server.url), 15)
        assert 200 == httpx.get(f"{server.url}/healthz").status_code

    assert 10 > until(lambda: ready(server.url), 20)


def test_a_worker_that_starts_while_it_is_down(down, serve) -> None:
    """
    A worker that dies while the database is away is replaced by one that waits, and not again and again.
    """
    _, start = down
    found = start()
    server = serve(database=found.fresh(), server__workers=1)
    with frozen(found):
        worker = server.workers()[0]
        os.kill(worker, signal.SIGKILL)
        until(lambda: server.workers() not in ([], [worker]))
        until(lambda: waiting(server.url), 15)
        replaced = server.workers()
        time.sleep(1)
        assert replaced == server.workers()

    assert 10 > until(lambda: ready(server.url), 20)


def test_a_refusal_ends_it(serve, tmp_path) -> None:
    """
    What waiting cannot mend is said in one line, with exit status 1.
    """
    data = tmp_path / "data"
    data.mkdir()
    (data / "soup.db").write_bytes(b"no database, but long enough to be looked at" * 100)

    server = serve(data=data, wait=False, database="")

    assert 1 == server.process.wait(20)
    said = server.log.read_text()
    assert "soup: the database" in said
    assert "Restore it from a backup" in said
    assert "Traceback" not in said
    server.client.close()


def test_sqlite_that_somebody_holds(serve, tmp_path) -> None:
    """
    A database file that another process writes to is waited for.
    """
    data = tmp_path / "data"
    first = serve(data=data, database="")
    first.stop()
    with closing(sqlite3.connect(data / "soup.db", isolation_level=None)) as other:
        other.execute("begin immediate")
        server = serve(data=data, wait=False, database="")
        until(lambda: waiting(server.url), 30)
        other.execute("rollback")

    assert 15 > until(lambda: ready(server.url), 20)
    server.stop(signal.SIGTERM)
