"""Many uploads of mixed sizes at once leave the memory of the workers as it was."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench import soak
from bench.soak import GIB, MIB, Memory, Outcome
from tests.conftest import Server

pytestmark = pytest.mark.sqlite  # rows have no part in it

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(300)
def test_a_quarter_of_a_gibibyte(tmp_path: Path) -> None:
    """
    Twenty clients send 256 MiB at once: every byte is right, memory does not grow with what is sent, and
    nothing is left behind. `make soak` does the same with 200 clients and 20 GiB.
    """
    command = [sys.executable, "-m", "bench.soak", "--gib", "0.25", "--clients", "20", "--largest", "64"]
    answer = subprocess.run(
        [*command, "--folder", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert 0 == answer.returncode, answer.stdout + answer.stderr
    assert "soak passed" in answer.stdout
    assert "0.25 GiB, by 20 clients" in answer.stdout
    assert [] == list(tmp_path.iterdir())


def test_sizes() -> None:
    """
    Sizes come to exactly what was asked for, are mixed up to the largest, and keep every client busy.
    """
    found = soak.sizes(20 * GIB, 200, GIB)

    assert 20 * GIB == sum(found)
    assert {0, 1, GIB} <= set(found)
    assert 200 <= len(found) <= 1000
    assert found == soak.sizes(20 * GIB, 200, GIB)


def test_memory_that_grew() -> None:
    """
    More memory than is stated is a fault, even when it was given back.
    """
    steady, grown = Memory(1, 60 * MIB, 70 * MIB, 65 * MIB), Memory(2, 60 * MIB, 600 * MIB, 65 * MIB)

    assert [] == soak.grown([steady, steady], 20)
    assert 1 == len(soak.grown([steady, grown], 20))


def test_a_byte_that_is_wrong(server: Server) -> None:
    """
    A blob that comes back with other bytes is found.
    """
    port, size = server.port, 300_000
    sent = soak.send(port, server.token, 7, size)
    assert "" == sent.fault == soak.check(port, sent).fault
    file = server.data / "blobs" / sent.digest[:3] / sent.digest

    with file.open("r+b") as altered:
        altered.seek(200_000)
        altered.write(b"x")

    assert "read back" in soak.check(port, sent).fault
    assert "404" in soak.check(port, Outcome(7, size, "0" * 64)).fault
    assert "401" in soak.send(port, "nobody", 7, size).fault
    assert "" == soak.send(port, server.token, 7, size).fault
