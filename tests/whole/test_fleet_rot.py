"""One byte flips on a mirror: its agent finds it, or the core does, and soon nobody is sent there (C31)."""

import os
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.fleet import fleet_of
from tests.folders import flip, right
from tests.wire import until

pytestmark = pytest.mark.sqlite  # the core's rows have no part in it

OUT, BACK = 20.0, 60.0  # seconds, as they are without settings


def test_a_mirror_finds_it_itself(tmp_path: Path) -> None:
    """
    Its scrub comes by: from that moment on nobody is sent there for this blob, everybody for the others, and
    soon it has been fetched again. The core looks away all the while.
    """
    with fleet_of(tmp_path, cdn__audit="off") as fleet:
        *others, rotten = sorted(fleet.core.keep(os.urandom(2 << 20)) for _ in range(8))
        mirror = fleet.mirror()
        mirror.well()
        mirror.stop()
        mirror.given |= {"check_seconds": 3600, "scrub": "4MiB", "bandwidth": "512KiB"}
        mirror.start()
        flip(mirror.file(rotten))
        found = until(lambda: mirror.agent.metric("damaged_total") == 1, 30)
        heard = until(lambda: mirror.url not in fleet.places(rotten))
        until(lambda: mirror.url in fleet.places(others[0]))

        places = Counter[str]()
        while not right(mirror.file(rotten)):
            places += fleet.places(rotten) if not mirror.file(rotten).exists() else Counter()
            assert {mirror.url: 1} == fleet.places(others[0])
        again = mirror.well()

    print(
        f"found after {found:.1f} s, nobody sent there {heard:.2f} s later, whole again after {again:.1f} s"
    )
    assert {"206"} >= set(places)
    assert (mirror.blobs / ".soup-cdn/quarantine" / rotten).exists()


@pytest.mark.row("C31")
def test_the_core_finds_it_on_a_mirror(tmp_path: Path) -> None:
    """
    The agent reads nothing again, and says 1: the core's own look finds it within 20 s, and says so in the
    list. When the agent has mended it the mirror is back within a minute.
    """
    with fleet_of(tmp_path) as fleet:
        digest = fleet.core.keep(os.urandom(20_000))
        mirror = fleet.mirror("apache")
        mirror.well()
        mirror.stop()
        mirror.given |= {"check_seconds": 3600, "scrub": 0}
        mirror.start()
        mirror.well()
        flip(mirror.file(digest))
        out = until(lambda: mirror.listed()["why"] is not None, OUT)
        listed = mirror.listed()
        time.sleep(1)  # the other worker has heard too
        assert {"206": 20} == fleet.places(digest, 20)

        mirror.stop()
        mirror.start()  # it looks at what is there before its first word
        back = until(lambda: mirror.listed()["why"] is None, BACK)
        print(f"{listed['why']}: out after {out:.1f} s, back after {back:.1f} s")
        assert f"wrong bytes of {digest[:8]}..." == listed["doubt"]["reason"]
        assert 1 == listed["status"]
        assert right(mirror.file(digest))
        assert {mirror.url: 20} == fleet.places(digest, 20)
