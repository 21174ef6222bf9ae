"""The clock on the wall of a core is put an hour ahead, and back: real processes under a clock of our own."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.conftest import Server, Servers, bearer, program, sha256
from tests.databases import KIND
from tests.wire import until
from tests.workers import each_worker

SOURCE = Path(__file__).parents[1] / "clock.c"
LOOK = 1.2  # seconds, a little more than from one look at the table to the next
SETTINGS = {"jobs__mirrors_sweep_seconds": 0.2, "jobs__blobs_sweep_seconds": 0.2, "jobs__lease_seconds": 1.5}


@dataclass
class Core:
    """A soup whose clock on the wall is as far from ours as a file says."""

    server: Server
    file: Path

    def jump(self, seconds: int) -> None:
        with self.file.open("r+b") as file:  # in one write: soup has it mapped
            file.write(seconds.to_bytes(8, sys.byteorder, signed=True))

    def now(self, mirror: dict) -> datetime:
        """The time as soup tells it to a mirror that reports."""
        url = f"/api/cdn/{mirror['id']}?status=1"
        answer = self.server.client.patch(url, headers=bearer(mirror["token"]))
        assert 200 == answer.status_code, answer.text
        return datetime.fromisoformat(answer.json()["now"])

    def runs(self, job: str) -> int:
        (found,) = KIND.ask(self.server.data, f"select count(*) from job_run where name = '{job}'")  # noqa: S608
        return int(found[0])

    def forget_runs(self) -> None:
        KIND.ask(self.server.data, "delete from job_run")


@pytest.fixture
def start(serve: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Core]:
    library, file = tmp_path / "clock.so", tmp_path / "clock"
    subprocess.run(
        [program("cc"), "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", library, SOURCE], check=True
    )
    file.write_bytes(bytes(8))
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("CLOCK_OFFSET", str(file))
    return lambda **more: Core(serve(**SETTINGS, **more), file)


def steady(seconds: float, true: Callable[[], bool]) -> None:
    """It is so all the while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert true()
        time.sleep(0.05)


@pytest.mark.row("S15")
def test_an_hour_ahead_and_back(start: Callable[..., Core]) -> None:
    """
    Mirrors stay online, uploads and deletions go on and the jobs run, whichever way the clock is put; only
    what soup says of the time follows it.
    """
    core = start()
    server = core.server
    mirror = server.mirror("a.example")
    path, home = f"/{server.keep(b'leek')}", datetime.now(UTC)
    with each_worker(server) as workers:

        def mirrored() -> bool:
            return {307} == {worker.get(path).status_code for worker in workers}

        until(mirrored, 5)
        for number, seconds in enumerate((3600, -3600, 0)):
            steady(LOOK, mirrored)  # until every worker has heard of the last report
            core.jump(seconds)
            core.forget_runs()
            steady(LOOK, mirrored)

            blob, data = sha256(b"%d" % number), b"%d" % number
            assert 201 == server.client.put(f"/{blob}", content=data, headers=server.admin).status_code
            assert 204 == server.client.delete(f"/api/blob/{blob}", headers=server.admin).status_code
            assert {404} == {worker.get(f"/{blob}").status_code for worker in workers}
            until(lambda: core.runs("mirrors.sweep") > 3 and core.runs("blobs.sweep") > 3, 10)
            told = core.now(mirror) - home
            if KIND.name == "sqlite":  # PostgreSQL has a clock of its own
                assert abs(told - timedelta(seconds=seconds)) < timedelta(seconds=60)

    (listed,) = server.client.get("/api/cdn:list", headers=server.admin).json()
    assert (1, True) == (listed["status"], listed["online"])
    lines = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
    assert [] == [line for line in lines if line.get("level") in {"error", "critical"}]


def test_jobs_when_the_clock_is_set_back(start: Callable[..., Core]) -> None:
    """
    Jobs go on within a moment of it, also where there is no other worker to take them over.
    """
    core = start(server__workers=1)
    until(lambda: core.runs("mirrors.sweep") > 1, 5)
    core.jump(-3600)
    core.forget_runs()

    until(lambda: core.runs("mirrors.sweep") > 3 and core.runs("blobs.sweep") > 3, 5)
