"""The core's systemd unit, of which nothing is started."""

import subprocess
import sys
from pathlib import Path

import pytest

from soup.settings import Settings
from tests.conftest import program

UNIT = Path(__file__).parent.parent.parent / "deploy" / "systemd" / "soup.service"
COMMAND = "/opt/soup/bin/soup serve"


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that is here: systemd asks whether it is."""
    text = UNIT.read_text()
    assert 1 == text.count(f"ExecStart={COMMAND}\n")
    unit = tmp_path / UNIT.name
    unit.write_text(text.replace(COMMAND, sys.executable))
    return unit


def analyze(*words: object) -> subprocess.CompletedProcess[str]:
    command = [program("systemd-analyze"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def said(key: str) -> list[str]:
    """What the unit says under a key."""
    lines = [line.partition("=") for line in UNIT.read_text().splitlines()]
    return [value for name, _, value in lines if name == key]


def test_systemd_takes_the_unit(unit: Path) -> None:
    """
    Every line of it is known and in its place.
    """
    answer = analyze("verify", "--man=no", "--recursive-errors=no", unit)

    assert (0, "") == (answer.returncode, answer.stderr)


def test_the_unit_is_closed(unit: Path) -> None:
    """
    By systemd's own measure, where 10 is open to everything, it is at 2.0 or below.
    """
    answer = analyze("security", "--offline=true", "--no-pager", "--threshold=20", unit)

    assert 0 == answer.returncode, answer.stdout


def test_it_is_given_time_to_stop() -> None:
    """
    More than soup takes for itself, and workers are told by their parent alone.
    """
    assert int(said("TimeoutStopSec")[0]) > Settings().server.stop_seconds
    assert ["mixed"] == said("KillMode")


@pytest.mark.parametrize(
    "line",
    [
        "User=soup",
        "Group=soup",
        "StateDirectory=soup",
        "Environment=SOUP_CONFIG=/etc/soup.yaml SOUP_DATA=/var/lib/soup",
        "ExecReload=kill -HUP $MAINPID",
        "Restart=always",
        "ProtectSystem=strict",
        "NoNewPrivileges=true",
        "CapabilityBoundingSet=",
        "SystemCallFilter=@system-service",
        "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
    ],
)
def test_what_the_unit_gives_soup(line: str) -> None:
    """
    A user and a folder of its own, the network, and a way to say that settings have changed.
    """
    assert 1 == UNIT.read_text().splitlines().count(line)
