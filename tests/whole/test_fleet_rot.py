"""One byte flips, on a mirror or in the core's store: nobody is given it for long, and it is put right."""

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
from tests.wire import until

pytestmark = pytest.mark.sqlite  # tests/blobs has the rows of damage on both databases

OUT, BACK = 20.0, 60.0  # seconds, as they are without settings
SMALL, LARGE = 20_000, 9 << 20  # bytes that are checked before they are sent, and more than that


def flip(file: Path) -> None:
    """One bit in the middle, and the file's dates as before: what a disk does."""
    seen = file.stat()
    with file.open("r+b") as opened:
        opened.seek(seen.st_size // 2)
        byte = opened.read(1)
        opened.seek(seen.st_size // 2)
        opened.write(bytes([byte[0] ^ 1]))
    os.utime(file, ns=(seen.st_atime_ns, seen.st_mtime_ns))


def right(file: Path) -> bool:
    return file.exists() and sha256(file.read_bytes()) == file.name


def events(fleet: Fleet, name: str) -> list[dict[str, Any]]:
    """What the core's log has under this name."""
    lines = (json.loads(line) for line in fleet.core.log.read_text().splitlines() if line.startswith("{"))
    return [line for line in lines if line["event"] == name]


def copies(fleet: Fleet, digest: str) -> list[dict[str, Any]]:
    answer = fleet.core.client.get(f"/api/blob/{digest}", headers=fleet.core.admin)
    return list(answer.json()["placements"])


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
        mirror.given |= {"check_seconds": 3600, "scrub": "4MiB", "bandwidth": "1MiB"}
        mirror.start()
        flip(mirror.file(rotten))
        found = until(lambda: mirror.agent.metric("damaged_total") == 1, 30)
        heard = until(lambda: mirror.url not in fleet.places(rotten))

        places = Counter[str]()
        while not right(mirror.file(rotten)):
            places += fleet.places(rotten) if not mirror.file(rotten).exists() else Counter()
            assert {mirror.url: 1} == fleet.places(others[0])
        again = mirror.well()

    print(
        f"found after {found:.1f} s, nobody sent there {heard:.2f} s later, whole again after {again:.1f} s"
    )
    assert {"206"} == set(places)
    assert (mirror.blobs / ".soup-cdn/quarantine" / rotten).exists()


@pytest.mark.row("C31")
def test_the_core_finds_it_on_a_mirror(tmp_path: Path) -> None:
    """
    The agent reads nothing again, and says 1: the core's own look finds it within 20 s, and says so in the
    list. When the agent has mended it the mirror is back within a minute.
    """
    with fleet_of(tmp_path) as fleet:
        digest = fleet.core.keep(os.urandom(SMALL))
        mirror = fleet.mirror("apache")
        mirror.well()
        mirror.stop()
        mirror.given |= {"check_seconds": 3600, "scrub": 0}
        mirror.start()
        mirror.well()
        until(lambda: mirror.listed()["audited_at"], OUT)
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


@pytest.mark.parametrize("size", [SMALL, 0])
def test_a_small_blob_rots_in_the_core(tmp_path: Path, size: int) -> None:
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
        if size:
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
        assert took < BACK
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
        until(lambda: right(file) and copies(fleet, digest)[0]["state"] == "kept", BACK)
        took = time.monotonic() - began

        print(f"found after {found:.1f} s, right again after {took:.1f} s")
        assert [digest] == [event["digest"] for event in events(fleet, "blob.repaired")]
        assert data == fleet.core.client.get(f"/{digest}?direct=1").content
        quarantined = fleet.core.data / "blobs" / ".quarantine"
        assert any(digest in path.name for path in quarantined.rglob("*"))
