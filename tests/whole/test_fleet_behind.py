"""A mirror that is 10,000 blobs behind gets requests for what it has, and for nothing else (D8)."""

import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from random import Random

import httpx
import pytest

from soup.prepare import prepare
from soup.settings import Settings
from tests.conftest import sha256
from tests.fleet import Fleet, Mirror, fleet_of
from tests.wire import until

pytestmark = pytest.mark.sqlite  # rows are written behind soup's back

HAD, BEHIND, SIZE = 2_000, 10_000, 1_500
ASKED = 1000  # digests at a time


def seed(data: Path, dice: Random, count: int) -> list[str]:
    """So many blobs more in a data folder that no soup has open, as one would have them; their digests."""
    blobs, digests = data / "blobs", list[str]()
    for _ in range(count):
        content = dice.randbytes(SIZE)
        digests.append(sha256(content))
        (blobs / digests[-1][:3]).mkdir(exist_ok=True)
        (blobs / digests[-1][:3] / digests[-1]).write_bytes(content)
    moment = "2026-01-01 00:00:00.000000"
    with closing(sqlite3.connect(data / "soup.db")) as handle, handle:
        ((head, store),) = handle.execute("select feed.head, store.id from feed, store").fetchall()
        rows = [(head + place, bytes.fromhex(one), SIZE, moment) for place, one in enumerate(digests, 1)]
        handle.executemany(
            "insert into blob (id, digest, size, state, seq, created_at, touched_at)"
            " values (?1, ?2, ?3, 1, ?1, ?4, ?4)",
            rows,
        )
        handle.executemany(
            "insert into placement (blob_id, store_id, state) values (?, ?, 1)",
            ((row, store) for row, *_ in rows),
        )
        handle.execute("update feed set head = ?", (head + count,))
    return digests


def sent(fleet: Fleet, mirror: Mirror, digests: Sequence[str]) -> int:
    """How many of these soup sends to the mirror now. Each has its right bytes there."""
    count = 0
    with httpx.Client() as other:
        for digest in digests:
            answer = fleet.core.client.get(f"/{digest}", headers={"range": "bytes=0-0"})
            if answer.is_redirect:
                assert f"{mirror.url}/{digest}" == answer.headers["location"]
                there = other.get(answer.headers["location"])
                assert (200, digest) == (there.status_code, sha256(there.content))
                count += 1
            else:
                assert 206 == answer.status_code
    return count


def test_ten_thousand_blobs_behind(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """
    Of a thousand digests drawn by chance, soup sends on those that are there, and answers the others itself;
    while the mirror catches up they become more, and when nothing holds it back any more, all.
    """
    data, dice, looks = tmp_path / "data", Random(2), 12 if pytestconfig.getoption("long") else 3
    prepare(Settings.model_validate({"data": data}))
    digests = seed(data, dice, HAD)
    with fleet_of(tmp_path, data, cdn__report_seconds=1) as fleet:
        mirror = fleet.mirror()
        mirror.well()
        mirror.stop()
        fleet.core.stop()
        digests += seed(data, dice, BEHIND)
        fleet.restart()
        mirror.given["bandwidth"] = "400KiB"
        mirror.start()
        until(lambda: "blobs behind" in (mirror.listed()["message"] or ""))
        told, counts = list[tuple[int, int]](), list[int]()
        for _ in range(looks):
            counts.append(sent(fleet, mirror, dice.sample(digests, ASKED)))
            told.append((mirror.listed()["synced_to"], mirror.listed()["lacking"]))
            newest = sent(fleet, mirror, digests[-100:])
            if mirror.listed()["synced_to"] >= len(digests) - 100:
                break  # it was faster than we are
            assert 0 == newest
            time.sleep(2)

        mirror.stop()
        mirror.given["bandwidth"] = 0
        mirror.start()
        caught_up = mirror.well(60)

        print(
            f"of {ASKED} digests {counts} were sent to a mirror that said {told} (synced_to, lacking);"
            f" it had all {caught_up:.1f} s after the limit was gone"
        )
        assert ASKED * HAD // len(digests) // 2 < counts[0] < counts[-1] <= ASKED
        assert (len(digests), 0) == (mirror.listed()["synced_to"], mirror.listed()["lacking"])
        assert ASKED == sent(fleet, mirror, dice.sample(digests, ASKED))
