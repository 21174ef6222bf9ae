"""A PostgreSQL that is there and does not do what soup wants: full, read-only, cutting off, refusing.

It is a PostgreSQL of these tests' own, so they run once, whatever database the others run on.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.command import refusal, soup
from tests.conftest import Server, Servers, bearer, sha256
from tests.load import Load, resident
from tests.postgres import PATIENCE, Postgres, ask, away
from tests.postgres import postgres as started
from tests.wire import MIB, until
from tests.workers import each_worker

OUTAGE = 6.5  # seconds: longer than anybody waits
GOOD = ("GET 200", "GET 404", "PATCH 200", "PUT 201")
CUT = "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'soup'"
NEVER = f"/{sha256(b'never seen')}"


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with started() as found:
        found.ask("create role soup login")
        yield found


@pytest.fixture
def there(postgres: Postgres, tmp_path: Path) -> Iterator[Server]:
    """A soup that is an ordinary user of its database: an administrator's connections are never refused."""
    url = postgres.cluster.fresh()
    name = url.rsplit("/", 1)[1]
    postgres.ask("grant all on all tables in schema public to soup", name)
    postgres.ask("grant all on all sequences in schema public to soup", name)
    servers = Servers(tmp_path)
    with servers.stack:
        yield servers(database=url.replace("postgres@", "soup@"), jobs__lease_seconds=3)


def recovered(server: Server, workers: list[httpx.Client]) -> float:
    """After how many seconds every worker does everything again."""
    began, data = time.monotonic(), b"%f" % time.monotonic()
    until(
        lambda: all(
            200 == worker.get("/readyz").status_code
            and 404 == worker.get(NEVER).status_code
            and worker.put(f"/{sha256(data)}", content=data, headers=server.admin).is_success
            for worker in workers
        ),
        20,
    )
    return time.monotonic() - began


def writes(server: Server, leek: str, mirror: dict) -> list[tuple[str, str, dict[str, object]]]:
    new, admin = b"new", server.admin
    return [
        ("PUT", f"/{sha256(new)}", {"content": new, "headers": admin}),
        ("POST", "/api/blob", {"content": new, "headers": admin}),
        ("DELETE", f"/api/blob/{leek}", {"headers": admin}),
        ("PATCH", f"/api/blob/{leek}", {"json": {"blocked": True}, "headers": admin}),
        ("POST", "/api/cdn", {"json": {"fqdn": "new.example"}, "headers": admin}),
        ("PATCH", f"/api/cdn/{mirror['id']}", {"json": {"drained": True}, "headers": admin}),
        ("PATCH", f"/api/cdn/{mirror['id']}?status=2", {"headers": bearer(mirror["token"])}),
        ("DELETE", f"/api/cdn/{mirror['id']}", {"headers": admin}),
        ("POST", f"/api/cdn/{mirror['id']}/token", {"headers": admin}),
    ]


def all_told_to_come_back(answers: list) -> None:
    wrong = [(name, status) for name, status, _, _ in answers if 503 != status]
    slow = [(name, round(took, 1)) for name, _, took, _ in answers if took > PATIENCE]
    unsaid = [name for name, _, _, headers in answers if "retry-after" not in headers]
    assert ([], [], []) == (wrong, slow, unsaid)


def test_read_only(postgres: Postgres, there: Server) -> None:
    """
    A database that takes no writes, as a standby does before it is promoted: reads, lists and redirects go
    on, every write and report is told 503 with Retry-After, and nothing has changed when it takes them again.
    """
    leek, mirror = there.keep(b"leek"), there.mirror("m.example")
    with each_worker(there) as workers:
        until(lambda: {307} == {worker.get(f"/{leek}").status_code for worker in workers}, 5)
        with away(
            lambda: postgres.configure("default_transaction_read_only", "on"),
            lambda: postgres.configure("default_transaction_read_only", "off"),
        ):
            refused = ask(there, writes(there, leek, mirror))
            reads = {
                (
                    worker.get(f"/{leek}").status_code,
                    worker.get(f"/{leek}?direct=1").content,
                    worker.get(NEVER).status_code,
                    worker.get("/api/blob:list", headers=there.admin).status_code,
                    worker.get("/api/cdn:list", headers=there.admin).status_code,
                )
                for worker in workers
            }
        took = recovered(there, workers)
        listed = there.client.get("/api/blob:list?limit=100", headers=there.admin).json()["blobs"]
        again = ask(there, writes(there, leek, mirror)[:2])

    all_told_to_come_back(refused)
    assert {(307, b"leek", 404, 200, 200)} == reads
    assert took < PATIENCE
    assert sha256(b"new") not in {blob["digest"] for blob in listed}
    assert {200, 201} >= {status for _, status, _, _ in again}
    assert [(1, False)] == [
        (one["status"], one["drained"])
        for one in there.client.get("/api/cdn:list", headers=there.admin).json()
    ]


def test_no_connections_left(postgres: Postgres, there: Server) -> None:
    """
    When the database has no connection left, whoever needs one is told 503 inside five seconds, what is known
    goes on, and five seconds after there is room again all is well.
    """
    leek, mirror = there.keep(b"leek"), there.mirror("m.example")
    with each_worker(there) as workers:
        until(lambda: {307} == {worker.get(f"/{leek}").status_code for worker in workers}, 5)

        def full() -> None:
            postgres.ask("alter role soup connection limit 0")
            postgres.ask(CUT)

        with away(full, lambda: postgres.ask("alter role soup connection limit -1")):
            refused = ask(there, [("GET", NEVER, {}), *writes(there, leek, mirror)])
            known = {worker.get(f"/{leek}").status_code for worker in workers}
        took = recovered(there, workers)

    all_told_to_come_back(refused)
    assert {307} == known
    assert took < PATIENCE


def test_cut_while_nobody_uses_them(postgres: Postgres, there: Server) -> None:
    """
    Connections that were cut while they were idle, as by a firewall or a restart, cost nobody an answer.
    """
    data = b"leek"
    with each_worker(there) as workers:
        for _ in range(3):
            assert {404} == {worker.get(NEVER).status_code for worker in workers}
            postgres.ask(CUT)
            told = [
                (
                    worker.get(NEVER).status_code,
                    worker.get("/api/blob:list", headers=there.admin).status_code,
                    worker.put(f"/{sha256(data)}", content=data, headers=there.admin).is_success,
                )
                for worker in workers
            ]
            assert [(404, 200, True)] * 2 == told


def test_cut_in_the_middle_of_an_upload(postgres: Postgres, there: Server) -> None:
    """
    An upload has come all the way when its row is written: cut off then, it is written again.
    """
    data = b"leek"
    ((name,),) = postgres.ask("select datname from pg_stat_activity where usename = 'soup' limit 1")
    waiting = f"from pg_stat_activity where datname = '{name}' and wait_event_type = 'Lock'"
    with psycopg.connect(postgres.cluster.url(name)) as other, ThreadPoolExecutor() as pool:
        other.execute("select head from feed for update")
        put = pool.submit(there.client.put, f"/{sha256(data)}", content=data, headers=there.admin)
        until(lambda: postgres.ask(f"select 1 {waiting}") != [], 3)
        postgres.ask(f"select pg_terminate_backend(pid) {waiting}")
        time.sleep(0.2)
        other.rollback()
        answer = put.result(20)

    assert 201 == answer.status_code, answer.text
    assert data == there.client.get(f"/{sha256(data)}").content


def test_connections_that_are_cut(postgres: Postgres, there: Server) -> None:
    """
    Connections that are cut again and again, in the middle of anything: now and then somebody is told to come
    back, nobody waits, nobody is told anything wrong, and what was acknowledged is there.
    """
    with Load(there, rate=100) as load:
        began = time.monotonic()
        while time.monotonic() < began + 3:
            postgres.ask(CUT)
            time.sleep(0.1)
        ended = time.monotonic()
        with each_worker(there) as workers:
            took = recovered(there, workers)
        after = time.monotonic()
        time.sleep(1)

    cut, later = load.between(began, ended), load.between(after, time.monotonic())
    assert {*GOOD, "come back"} >= set(cut)
    assert cut["come back"] < cut.total() / 4
    assert set(GOOD) >= set(later)
    assert load.slowest() < PATIENCE
    assert took < PATIENCE
    assert [] == load.lost()


@pytest.mark.timeout(90)
@pytest.mark.parametrize("how", ["stopped", "frozen"])
def test_away_under_load(postgres: Postgres, there: Server, how: str) -> None:
    """
    Seconds without a database under load: each request that needs it is told 503 within five seconds,
    what waits is bounded, and memory is what it was; what is known is redirected all the while.
    """
    leek = there.keep(b"leek")
    there.mirror("m.example")
    leave, back = {
        "stopped": (postgres.stop, postgres.start),
        "frozen": (postgres.freeze, postgres.thaw),
    }[how]
    with each_worker(there) as workers, Load(there, rate=200) as load:
        settled = time.monotonic() + 2.5  # what is new is looked up once more after a second
        while time.monotonic() < settled:
            codes = {worker.get(f"/{leek}").status_code for worker in workers}
        assert {307} == codes
        before, peak, known = resident(there), 0, set[int]()
        with away(leave, back):
            gone = time.monotonic()
            while time.monotonic() < gone + OUTAGE:
                known |= {worker.get(f"/{leek}").status_code for worker in workers}
                peak = max(peak, resident(there))
                time.sleep(0.2)
        took = recovered(there, workers)
        after = time.monotonic()
        time.sleep(1)

    away_for, later = load.between(gone, gone + OUTAGE - PATIENCE), load.between(after, time.monotonic())
    assert {"come back"} >= set(away_for) - {"GET 200"}  # of a blob that is known
    assert away_for["come back"] > 100
    assert load.slowest("come back") < PATIENCE
    assert {307} == known
    assert took < PATIENCE
    assert set(GOOD) == set(later)
    assert peak - before < 64 * MIB
    assert [] == load.lost()


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("reject", "pg_hba.conf rejects connection"),
        ("scram-sha-256", 'password authentication failed for user "stranger"'),
    ],
)
def test_refused_at_the_door(postgres: Postgres, tmp_path: Path, rule: str, said: str) -> None:
    """
    A server that does not let soup in is given its own words, on one line, without a trace or the password.
    """
    hba = postgres.cluster.folder / "data/pg_hba.conf"
    before = hba.read_text()
    postgres.ask("drop role if exists stranger; create role stranger login password 'minestrone'")

    def close() -> None:
        hba.write_text(f"host all stranger 127.0.0.1/32 {rule}\n{before}")
        postgres.ask("select pg_reload_conf()")

    def again() -> None:
        hba.write_text(before)
        postgres.ask("select pg_reload_conf()")

    url = postgres.cluster.fresh().replace("postgres@", "stranger:wrong-secret@")
    with away(close, again):
        ended = soup("migrate", cwd=tmp_path, SOUP_DATA=str(tmp_path), SOUP_DATABASE=url)

    assert said in refusal(ended)
    assert "wrong-secret" not in ended.stderr
