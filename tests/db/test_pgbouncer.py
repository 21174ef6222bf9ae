"""Two cores behind a PgBouncer in transaction mode, which gives each transaction whatever connection is free.

It and its PostgreSQL are these tests' own, so they run once, whatever database the others run on.
"""

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.bouncer import CONNECTIONS, Bouncer
from tests.bouncer import bouncer as started_bouncer
from tests.conftest import Server, Servers, bearer, sha256
from tests.postgres import PATIENCE, Postgres
from tests.postgres import postgres as started
from tests.wire import until
from tests.workers import each_worker

NAME = "bounced"
SOON = 1.5  # seconds: the promise is one, the rest is for a machine that does something else as well
SETTINGS = {"jobs__mirrors_sweep_seconds": 0.2, "jobs__lease_seconds": 3}


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with started() as found:
        found.configure("log_statement", "'all'")
        found.ask(f"create database {NAME}")
        yield found


@pytest.fixture(scope="module")
def bouncer(postgres: Postgres) -> Iterator[Bouncer]:
    with started_bouncer(postgres.cluster) as found:
        yield found


@pytest.fixture(scope="module")
def cores(bouncer: Bouncer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """Two cores; the first has made the tables, through PgBouncer too."""
    folder = tmp_path_factory.mktemp("bounced")
    servers = Servers(folder)
    shared = {"database": bouncer.url(NAME), "store__folder": folder / "blobs", **SETTINGS}
    with servers.stack:
        yield servers(**shared), servers(**shared)


@pytest.fixture
def a(cores: tuple[Server, Server]) -> Server:
    return cores[0]


@pytest.fixture
def workers(cores: tuple[Server, Server]) -> Iterator[list[httpx.Client]]:
    """Each worker of the other core."""
    with each_worker(cores[1]) as found:
        yield found


def statements(postgres: Postgres) -> str:
    return (postgres.cluster.folder / "log").read_text()


def soon(true: Callable[[], bool]) -> None:
    began = time.monotonic()
    until(true, 10)
    took = time.monotonic() - began
    assert took < SOON, f"it took {took:.2f} s"


def codes(workers: list[httpx.Client], path: str) -> set[int]:
    return {worker.get(path).status_code for worker in workers}


def test_what_one_does_the_other_hears(a: Server, workers: list[httpx.Client]) -> None:
    """
    What is uploaded at one core is found at the other at once; what is deleted there or reported there holds
    here within a second.
    """
    leek, kale = f"/{a.keep(b'leek')}", f"/{a.keep(b'kale')}"
    assert {200} == codes(workers, leek) == codes(workers, kale)
    listed = [worker.get("/api/blob:list", headers=a.admin).json()["blobs"] for worker in workers]
    assert [{leek[1:], kale[1:]}] * 2 == [{one["digest"] for one in blobs} for blobs in listed]

    mirror = a.mirror("m.example")
    soon(lambda: {307} == codes(workers, leek))
    url, token = f"/api/cdn/{mirror['id']}", bearer(mirror["token"])
    assert 200 == a.client.patch(f"{url}?status=0", headers=token).status_code
    soon(lambda: {200} == codes(workers, leek))

    assert 204 == a.client.delete(f"/api/blob{kale}", headers=a.admin).status_code
    soon(lambda: {404} == codes(workers, kale))
    a.keep(b"kale")
    assert {200} == codes(workers, kale)


def test_a_long_poll(a: Server, workers: list[httpx.Client]) -> None:
    """
    A reader that waits at one core hears within a second of what is uploaded at the other, and keeps no
    connection while it waits.
    """
    head = a.client.get("/api/blob:changes?limit=1", headers=a.admin).json()["head"]
    path = f"/api/blob:changes?after={head}&wait=20"
    with ThreadPoolExecutor() as pool:
        waiting = [
            pool.submit(httpx.get, workers[0].base_url.join(path), headers=a.admin, timeout=30)
            for _ in range(4 * CONNECTIONS)
        ]
        time.sleep(0.5)
        assert {200} == codes(workers, f"/{a.keep(b'leek')}")
        began = time.monotonic()
        chard = a.keep(b"chard")
        answers = [one.result(30).json() for one in waiting]
        took = time.monotonic() - began

    assert {chard} == {answer["changes"][0]["digest"] for answer in answers}
    assert took < SOON


def test_jobs(postgres: Postgres, a: Server) -> None:
    """
    The jobs run, under one lease for both cores: whoever runs one runs all, until it passes on.
    """
    assert 200 == a.client.get("/readyz").status_code
    lately = "select holder from job_run where result like 'done%' order by started_at desc limit 4"
    runs = f"select count(*), count(distinct holder) from ({lately}) as lately"  # noqa: S608 - our own
    until(lambda: postgres.ask(runs, NAME)[0] == (4, 1), 10)


def test_many_at_once(postgres: Postgres, cores: tuple[Server, Server]) -> None:
    """
    Forty at once share PgBouncer's few connections: everything they send is kept.
    """
    a, b = cores

    def put(number: int) -> int:
        data, server = b"%d" % number, (a, b)[number % 2]
        with httpx.Client(base_url=server.url, headers=a.admin, timeout=30) as client:
            return client.put(f"/{sha256(data)}", content=data).status_code

    with ThreadPoolExecutor(40) as pool:
        assert [201] * 120 == list(pool.map(put, range(120)))
    ours = f"select count(*) from pg_stat_activity where datname = '{NAME}' and pid <> pg_backend_pid()"  # noqa: S608
    assert 1 <= postgres.ask(ours)[0][0] <= CONNECTIONS


def test_nothing_stays_behind(postgres: Postgres, a: Server) -> None:
    """
    Whatever a transaction needs it says as it begins: nothing that outlives it is set or prepared on a
    connection that the next transaction of somebody else will have.
    """
    assert 200 == a.client.get("/api/blob:list", headers=a.admin).status_code
    said = re.findall(r"(?:statement|execute [^:]*): (.*)", statements(postgres), re.IGNORECASE)

    assert "BEGIN ISOLATION LEVEL REPEATABLE READ" in said
    lasting = re.compile(
        r"(set (?!transaction|local)|prepare |deallocate|listen |declare |discard)", re.IGNORECASE
    )
    found = {line.split(" = ")[0] for line in said if lasting.match(line)}
    assert {"set idle_in_transaction_session_timeout"} == found  # which is right for whoever is next
    assert "pg_advisory_lock" not in statements(postgres)
    assert set() == set(re.findall(r"execute (_pg\w+)", statements(postgres)))


@pytest.mark.timeout(60)
def test_restarted(bouncer: Bouncer, cores: tuple[Server, Server]) -> None:
    """
    While PgBouncer is away, requests are told to come back; five seconds after its return both cores are
    themselves again, by themselves.
    """
    a, b = cores
    leek, gone = a.keep(b"leek"), sha256(b"never seen")
    with each_worker(a) as one, each_worker(b) as other:
        workers = [*one, *other]
        bouncer.stop()
        try:
            with ThreadPoolExecutor() as pool:
                away = set(pool.map(lambda worker: worker.get(f"/{gone}").status_code, workers))
        finally:
            bouncer.start()
        returned = time.monotonic()
        until(
            lambda: all(
                404 == worker.get(f"/{gone}").status_code
                and 200 == worker.get(f"/{leek}").status_code
                and 200 == worker.get("/api/blob:list", headers=a.admin).status_code
                and worker.put(f"/{leek}", content=b"leek", headers=a.admin).is_success
                for worker in workers
            ),
            20,
        )
        recovered = time.monotonic() - returned

    assert {503} == away
    assert recovered < PATIENCE
