"""`soup job`: what ran, and running it now."""

import shutil
import socket
import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.beside import beside, rows
from tests.command import refusal, soup
from tests.conftest import Server, Servers
from tests.databases import KIND

NAMES = [
    "mirrors.sweep",
    "feed.trim",
    "tokens.expire",
    "blobs.count",
    "blobs.scrub",
    "blobs.sweep",
    "mirrors.audit",
    "blobs.repair",
]
SELDOM = {
    "jobs__mirrors_sweep_seconds": 86_400,
    "jobs__blobs_sweep_seconds": 86_400,
    "jobs__mirrors_audit_seconds": 86_400,
    "jobs__blobs_repair_seconds": 86_400,
    "blobs__swept_seconds": 0.001,
}


@pytest.fixture
def still(serve: Servers) -> Server:
    """A server whose jobs do not run by themselves while a test lasts."""
    return serve(**SELDOM)


def holders(server: Server) -> list[tuple[str, int]]:
    return KIND.ask(server.data, "select holder, epoch from lease")


def test_jobs_that_never_ran(still: Server) -> None:
    """
    Each job is listed with how often it runs by these settings.
    """
    listed = rows(beside(still, "job", "ls", **SELDOM))

    assert [
        ["job", "every", "last run", "took", "where", "result"],
        ["mirrors.sweep", "86400 s", "never", "-", "-", "-"],
        ["feed.trim", "3600 s", "never", "-", "-", "-"],
        ["tokens.expire", "3600 s", "never", "-", "-", "-"],
        ["blobs.count", "300 s", "never", "-", "-", "-"],
        ["blobs.scrub", "60 s", "never", "-", "-", "-"],
        ["blobs.sweep", "86400 s", "never", "-", "-", "-"],
        ["mirrors.audit", "86400 s", "never", "-", "-", "-"],
        ["blobs.repair", "86400 s", "never", "-", "-", "-"],
    ] == listed


def test_a_job_that_is_run_now(still: Server) -> None:
    """
    It does what it does by itself, says what came of it, is written down, and the lease stays where it is.
    """
    digest = still.keep(b"parsley")
    file = still.data / "blobs" / digest[:3] / digest
    assert 204 == still.client.delete(f"/api/blob/{digest}", headers=still.admin).status_code
    before = holders(still)
    assert file.exists()

    ended = beside(still, "job", "run", "blobs.sweep", **SELDOM)

    assert (0, "blobs.sweep done: 1\n") == (ended.returncode, ended.stdout), ended
    assert not file.exists()
    assert before == holders(still)
    listed = {row[0]: row for row in rows(beside(still, "job", "ls"))[1:]}
    last = listed.pop("blobs.sweep")
    assert {"never"} == {row[2] for row in listed.values()}
    assert "done: 1" == last[5]
    assert abs(datetime.now(UTC) - datetime.fromisoformat(last[2])) < timedelta(minutes=1)
    assert 60 > float(last[3].removesuffix(" s"))


def test_a_job_that_ran_by_itself(serve: Servers) -> None:
    """
    What a running soup did unasked is listed with the process that did it.
    """
    server = serve(jobs__mirrors_sweep_seconds=0.1)
    until = time.monotonic() + 10
    while not KIND.ask(server.data, "select id from job_run"):
        assert time.monotonic() < until
        time.sleep(0.05)

    sweep = rows(beside(server, "job", "ls"))[1]

    assert ["mirrors.sweep", holders(server)[0][0], "done: 0"] == [sweep[0], *sweep[4:]]
    host, pid, _ = sweep[4].split(":")
    assert socket.gethostname() == host
    assert int(pid) in server.workers()


def test_a_scrub_that_is_run_now(still: Server) -> None:
    """
    It says how many blobs it has read, and so does the list.
    """
    digest = still.keep(b"parsley")
    file = still.data / "blobs" / digest[:3] / digest
    file.write_bytes(b"parsnip")

    ended = beside(still, "job", "run", "blobs.scrub")

    assert (0, "blobs.scrub done: 1\n") == (ended.returncode, ended.stdout), ended
    assert "blob.damaged" in ended.stderr
    assert ["done: 1"] == [row[5] for row in rows(beside(still, "job", "ls")) if row[0] == "blobs.scrub"]
    assert not file.exists()
    assert b"parsnip" == (still.data / "blobs/.quarantine" / digest).read_bytes()


def test_a_job_nobody_knows(still: Server) -> None:
    """
    The line names those there are.
    """
    ended = beside(still, "job", "run", "soup.stir")

    assert f"there is no job 'soup.stir', only {', '.join(NAMES)}" == refusal(ended)


def test_a_job_that_fails(still: Server) -> None:
    """
    Exit status 1 and why, and the list has it as well.
    """
    KIND.ask(still.data, "alter table blob rename to lost")

    failed = refusal(beside(still, "job", "run", "feed.trim"))

    assert failed.startswith("feed.trim failed: the database refuses: ")
    assert failed.removeprefix("feed.trim ") == rows(beside(still, "job", "ls"))[2][5]


def test_a_soup_that_has_stopped(still: Server) -> None:
    """
    Its jobs can be run without it, under the lease it had.
    """
    still.stop()

    ended = beside(still, "job", "run", "mirrors.sweep")

    assert (0, "mirrors.sweep done: 0\n") == (ended.returncode, ended.stdout), ended


def test_a_lease_nobody_ever_had(still: Server) -> None:
    """
    Nothing is run where there is nobody to borrow the lease of.
    """
    still.stop()
    KIND.ask(still.data, "delete from lease")

    assert "no soup has run on this database yet" == refusal(beside(still, "job", "run", "feed.trim"))


def test_a_folder_of_somebody_else(still: Server) -> None:
    """
    A job removes files: it is not let near a folder that is not the one the database knows.
    """
    folder = still.data / "other"
    folder.mkdir()

    ended = beside(still, "job", "run", "blobs.sweep", store__folder=folder)

    assert f"{folder} has no store in it" in refusal(ended)
    assert [] == list(folder.iterdir())


def test_a_folder_that_is_gone(still: Server) -> None:
    """
    The same where there is no folder at all.
    """
    still.stop()
    shutil.rmtree(still.data / "blobs")

    assert "has no store in it" in refusal(beside(still, "job", "ls"))


@pytest.mark.parametrize("verb", [("ls",), ("run", "feed.trim")])
def test_no_soup_yet(tmp_path, verb: tuple[str, ...]) -> None:
    """
    Where no soup has run there are no jobs, and nothing is made.
    """
    said = refusal(soup("job", *verb, cwd=tmp_path))

    assert said.startswith("no soup has run here yet")
    assert [] == list(tmp_path.iterdir())
