"""The quick bench, for real."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.sqlite  # PostgreSQL has rows of its own, which take longer

ROOT = Path(__file__).parents[2]


def quick(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench.quick", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)


def test_one_row() -> None:
    """
    A line a row, for machines, and nothing left running.
    """
    answer = quick("--blobs", "2000", "--pairs", "1", "--seconds", "1", "redirect.sqlite")

    assert 0 == answer.returncode, answer.stdout + answer.stderr
    # Which ratio says nothing here: tests run beside each other.
    assert re.fullmatch(r"ratio redirect\.sqlite \d+\.\d\d", answer.stdout.splitlines()[-1]), answer.stdout


def test_no_such_row() -> None:
    """
    A name that is no row is said, with those that there are.
    """
    answer = quick("turnip")

    assert 2 == answer.returncode
    assert "no row is called turnip; there are redirect.sqlite," in answer.stderr
