"""The core has news, dies, or is restored from a backup: nobody is sent to a mirror that has not the blob."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from itertools import cycle
from pathlib import Path
from typing import Self

import httpx
import pytest

from tests.conftest import program, sha256
from tests.downloads import Downloads
from tests.fleet import Fleet, fleet_of
from tests.wire import until

CLIENTS = 100


def three(fleet: Fleet, **settings: object) -> None:
    """nginx, Apache, and nginx with https."""
    for kind, tls in (("nginx", False), ("apache", False), ("nginx", True)):
        fleet.mirror(kind, tls=tls, **settings)


def crowd(fleet: Fleet, data: bytes, folder: Path) -> Counter[str]:
    """A hundred curls at once: who served them. Every one has the right bytes."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    run = subprocess.run(
        [
            program("curl"), "-sfLZ", "--parallel-immediate", "--parallel-max", str(CLIENTS),
            "--cacert", fleet.authority, "-w", "%{url_effective}\\n", "-o", folder / "#1",
            f"{fleet.core.url}/{sha256(data)}?n=[1-{CLIENTS}]",
        ],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert 0 == run.returncode, run.stderr
    got = [file.read_bytes() for file in folder.iterdir()]
    assert CLIENTS == sum(one == data for one in got), f"{len(got)} files"
    return Counter(line.partition("/" + sha256(data))[0] for line in run.stdout.splitlines())


def test_a_hundred_ask_at_once_for_a_fresh_upload(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """
    From the moment it is acknowledged until every mirror has it, and after that: each has the right bytes.
    """
    with fleet_of(tmp_path, cdn__report_seconds=1) as fleet:
        fleet.core.keep(os.urandom(1000))
        three(fleet)
        fleet.well()
        for _ in range(20 if pytestconfig.getoption("long") else 3):
            data = os.urandom(200_000)
            digest, told, crowds = fleet.core.keep(data), Counter[str](), 0
            while any(told[mirror.url] == 0 for mirror in fleet.mirrors):
                told += crowd(fleet, data, tmp_path / "got")
                crowds += 1
                assert crowds < 100, "it does not reach the mirrors"
            print(f"{crowds} times {CLIENTS} clients, all with the right bytes, from {sorted(told.values())}")
            assert all(mirror.agent.has(digest) for mirror in fleet.mirrors)


class Uploads:
    """Blobs that are uploaded one after the other until the block ends, whatever becomes of the core."""

    def __init__(self, fleet: Fleet, size: int) -> None:
        self.fleet, self.size = fleet, size
        self.kept: list[str] = []
        self.over = threading.Event()

    def __enter__(self) -> Self:
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()

    def _run(self) -> None:
        admin, url = self.fleet.core.admin, self.fleet.core.url
        while not self.over.wait(0.1):
            data = os.urandom(self.size)
            try:
                answer = httpx.post(f"{url}/api/blob", content=data, headers=admin, timeout=10)
            except httpx.TransportError:
                continue
            if answer.is_success:
                self.kept.append(sha256(data))


@pytest.mark.timeout(400)
def test_the_core_is_killed_under_load(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """
    Its agents go on where they were, what was acknowledged is there, nobody gets wrong bytes, and who gets
    none asked while it was away.
    """
    away, slack = list[tuple[float, float]](), 1.0
    with fleet_of(tmp_path, cdn__report_seconds=2) as fleet:
        digests = [fleet.core.keep(os.urandom(3 << 20)) for _ in range(3)]
        three(fleet, bandwidth="2MiB")
        fleet.well(60)
        processes = [mirror.agent.process.pid for mirror in fleet.mirrors]
        with Uploads(fleet, 300_000) as uploads, Downloads(fleet, digests) as clients:
            for _ in range(6 if pytestconfig.getoption("long") else 1):
                clients.wait(4)
                until(lambda: any(mirror.agent.metric("blobs_wanted") for mirror in fleet.mirrors), 30)
                workers, began = fleet.core.workers(), time.monotonic()
                fleet.core.stop(signal.SIGKILL)
                until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))  # noqa: B023
                time.sleep(2)
                fleet.restart()
                away.append((began, time.monotonic() + slack))
            clients.wait(4)
            many = len(uploads.kept)
            until(lambda: len(uploads.kept) > many + 2)
        fleet.well(90)

        failed = [one for client in ("curl", "aria2c") for one in clients.failed(client)]
        spans = [f"{end - began - slack:.1f} s" for began, end in away]
        print(
            f"away for {', '.join(spans)}; {len(clients.done)} downloads, {len(failed)} failed, 0 wrong;"
            f" {len(uploads.kept)} blobs were uploaded meanwhile"
        )
        assert [] == clients.wrong
        assert all(any(one.ended > began and one.began < end for began, end in away) for one in failed), (
            failed
        )
        assert processes == [mirror.agent.process.pid for mirror in fleet.mirrors]
        assert all(mirror.agent.process.poll() is None for mirror in fleet.mirrors)
        for mirror in fleet.mirrors:
            assert mirror.agent.has(*digests, *uploads.kept)
            assert all(one == sha256(mirror.file(one).read_bytes()) for one in uploads.kept)


@pytest.mark.sqlite
def test_a_core_restored_from_an_older_state(tmp_path: Path) -> None:
    """
    With `soup feed renew` its history is another one. A mirror whose agent ran all the while, and one that is
    started later, claim nothing they do not have: not what was uploaded, and not what they had removed.
    """
    with fleet_of(tmp_path, cdn__report_seconds=1) as fleet:
        core = fleet.core
        kept, undead = ([core.keep(os.urandom(2000)) for _ in range(20)] for _ in range(2))
        running, started = fleet.mirror("nginx"), fleet.mirror("apache")
        fleet.well()
        with (
            closing(sqlite3.connect(core.data / "soup.db")) as live,
            sqlite3.connect(tmp_path / "old") as old,
        ):
            live.backup(old)
        for digest in undead:
            core.client.delete(f"/api/blob/{digest}", headers=core.admin)
        lost = [core.keep(os.urandom(2000)) for _ in range(60)]
        until(lambda: not any(mirror.agent.files() & {*undead} for mirror in fleet.mirrors), 30)
        fleet.well()
        started.stop()
        core.stop(signal.SIGKILL)
        time.sleep(0.5)
        for name in ("soup.db", "soup.db-wal", "soup.db-shm"):
            (core.data / name).unlink(missing_ok=True)
        shutil.copy(tmp_path / "old", core.data / "soup.db")
        renew = [sys.executable, "-m", "soup", "feed", "renew"]
        given = os.environ | {"SOUP_DATA": str(core.data)}
        subprocess.run(renew, env=given, check=True, capture_output=True, cwd=tmp_path)

        fleet.restart()
        core = fleet.core
        fresh = [core.keep(os.urandom(2000)) for _ in range(30)]
        told, end = Counter[str](), time.monotonic() + 30
        for turn in cycle(range(50)):
            for digest in (*kept[:5], *undead[:10], *fresh[:10]):
                answer = core.client.get(f"/{digest}")
                if answer.is_redirect:
                    link = answer.headers["location"]
                    told[link.removesuffix(f"/{digest}")] += 1
                    assert digest == sha256(fleet.get(link).content)
                else:
                    told["core"] += 1
            if turn == 3 and started.agent.process.poll() is not None:
                started.start()
            if turn > 10 and min(told[started.url], told[running.url]) > 50:
                break
            assert time.monotonic() < end
        fleet.well()

        print(f"sent to {dict(told)}, all right")
        for mirror in fleet.mirrors:
            assert mirror.agent.has(*kept, *undead, *fresh)
            until(lambda: not mirror.agent.files() & {*lost})  # noqa: B023
        assert 404 == core.client.get(f"/{lost[0]}").status_code
