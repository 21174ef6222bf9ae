"""How a mirror's folder becomes what the core says, whatever happens to either."""

import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import agents
from tests.conftest import Server, Servers, bearer, program, sha256
from tests.fleet import Fleet
from tests.folders import flip
from tests.wire import until

pytestmark = pytest.mark.sqlite  # the core's rows have no part in it


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    servers = Servers(tmp_path_factory.mktemp("core"))
    with servers.stack:
        core = servers(cdn__report_seconds=1)
        core.keep(b"one at least")  # a mirror without a blob is not quite well
        yield core


@pytest.fixture
def fleet(core: Server, tmp_path: Path) -> Iterator[Fleet]:
    """Mirrors of this test alone; the core is that of all."""
    with Fleet(core, tmp_path) as fleet:
        yield fleet
        for mirror in fleet.mirrors:
            core.client.delete(f"/api/cdn/{mirror.id}", headers=core.admin)


def test_a_folder_filled_by_hand_is_taken_as_it_is(core: Server, fleet: Fleet) -> None:
    """
    `curl ... | tar x` fills it; the agent hashes what lies there and fetches only what is wrong or missing.
    """
    kept = [core.keep(os.urandom(5000)) for _ in range(20)]
    mirror = fleet.mirror(start=False)
    url = f"{core.url}/api/blob:bundle"
    curl = [program("curl"), "-sf", "-H", f"Authorization: Bearer {mirror.known['token']}", url]
    tar = subprocess.run(curl, capture_output=True, check=True).stdout
    subprocess.run([program("tar"), "x", "-C", mirror.blobs], input=tar, check=True)
    wrong, gone = kept[:2]
    mirror.file(wrong).write_bytes(b"x" * 5000)
    mirror.file(gone).unlink()

    mirror.start()
    mirror.well()

    assert mirror.agent.has(*kept)
    assert all(digest == sha256(mirror.file(digest).read_bytes()) for digest in kept)
    assert 2 == mirror.agent.metric("fetched_total")
    assert mirror.agent.metric("adopted_total") >= 18
    assert (mirror.blobs / ".soup-cdn" / "quarantine" / wrong).exists()


def test_a_folder_that_is_emptied_claims_nothing_and_fills_again(core: Server, fleet: Fleet) -> None:
    """
    Somebody removes every blob, and what the agent knew of them: within seconds nobody is sent there.
    """
    digests = [core.keep(os.urandom(2000)) for _ in range(30)]
    mirror = fleet.mirror(bandwidth=0)
    mirror.well()
    seen = until(lambda: fleet.places(digests[0])[mirror.url], 10)

    mirror.stop()
    for path in mirror.blobs.iterdir():
        shutil.rmtree(path)
    mirror.start()
    first = mirror.listed()
    mirror.well()

    assert mirror.agent.has(*digests)
    print(f"chosen after {seen:.1f} s; claimed right after the start: {first['synced_to']}")  # noqa: T201


@pytest.mark.parametrize("all_of_it", [True, False])
def test_a_folder_that_is_emptied_under_the_agent(core: Server, fleet: Fleet, *, all_of_it: bool) -> None:
    """
    The claim falls to nothing as soon as it is seen, and the mirror is whole again soon after.
    """
    digests = [core.keep(os.urandom(2000)) for _ in range(30)]
    mirror = fleet.mirror(bandwidth=100_000)
    mirror.well(60)

    for path in mirror.blobs.iterdir():
        if all_of_it or not path.name.startswith("."):
            shutil.rmtree(path)
    fell = until(lambda: mirror.listed()["synced_to"] == 0 or mirror.listed()["lacking"] > 20, 20)
    print(f"nobody is sent there after {fell:.1f} s")  # noqa: T201

    mirror.well(90)
    assert mirror.agent.has(*digests)


def test_a_missing_a_short_and_a_strange_file_are_found_at_the_start(core: Server, fleet: Fleet) -> None:
    """
    What was removed or cut while no agent ran is fetched anew before it is claimed; a stray is removed.
    """
    digests = [core.keep(os.urandom(2000)) for _ in range(5)]
    mirror = fleet.mirror()
    mirror.well()
    mirror.stop()
    stray = sha256(b"stray")
    mirror.file(stray).parent.mkdir(exist_ok=True)
    mirror.file(stray).write_bytes(b"stray")
    mirror.file(digests[0]).unlink()
    os.truncate(mirror.file(digests[1]), 100)

    mirror.start()
    until(lambda: mirror.agent.has(*digests) and mirror.agent.metric("fetched_total") == 2)
    until(lambda: not mirror.agent.has(stray))

    assert all(digest == sha256(mirror.file(digest).read_bytes()) for digest in digests)


def test_many_strays_are_not_removed_unasked(fleet: Fleet) -> None:
    """
    It may be the core that has lost its memory, and these the last copies: the mirror says so and waits.
    """
    mirror = fleet.mirror(start=False)
    for place in range(150):
        digest = sha256(b"%d" % place)
        mirror.file(digest).parent.mkdir(exist_ok=True)
        mirror.file(digest).write_bytes(b"%d" % place)

    mirror.start()
    until(lambda: "150 blobs here are unknown" in str(mirror.listed()["message"]))
    assert 150 <= len(mirror.agent.files())

    mirror.stop()
    mirror.start(strays="remove_all")
    until(lambda: not mirror.agent.has(sha256(b"0")))
    mirror.well()


def test_a_file_that_rots_is_found_reported_and_mended(core: Server, fleet: Fleet) -> None:
    """
    The scrub reads everything again: the bad file goes to the quarantine, and the right bytes come back.
    """
    digests = [core.keep(os.urandom(300_000)) for _ in range(3)] + [core.keep(os.urandom(6 << 20))]
    mirror = fleet.mirror()
    mirror.well()
    mirror.stop()
    for digest in (digests[0], digests[3]):
        flip(mirror.file(digest))

    mirror.start(scrub="1GiB")
    found = until(lambda: mirror.agent.metric("damaged_total") == 2)
    until(
        lambda: all(
            digest == sha256(mirror.file(digest).read_bytes())
            for digest in digests
            if mirror.agent.has(digest)
        )
    )
    until(lambda: mirror.agent.has(*digests))

    print(f"found after {found:.1f} s")  # noqa: T201
    assert {digests[0], digests[3]} == {
        path.name for path in (mirror.blobs / ".soup-cdn/quarantine").iterdir()
    }
    mirror.well()


def test_a_large_blob_goes_on_where_it_stopped(core: Server, fleet: Fleet) -> None:
    """
    An agent that is killed in the middle of a download has it half done: the next asks for the rest only.
    """
    mirror = fleet.mirror()
    mirror.well()  # with whatever else there is
    mirror.stop()
    mirror.given["bandwidth"] = "2MiB"
    digest = core.keep(os.urandom(8 << 20))
    mirror.start()
    part = mirror.blobs / ".soup-cdn" / "incoming" / f"{digest}.part"
    until(lambda: part.exists() and part.stat().st_size >= 3 << 20)
    mirror.agent.stop(signal.SIGKILL)
    held = part.stat().st_size

    mirror.given["bandwidth"] = 0
    mirror.start()
    until(lambda: mirror.agent.has(digest))

    fetched = mirror.agent.metric("fetched_bytes_total")
    print(f"{held} bytes were there, {fetched:.0f} were fetched")  # noqa: T201
    assert digest == sha256(mirror.file(digest).read_bytes())
    assert (8 << 20) - held <= fetched < (8 << 20) - held + (1 << 20)
    assert not part.exists()


def test_the_limit_of_bandwidth_is_kept(core: Server, fleet: Fleet) -> None:
    """
    Two MiB a second are two MiB a second, for bundles as for large blobs.
    """
    mirror = fleet.mirror(start=False)
    digests = [core.keep(os.urandom(400_000)) for _ in range(4)] + [core.keep(os.urandom(2 << 20))]
    for path in (core.data / "blobs").glob("???/*"):
        if path.name not in digests:  # what earlier tests left is here already
            mirror.file(path.name).parent.mkdir(exist_ok=True)
            shutil.copy(path, mirror.file(path.name))

    began = time.monotonic()
    mirror.start(bandwidth="1MiB")
    until(lambda: mirror.agent.has(*digests), 40)

    seconds = time.monotonic() - began
    print(f"{4 * 400_000 + (2 << 20)} bytes in {seconds:.1f} s")  # noqa: T201
    assert seconds > 2.5


def test_sizes_that_a_mirror_does_not_hold_are_sent_elsewhere(core: Server, fleet: Fleet) -> None:
    """
    A mirror for small blobs is never asked for a large one, and has none.
    """
    small, large = core.keep(os.urandom(1000)), core.keep(os.urandom(50_000))
    mirror = fleet.mirror(largest=10_000)
    mirror.well()

    assert mirror.agent.has(small)
    assert not mirror.agent.has(large)
    assert {mirror.url: 20} == fleet.places(small, 20)
    assert {"206": 5} == fleet.places(large, 5)
    assert {"smallest": None, "largest": 10_000} == mirror.listed()["holds"]

    mirror.stop()
    mirror.given["largest"] = 100_000  # another limit: the whole list is read again
    mirror.start()
    mirror.well()
    assert mirror.agent.has(large)


def test_a_token_is_rotated_without_a_restart(core: Server, fleet: Fleet, tmp_path: Path) -> None:
    """
    The file has another token; the agent uses it with the next request, and the old one dies.
    """
    mirror = fleet.mirror(start=False)
    file = tmp_path / "token"
    file.write_text(mirror.known["token"])
    mirror.start(token="", token_file=file)
    mirror.well()

    fresh = core.client.post(f"/api/cdn/{mirror.id}/token", headers=core.admin).json()["token"]
    file.write_text(fresh)
    until(lambda: mirror.agent.metric("reports_total") and _refused(core, mirror.known["token"]))

    assert 0 == mirror.agent.metric("reports_refused_total")


def _refused(core: Server, token: str) -> bool:
    return core.client.get("/api/blob:list?limit=1", headers=bearer(token)).status_code == 401


def test_the_person_at_the_machine_is_told_how_it_is(fleet: Fleet) -> None:
    """
    `soup-cdn-agent status`: 0 and every figure when all is well, 3 when no agent is there.
    """
    mirror = fleet.mirror()
    mirror.well()
    until(lambda: mirror.agent.status()["status"] == 1)

    code, text = agents.said(mirror.agent)

    assert 0 == code, text
    lines = {line.split(":")[0] for line in text.splitlines()}
    assert {"status", "last report", "feed", "answers for", "blobs", "delivered", "disk"} == lines
    mirror.stop()
    assert 3 == agents.said(mirror.agent)[0]


def test_a_core_whose_history_is_another_is_listed_anew(serve: Servers, tmp_path: Path) -> None:
    """
    A core restored from an older state: nothing is claimed that the mirror does not have, ever.
    """
    core = serve(cdn__report_seconds=1)
    old = core.keep(os.urandom(1000))
    with Fleet(core, tmp_path) as fleet:
        mirror = fleet.mirror()
        mirror.well()
        backup = tmp_path / "backup.db"
        with sqlite3.connect(core.data / "soup.db") as live, sqlite3.connect(backup) as copy:
            live.backup(copy)
        lost = [core.keep(os.urandom(1000)) for _ in range(5)]
        mirror.well()
        core.stop()
        for name in ("soup.db", "soup.db-wal", "soup.db-shm"):
            (core.data / name).unlink(missing_ok=True)
        shutil.copy(backup, core.data / "soup.db")

        again = serve(core.data, server__port=core.port, cdn__report_seconds=1)
        fresh = [again.keep(os.urandom(1000)) for _ in range(3)]
        for _ in range(40):
            for digest in (old, *fresh):
                answer = again.client.get(f"/{digest}")
                if answer.is_redirect:
                    assert sha256(fleet.get(answer.headers["location"]).content) == digest
            time.sleep(0.05)
        mirror.core = again
        mirror.well()

        assert mirror.agent.has(old, *fresh)
        until(lambda: not mirror.agent.files() & set(lost))


def test_a_cursor_that_is_too_old_makes_it_read_the_list(serve: Servers, tmp_path: Path) -> None:
    """
    A mirror that slept for longer than the feed remembers: what was deleted meanwhile goes all the same.
    """
    core = serve(
        cdn__report_seconds=1, feed__keep_days=0.00001, jobs__feed_trim_seconds=0.3, blobs__swept_seconds=0.1,
        jobs__blobs_sweep_seconds=0.3,
    )  # fmt: skip
    kept = core.keep(os.urandom(1000))
    deleted = [core.keep(os.urandom(100)) for _ in range(110)]  # more than a scan would remove unasked
    with Fleet(core, tmp_path) as fleet:
        mirror = fleet.mirror()
        mirror.well()
        mirror.stop()
        for digest in deleted:
            core.client.delete(f"/api/blob/{digest}", headers=core.admin)
        fresh = core.keep(os.urandom(1000))
        token = bearer(mirror.known["token"])
        until(lambda: core.client.get("/api/blob:changes?after=2", headers=token).status_code == 410, 20)

        mirror.start()
        mirror.well()

        assert {kept, fresh} == mirror.agent.files()
        assert 1 == len(mirror.agent.events("list.read")[1:])
