"""A web server or a folder is lost while clients download: nobody gets wrong bytes, and few get none."""

import os
import shutil
import time
from collections.abc import Iterator

import pytest

from tests.conftest import sha256
from tests.downloads import Downloads
from tests.fleet import Fleet, Mirror, fleet_of
from tests.wire import until

pytestmark = pytest.mark.sqlite  # the core's rows have no part in it

BLOBS = [os.urandom(size << 20) for size in (3, 4, 6)]
INTERVAL = 30.0  # seconds between reports, as it is without settings
OUT = 20.0  # seconds until nobody is sent to a hole any more
SLACK = 1.0  # seconds until the other worker has heard, too


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """nginx, Apache, and nginx with https, all as they are without settings."""
    with fleet_of(tmp_path_factory.mktemp("fleet")) as fleet:
        for data in BLOBS:
            fleet.core.keep(data)
        for kind, tls in (("nginx", False), ("apache", False), ("nginx", True)):
            fleet.mirror(kind, tls=tls, check_seconds=10)
        fleet.well()
        yield fleet


@pytest.fixture
def rounds(fleet: Fleet, pytestconfig: pytest.Config) -> list[Mirror]:
    """Whom it happens to: in short one, in long each of them."""
    return fleet.mirrors if pytestconfig.getoption("long") else fleet.mirrors[1:2]


DIGESTS = [sha256(data) for data in BLOBS]


def passed_over(mirror: Mirror) -> bool:
    return mirror.listed()["why"] is not None


def judge(clients: Downloads, mirror: Mirror, lost: float, out: float, back: float) -> str:
    """Nobody has wrong bytes; aria2c never fails; curl only at this mirror, from when it was lost to when it
    was out, and then nobody asks it any more until it is back. What happened in words.
    """
    failed, heard = clients.failed("curl"), lost + out + SLACK
    assert [] == clients.wrong
    assert [] == clients.failed("aria2c")
    assert {mirror.url} >= {one.source for one in failed}
    assert all(one.ended > lost and one.began < heard for one in failed), failed
    assert mirror.url not in clients.sources(heard, back)
    return (
        f"out after {out:.1f} s; {len(clients.of('curl'))} curls, {len(failed)} failed,"
        f" {len(clients.of('aria2c'))} aria2cs, none failed"
    )


@pytest.mark.timeout(400)
@pytest.mark.row("C31", "C47")
def test_a_web_server_is_killed_under_load(fleet: Fleet, rounds: list[Mirror]) -> None:
    """
    aria2c takes another mirror and never fails; curl fails only until the mirror is out, which takes 20 s at
    most; its agent reports 3 within an interval; it is back within a minute once the web server is.
    """
    for mirror in rounds:
        with Downloads(fleet, DIGESTS) as clients:
            clients.reach(mirror)
            mirror.web.kill()
            lost = time.monotonic()
            out = until(lambda: passed_over(mirror), OUT)  # noqa: B023
            until(lambda: mirror.listed()["status"] == 3, INTERVAL)  # noqa: B023
            said = time.monotonic() - lost
            time.sleep(SLACK)
            clients.wait(10)
            again = time.monotonic()
            mirror.web.start()
            back = until(lambda: not passed_over(mirror), 60)  # noqa: B023
            clients.reach(mirror)

        told = judge(clients, mirror, lost, out, again)
        print(f"{mirror.web.kind}: {told}; said 3 after {said:.1f} s, back after {back:.1f} s")
        fleet.well(60)


@pytest.mark.timeout(400)
@pytest.mark.row("C31")
def test_a_folder_is_wiped_under_load(fleet: Fleet, rounds: list[Mirror]) -> None:
    """
    Every blob goes, and what the agent knew of them: no wrong bytes, and soon nobody is sent there, until
    what is claimed is there again.
    """
    for mirror in rounds:
        with Downloads(fleet, DIGESTS) as clients:
            clients.reach(mirror)
            for path in mirror.blobs.iterdir():
                shutil.rmtree(path)
            lost = time.monotonic()
            out = until(lambda: passed_over(mirror) or mirror.listed()["synced_to"] == 0, OUT)  # noqa: B023
            back = mirror.well(60)
            clients.reach(mirror)

        told = judge(clients, mirror, lost, out, lost + out + SLACK)
        print(f"{mirror.web.kind}: {told}; whole and back after {back:.1f} s more")
        assert all(digest == sha256(mirror.file(digest).read_bytes()) for digest in DIGESTS)
