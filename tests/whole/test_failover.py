"""The process that does the jobs dies, or sleeps: another does them, and nothing is done twice (D18)."""

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from soup.settings import Settings
from tests.conftest import Server, Servers, sha256
from tests.databases import KIND
from tests.wire import until

LEASE = 3.0  # seconds: a machine that does something else as well may be late by as much
OPENING = 64 * 1024  # bytes that a blob counts for in the scrub, however small it is
COUNT = 12  # blobs: three seconds' work for the scrub
KALE = next(b"kale %d" % n for n in count() if sha256(b"kale %d" % n) < "01")  # behind any cursor
SETTINGS: dict[str, Any] = {
    "server__workers": 1,
    "jobs__lease_seconds": LEASE,
    "jobs__mirrors_sweep_seconds": 0.2,
    "jobs__blobs_sweep_seconds": 0.3,
    "blobs__swept_seconds": 0.3,
    "jobs__blobs_scrub_seconds": 2,
    "scrub__bytes_per_second": 4 * OPENING,
}


def bound(lease: float) -> float:
    """Seconds until another has taken over: the lease runs out, a third of it passes until somebody tries."""
    return lease * 4 / 3 + 1.5


@dataclass
class Pair:
    """Two soups of one worker each, on one database and one folder, and one before them that has ended."""

    serve: Servers
    folder: Path
    servers: list[Server] = field(default_factory=list)

    def start(self, **settings: Any) -> Server:
        database = KIND.url(self.folder) or f"sqlite:///{self.folder / 'soup.db'}"
        given = SETTINGS | settings | {"database": database, "store__folder": self.folder / "blobs"}
        self.servers.append(self.serve(**given))
        return self.servers[-1]

    @property
    def admin(self) -> dict[str, str]:
        return self.servers[0].admin

    def keep(self, server: Server, data: bytes) -> str:
        answer = server.client.post("/api/blob", content=data, headers=self.admin)
        assert 201 == answer.status_code, answer.text
        return str(answer.json()["digest"])

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        return KIND.ask(self.folder, statement)

    def holder(self) -> tuple[str, int]:
        """Who has the lease, and under which epoch."""
        ((holder, epoch),) = self.ask("select holder, epoch from lease where name = 'jobs'")
        return holder, epoch

    def runs(self, holder: str, job: str) -> list[str]:
        """What came of the runs of a job at one holder."""
        rows = self.ask(f"select holder, result from job_run where name = '{job}' order by id")  # noqa: S608 - ours
        return [result for where, result in rows if where == holder]

    def swept(self, holder: str) -> int:
        """How many blobs one holder has swept."""
        runs = self.runs(holder, "blobs.sweep")
        return sum(int(result.removeprefix("done: ")) for result in runs if result.startswith("done"))

    def busy(self) -> bool:
        """Whether somebody stays in the middle of a transaction."""
        time.sleep(0.5)
        if KIND.name == "postgresql":
            return bool(
                self.ask(
                    "select pid from pg_stat_activity where state = 'idle in transaction'"
                    " and state_change < now() - interval '0.3 s'"
                )
            )
        with closing(sqlite3.connect(self.folder / "soup.db", timeout=0.5, isolation_level=None)) as handle:
            try:
                handle.execute("begin immediate")
            except sqlite3.OperationalError:
                return True
        return False

    def file(self, digest: str) -> Path:
        return self.folder / "blobs" / digest[:3] / digest

    def delete(self, server: Server, digest: str) -> None:
        url = f"/api/blob/{digest}"
        assert 204 == server.client.delete(url, headers=self.admin).status_code


def pid(holder: str) -> int:
    return int(holder.split(":")[1])


@pytest.fixture
def pair(serve: Servers, tmp_path: Path) -> Pair:
    (tmp_path / "shared").mkdir()
    pair = Pair(serve, tmp_path / "shared")
    before = pair.start(scrub__bytes_per_second=0)
    for number in range(COUNT):
        pair.keep(before, b"%d" % number)
    before.stop()
    pair.start()
    pair.start()
    until(lambda: pair.runs(pair.holder()[0], "mirrors.sweep"))
    return pair


def test_the_holder_is_killed(pair: Pair) -> None:
    """
    Another process does the jobs when the lease has run out: within 15 seconds, as it is without settings.
    """
    holder, epoch = pair.holder()
    os.kill(pid(holder), signal.SIGKILL)
    killed = time.monotonic()

    until(lambda: pair.holder()[0] != holder)
    until(lambda: pair.runs(pair.holder()[0], "mirrors.sweep"))

    assert time.monotonic() - killed < bound(LEASE)
    assert bound(Settings().jobs.lease_seconds) < 15
    assert epoch < pair.holder()[1]


@pytest.fixture
def sleeper(pair: Pair) -> Iterator[str]:
    """The holder, stopped in the middle of its scrub and outside of a transaction."""
    until(lambda: pair.ask("select cursor from scrub where blobs > 0"))
    time.sleep(0.7)  # a run has just ended: now the next is under way
    holder, _ = pair.holder()
    os.kill(pid(holder), signal.SIGSTOP)
    while pair.busy():
        os.kill(pid(holder), signal.SIGCONT)
        time.sleep(0.05)
        os.kill(pid(holder), signal.SIGSTOP)
    yield holder
    os.kill(pid(holder), signal.SIGCONT)


def test_the_holder_sleeps(pair: Pair, sleeper: str) -> None:
    """
    Another takes over, goes on where the sleeper was, and what that one does when it wakes up counts nothing.
    """
    stopped = time.monotonic()
    (awake,) = (server for server in pair.servers[1:] if pid(sleeper) not in server.workers())
    leek, kale = pair.keep(awake, b"leek"), pair.keep(awake, KALE)
    pair.delete(awake, leek)
    pair.delete(awake, kale)
    until(lambda: pair.holder()[0] != sleeper)
    took = time.monotonic() - stopped
    other, epoch = pair.holder()
    until(lambda: not pair.file(leek).exists() and not pair.file(kale).exists())
    pair.keep(awake, KALE)

    before = len(pair.runs(sleeper, "blobs.scrub"))
    os.kill(pid(sleeper), signal.SIGCONT)
    until(lambda: pair.ask("select blobs from scrub where finished_at is not null"), 40)
    sweeps = len(pair.runs(other, "blobs.sweep"))
    until(lambda: len(pair.runs(other, "blobs.sweep")) > sweeps + 2)

    assert took < bound(LEASE)
    assert (other, epoch) == pair.holder()
    # None, if it was stopped just between two runs.
    assert {"failed: lease 'jobs' has passed on"} >= set(pair.runs(sleeper, "blobs.scrub")[before:])
    assert (0, 2) == (pair.swept(sleeper), pair.swept(other))
    assert KALE == pair.file(kale).read_bytes()
    assert not pair.file(leek).exists()
    assert [(COUNT, 0)] == pair.ask("select blobs, damaged from scrub")
