"""An agent is killed: its web server goes on, and after 40 s of silence soup sends nobody there."""

import os
import signal
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.fleet import fleet_of
from tests.wire import until

SILENCE = 40.0  # seconds, as it is without settings
LATE = 2.0  # seconds that a busy machine may be late by


@pytest.mark.sqlite
@pytest.mark.row("S15", "S17", "S20")
def test_an_agent_is_killed(tmp_path: Path) -> None:
    """
    It says no word any more. For 40 s after its last the mirror gets requests, and answers each with the
    right bytes; then others get them; with a new agent the mirror is back at once.
    """
    with fleet_of(tmp_path) as fleet:
        data = os.urandom(50_000)
        digest = fleet.core.keep(data)
        other, mirror = fleet.mirror(), fleet.mirror("apache", check_seconds=10)
        fleet.well()
        mirror.agent.stop(signal.SIGKILL)
        killed = time.monotonic()
        seen = datetime.fromisoformat(mirror.listed()["last_seen"])
        age = (datetime.now(UTC) - seen).total_seconds()

        asked, last = 0, killed
        while mirror.listed()["why"] is None:
            answer = fleet.core.client.get(f"/{digest}")
            if answer.headers["location"].startswith(mirror.url):
                last, asked = time.monotonic(), asked + 1
                assert data == fleet.get(answer.headers["location"]).content
            time.sleep(0.1)
            assert time.monotonic() - killed < SILENCE + LATE
        silent = time.monotonic() - killed + age

        assert {other.url} == set(fleet.places(digest, 100))
        assert data == fleet.get(f"{mirror.url}/{digest}").content
        assert "silent for 4" in mirror.listed()["why"]
        mirror.start()
        back = until(lambda: mirror.url in fleet.places(digest))
        print(
            f"silent {silent:.1f} s after its last report; {asked} requests until then, all right, the last"
            f" after {last - killed + age:.1f} s; back {back:.1f} s after a new agent's start"
        )
        assert SILENCE - LATE < silent < SILENCE + LATE
        assert asked > 10
