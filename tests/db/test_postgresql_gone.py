"""A PostgreSQL that goes away under a soup, and comes back.

It is a PostgreSQL of these tests' own, so they run once, whatever database the others run on.
"""

import time
from collections.abc import Iterator

import pytest

from tests.conftest import Server, Servers, bearer, sha256
from tests.postgres import PATIENCE, Postgres, ask, away
from tests.postgres import postgres as started
from tests.wire import until
from tests.workers import each_worker


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with started() as found:
        yield found


@pytest.fixture(scope="module")
def there(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A soup on it."""
    servers = Servers(tmp_path_factory.mktemp("gone"))
    with servers.stack:
        yield servers(database=postgres.cluster.fresh())


@pytest.mark.parametrize("how", ["stopped", "frozen"])
@pytest.mark.timeout(60)
def test_gone_and_back(postgres: Postgres, there: Server, how: str) -> None:
    """
    While the database is down, or does not answer, whatever needs it is told 503 with Retry-After inside
    five seconds, and nothing is ever called unknown; what a worker has in mind it answers, whoever asks. Five
    seconds after its return everything is as before.
    """
    leek, new = there.keep(how.encode()), f"new {how}".encode()
    mirror = there.mirror(f"{how}.example", None)
    admin, other = there.admin, bearer("soup_" + "x" * 43)
    needing = [
        ("GET", f"/{sha256(b'never seen')}", {}),
        ("HEAD", f"/{sha256(b'never seen')}", {}),
        ("PUT", f"/{sha256(new)}", {"content": new, "headers": admin}),
        ("POST", "/api/blob", {"content": new, "headers": admin}),
        ("DELETE", f"/api/blob/{leek}", {"headers": admin}),
        ("PATCH", f"/api/blob/{leek}", {"json": {"blocked": True}, "headers": admin}),
        ("GET", f"/api/blob/{leek}", {"headers": admin}),
        ("GET", "/api/blob:list", {"headers": admin}),
        ("GET", "/api/blob:changes", {"headers": admin}),
        ("GET", "/api/blob:changes?after=1000&wait=25", {"headers": admin}),
        ("POST", "/api/blob:missing", {"json": {"digests": [leek]}, "headers": admin}),
        ("POST", "/api/cdn", {"json": {"fqdn": "m2.example"}, "headers": admin}),
        ("PATCH", f"/api/cdn/{mirror['id']}?status=1", {"headers": bearer(mirror["token"])}),
        ("GET", "/api/blob:list", {"headers": other}),
        ("GET", "/readyz", {}),
    ]
    leave, back = {
        "stopped": (postgres.stop, postgres.start),
        "frozen": (postgres.freeze, postgres.thaw),
    }[how]
    with each_worker(there) as workers:
        assert {200} == {worker.get(f"/{leek}").status_code for worker in workers}  # and now has it in mind
    with away(leave, back):
        answers = ask(there, needing) + ask(there, [("GET", f"/{sha256(b'%d' % n)}", {}) for n in range(100)])
        alive = there.client.get("/healthz").status_code
        known = {there.client.get(f"/{leek}", headers=sent).status_code for sent in ({}, other)}

    returned = time.monotonic()
    with each_worker(there) as workers:
        until(
            lambda: all(
                200 == worker.get("/readyz").status_code
                and 404 == worker.get(f"/{sha256(b'never seen')}").status_code
                and 200 == worker.get(f"/{leek}").status_code
                for worker in workers
            ),
            20,
        )
        recovered = time.monotonic() - returned
        assert there.client.put(f"/{sha256(new)}", content=new, headers=admin).status_code in {200, 201}

    wrong = [(name, status) for name, status, _, _ in answers if 503 != status]
    slow = [(name, round(took, 1)) for name, _, took, _ in answers if took > PATIENCE]
    unsaid = [name for name, _, _, headers in answers if "retry-after" not in headers]
    assert ([], [], []) == (wrong, slow, unsaid)
    assert 200 == alive
    assert {200} == known
    assert recovered < PATIENCE
    assert "present" == there.client.get(f"/api/blob/{leek}", headers=admin).json()["state"]
