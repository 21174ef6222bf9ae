"""Another program holds the lock of SQLite's file: a backup, or somebody with a shell."""

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.conftest import Server, sha256
from tests.workers import each_worker

pytestmark = pytest.mark.sqlite

HOLD = """
import sqlite3, sys, time
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("begin immediate")
print("held", flush=True)
time.sleep(float(sys.argv[2]))
database.execute("rollback")
"""
HELD = 6.5  # seconds: longer than soup waits for another that is writing
SOON = 1.0


@contextmanager
def locked(server: Server, seconds: float) -> Iterator[None]:
    """The file is held by a process of its own, which lets go by itself."""
    command = [sys.executable, "-c", HOLD, server.data / "soup.db", str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert b"held\n" == process.stdout.readline()
        yield
        assert 0 == process.wait(30)


def test_locked_for_a_while(server: Server) -> None:
    """
    Reads, redirects and lists go on at once. An upload waits and is kept; what else would change something
    waits, and where it cannot have the lock in time it is told 503 with Retry-After, and nothing is changed.
    """
    leek, kale = server.keep(b"leek"), server.keep(b"kale")
    mirror = server.mirror("m.example")
    url, admin = f"/api/cdn/{mirror['id']}", server.admin
    with each_worker(server) as workers, ThreadPoolExecutor(8) as pool:

        def later(method: str, path: str, **more: Any) -> tuple[httpx.Response, float]:
            began = time.monotonic()
            with httpx.Client(base_url=server.url, timeout=30, headers=admin) as client:
                answer = client.request(method, path, **more)
            return answer, time.monotonic() - began

        with locked(server, HELD):
            uploads = [
                pool.submit(later, "PUT", f"/{sha256(b'%d' % n)}", content=b"%d" % n) for n in range(3)
            ]
            deleted = pool.submit(later, "DELETE", f"/api/blob/{kale}")
            drained = pool.submit(later, "PATCH", url, json={"drained": True})
            reads, slowest = [], 0.0
            while not deleted.done():
                for worker in workers:
                    began = time.monotonic()
                    reads.append(
                        (
                            worker.get(f"/{leek}").status_code,
                            worker.get(f"/{leek}?direct=1").content,
                            worker.get(f"/{sha256(b'none')}").status_code,
                            worker.get("/api/blob:list", headers=admin).status_code,
                            worker.get("/readyz").status_code,
                        )
                    )
                    slowest = max(slowest, time.monotonic() - began)
                time.sleep(0.1)
        answers = [upload.result(30)[0] for upload in uploads]
        refused, given_up = deleted.result(30)
        kept, _ = drained.result(30)
        after = {worker.get(f"/{digest}").status_code for worker in workers for digest in (leek, kale)}

    assert {(307, b"leek", 404, 200, 200)} == set(reads)
    assert slowest < SOON
    assert [201] * 3 == [answer.status_code for answer in answers]
    assert {"present"} == {
        server.client.get(f"/api/blob/{sha256(b'%d' % n)}", headers=admin).json()["state"] for n in range(3)
    }
    assert (503, True) == (refused.status_code, "retry-after" in refused.headers)
    assert given_up < HELD
    assert 503 == kept.status_code
    assert {307} == after
