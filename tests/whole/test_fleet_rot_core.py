"""One byte flips in the core's store: nobody is given it, and a mirror's copy puts it right."""

import json
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import sha256
from tests.fleet import Fleet, fleet_of
from tests.folders import flip, right
from tests.wire import until

pytestmark = pytest.mark.sqlite  # tests/runner has the rows of repairs on both databases

SMALL, LARGE = 20_000, 9 << 20  # bytes that are checked before they are sent, and more than that
SOON = 60.0  # seconds until it is right again


def events(fleet: Fleet, name: str) -> list[dict[str, Any]]:
    """What the core's log has under this name."""
    lines = (json.loads(line) for line in fleet.core.log.read_text().splitlines() if line.startswith("{"))
    return [line for line in lines if line["event"] == name]


def copies(fleet: Fleet, digest: str) -> list[dict[str, Any]]:
    answer = fleet.core.client.get(f"/api/blob/{digest}", headers=fleet.core.admin)
    return list(answer.json()["placements"])


def asked_until(fleet: Fleet, data: bytes, true: Callable[[], object]) -> Counter[str]:
    """What clients got who wanted all or a part of it, from wherever or from the core, until it was true."""
    got, end = Counter[str](), time.monotonic() + 60
    first, last = len(data) // 3, len(data) * 2 // 3
    asked = [(None, data), (f"bytes={first}-{last}", data[first : last + 1])]
    while not true():
        assert time.monotonic() < end, "it was not put right"
        for span, wanted in asked:
            for query in ("", "?direct=1"):
                headers = {"range": span} if span else {}
                answer = fleet.core.client.get(f"/{sha256(data)}{query}", headers=headers)
                got[f"{query or 'anywhere'} {answer.status_code}"] += 1
                if answer.is_redirect:
                    answer = fleet.get(answer.headers["location"], **headers)
                if answer.is_success:
                    got["wrong"] += answer.content != wanted
    return got


@pytest.mark.parametrize("how", ["one byte", "all of it"])
def test_a_small_blob_rots_in_the_core(tmp_path: Path, how: str) -> None:
    """
    Whoever asks gets the right bytes or none, the core has fetched it from a mirror within a minute.
    """
    data = os.urandom(SMALL)
    with fleet_of(tmp_path) as fleet:
        digest = fleet.core.keep(data)
        fleet.mirror("nginx", tls=True)
        fleet.well()
        assert data == fleet.core.client.get(f"/{digest}?direct=1").content
        file = fleet.core.data / "blobs" / digest[:3] / digest
        if how == "one byte":
            flip(file)
        else:
            file.write_bytes(b"")

        began = time.monotonic()
        got = asked_until(fleet, data, lambda: right(file) and copies(fleet, digest)[0]["state"] == "kept")
        took = time.monotonic() - began
        more = asked_until(fleet, data, lambda: time.monotonic() > began + took + 1)

        print(f"right again after {took:.1f} s; until then {dict(got)}, from then on {dict(more)}")
        assert 0 == got["wrong"] + more["wrong"]
        assert got["?direct=1 307"] + got["?direct=1 503"] > 0
        assert {"?direct=1 200", "?direct=1 206", "anywhere 307", "wrong"} >= set(more)
        assert took < SOON
        assert [digest] == [event["digest"] for event in events(fleet, "blob.repaired")]


def test_a_large_blob_rots_in_the_core(tmp_path: Path) -> None:
    """
    The scrub finds it, clients are sent to the mirror, and the right bytes are fetched from there.
    """
    with fleet_of(tmp_path, scrub__bytes_per_second=0) as fleet:
        data = os.urandom(LARGE)
        digest, _ = fleet.core.keep(data), fleet.core.keep(os.urandom(LARGE))
        fleet.mirror("apache")
        fleet.well()
        file = fleet.core.data / "blobs" / digest[:3] / digest
        fleet.core.stop()
        flip(file)
        fleet.restart(scrub__bytes_per_second="100MiB", jobs__blobs_scrub_seconds=1)

        began = time.monotonic()
        until(lambda: events(fleet, "blob.damaged"), 30)
        found = time.monotonic() - began
        until(lambda: right(file) and copies(fleet, digest)[0]["state"] == "kept", SOON)
        took = time.monotonic() - began

        print(f"found after {found:.1f} s, right again after {took:.1f} s")
        assert [digest] == [event["digest"] for event in events(fleet, "blob.repaired")]
        assert data == fleet.core.client.get(f"/{digest}?direct=1").content
        quarantined = fleet.core.data / "blobs" / ".quarantine"
        assert any(digest in path.name for path in quarantined.rglob("*"))
