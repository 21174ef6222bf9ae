"""A web server, a folder or an agent is lost while clients download: nobody gets wrong bytes, few get none."""

import os
import shutil
import time
from collections.abc import Iterator

import pytest

from tests.conftest import Server, sha256
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


@pytest.mark.timeout(400)
@pytest.mark.row("C31", "C47")
def test_a_web_server_is_killed_under_load(fleet: Fleet, rounds: list[Mirror]) -> None:
    """
    aria2c takes another mirror and never fails; curl fails only until the mirror is out, which takes 20 s at
    most; its agent reports 3 within an interval; it is back within a minute once the web server is.
    """
    for mirror in rounds:
        with Downloads(fleet, DIGESTS) as clients:
            until(lambda: mirror.url in clients.sources(0, time.monotonic()), 60)  # noqa: B023
            mirror.web.kill()
            killed = time.monotonic()
            out = until(lambda: passed_over(mirror), OUT)  # noqa: B023
            until(lambda: mirror.listed()["status"] == 3, INTERVAL)  # noqa: B023
            said = time.monotonic() - killed
            quiet = killed + out + SLACK, time.monotonic() + 3
            clients.wait(5)
            quiet = quiet[0], time.monotonic()
            mirror.web.start()
            back = until(lambda: not passed_over(mirror), 60)  # noqa: B023
            clients.wait(5)

        failed = clients.failed("curl")
        print(
            f"{mirror.web.kind}: out after {out:.1f} s, 3 after {said:.1f} s, back after {back:.1f} s;"
            f" {len(clients.of('curl'))} curls, {len(failed)} failed;"
            f" {len(clients.of('aria2c'))} aria2cs, {len(clients.failed('aria2c'))} failed"
        )
        assert [] == clients.wrong
        assert [] == clients.failed("aria2c")
        assert all(one.ended > killed and one.began < quiet[0] for one in failed), failed
        assert {mirror.url} >= {one.source for one in failed}
        assert mirror.url not in clients.sources(*quiet)
        fleet.well(60)
