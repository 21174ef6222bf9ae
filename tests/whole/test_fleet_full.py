"""A mirror whose disk is too small: it keeps what fits, says so, and claims no more (S2, D8)."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from tests.conftest import program, sha256
from tests.fleet import Fleet, Mirror, fleet_of
from tests.wire import until

pytestmark = pytest.mark.sqlite  # the core's rows have no part in it

MIB = 1 << 20
SIZE, BALLAST, RESERVE = 60 * MIB, 24 * MIB, 8 * MIB
BLOBS = 14, 3 * MIB  # large ones, which do not fit beside the ballast, and do without it
SMALL = 60, 40_000


@dataclass
class Disk:
    """A folder on a disk with little room, some of it taken by a file that can be removed."""

    folder: Path
    ballast: Path
    kind: str

    @property
    def free(self) -> int:
        seen = os.statvfs(self.folder)
        return seen.f_bavail * seen.f_frsize


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A file system of its own in memory; where it may not be mounted, a folder on the disk of all others."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = [program("mount"), "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", folder]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        ballast = folder / "ballast"
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, BALLAST)
        yield Disk(folder, ballast, "tmpfs" if mounted else "shared")
    finally:
        if mounted:
            subprocess.run([program("umount"), "-l", folder], check=True)


def reserve(disk: Disk) -> int:
    """What has to stay free so that the mirror has the room it has on a disk of its own."""
    return RESERVE if disk.kind == "tmpfs" else disk.free - (SIZE - BALLAST - RESERVE)


def sent_right(fleet: Fleet, mirror: Mirror, digests: list[str]) -> int:
    """How many of these the core sends to the mirror now; each ends in the right bytes."""
    sent = 0
    for digest in digests:
        answer = fleet.core.client.get(f"/{digest}", headers={"range": "bytes=0-0"})
        if answer.is_redirect:
            assert f"{mirror.url}/{digest}" == answer.headers["location"]
            assert digest == sha256(fleet.get(answer.headers["location"]).content)
            sent += 1
    return sent


@pytest.mark.parametrize("keeps", [True, False], ids=["a reserve", "none"])
def test_a_disk_is_filled(disk: Disk, tmp_path: Path, *, keeps: bool) -> None:
    """
    While it fills and when it is full each request ends in the right bytes; it says 2 and why, leaves the
    reserve alone, and goes on by itself when somebody makes room.
    """
    with fleet_of(tmp_path, cdn__report_seconds=1) as fleet:
        digests = [fleet.core.keep(os.urandom(SMALL[1])) for _ in range(SMALL[0])]
        digests += [fleet.core.keep(os.urandom(BLOBS[1])) for _ in range(BLOBS[0])]
        Random(7).shuffle(digests)
        kept = reserve(disk) if keeps or disk.kind == "shared" else 0
        blobs = disk.folder / "blobs"
        mirror = fleet.mirror(blobs=blobs, reserve=kept, bandwidth="16MiB")
        began, sent = time.monotonic(), []
        while "full" not in (mirror.listed()["message"] or ""):
            sent.append(sent_right(fleet, mirror, digests[:30]))
            assert time.monotonic() - began < 60
        until(lambda: disk.free - kept < BLOBS[1] and not list(blobs.glob(".soup-cdn/incoming/*")))
        until(lambda: mirror.listed()["lacking"] == len(digests) - len(mirror.agent.files()))
        listed, free, have = mirror.listed(), disk.free, len(mirror.agent.files())
        sent.append(sent_right(fleet, mirror, digests))

        assert 2 == listed["status"]
        assert sent[-1] == have < len(digests)
        if keeps:
            assert free >= kept - MIB
        fresh = fleet.core.keep(os.urandom(BLOBS[1]))  # it follows the feed all the same
        until(lambda: mirror.listed()["lacking"] == len(digests) + 1 - have)
        assert 0 == sent_right(fleet, mirror, [fresh])
        disk.ballast.unlink()
        went_on = until(lambda: len(mirror.agent.files()) == len(digests) + 1, 60)
        mirror.well()

        print(
            f"{disk.kind}: {have} of {len(digests)} blobs fit, {free / MIB:.1f} MiB free, {kept / MIB:.1f}"
            f" reserved; sent there while it filled: {sorted({*sent})}; complete {went_on:.1f} s after that"
        )
        assert len(digests) + 1 == sent_right(fleet, mirror, [*digests, fresh])


def fill(disk: Disk) -> Path:
    """Somebody else takes all the room there is; on a disk of everybody's, nothing."""
    file = disk.folder / "rest"
    with file.open("wb", buffering=0) as opened, suppress(OSError):
        while disk.kind == "tmpfs":
            opened.write(bytes(64 * 1024))
    return file


def test_somebody_else_fills_the_disk(disk: Disk, tmp_path: Path) -> None:
    """
    Not a byte can be written, not even what the agent notes down: it reports on, and each request ends in the
    right bytes, of what is deleted meanwhile too. When there is room it goes on by itself.
    """
    with fleet_of(tmp_path, cdn__report_seconds=1) as fleet:
        core = fleet.core
        digests = [core.keep(os.urandom(size)) for size in (*[SMALL[1]] * 20, *[BLOBS[1]] * 10)]
        mirror = fleet.mirror(blobs=disk.folder / "blobs", bandwidth="4MiB")
        until(lambda: len(mirror.agent.files()) > 20, 30)
        rest = fill(disk)
        fresh = core.keep(os.urandom(SMALL[1]))
        core.client.delete(f"/api/blob/{digests[0]}", headers=core.admin)
        seen, sent, end = set[tuple[int, str]](), list[int](), time.monotonic() + 6
        while time.monotonic() < end:
            listed = mirror.listed()
            seen.add((listed["status"], listed["message"]))
            sent.append(sent_right(fleet, mirror, [*digests[1:], fresh]))
            assert listed["online"]
            assert 404 == core.client.get(f"/{digests[0]}").status_code
            time.sleep(0.2)
        pid = mirror.agent.process.pid
        rest.unlink()
        went_on = mirror.well(60)

        print(f"{disk.kind}: said {seen}, sent there {sorted({*sent})}; well {went_on:.1f} s after that")
        assert 0 not in sent
        assert pid == mirror.agent.process.pid
        assert mirror.agent.process.poll() is None
        assert {*digests[1:], fresh} == mirror.agent.files()
        assert disk.kind == "shared" or {status for status, _ in seen} & {2, 3}
