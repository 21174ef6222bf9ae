"""The systemd units of the core and of the agent, of which nothing is started."""

import subprocess
import sys
from pathlib import Path

import pytest

from soup.settings import Settings
from tests.conftest import program
from tests.mirror_servers import ROOT

UNIT = ROOT / "deploy" / "systemd" / "soup.service"
COMMANDS = {
    UNIT: "/opt/soup/bin/soup serve",
    ROOT / "cdn-agent" / "soup-cdn-agent.service": "/opt/soup-cdn-agent/bin/soup-cdn-agent run",
}


@pytest.fixture(params=COMMANDS, ids=lambda unit: unit.stem)
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A unit with a program that is here: systemd asks whether it is."""
    text, command = request.param.read_text(), COMMANDS[request.param]
    assert 1 == text.count(f"ExecStart={command}\n")
    unit = tmp_path / request.param.name
    unit.write_text(text.replace(command, sys.executable))
    return unit


def analyze(*words: object) -> subprocess.CompletedProcess[str]:
    command = [program("systemd-analyze"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def said(key: str) -> list[str]:
    """What the unit says under a key."""
    lines = [line.partition("=") for line in UNIT.read_text().splitlines()]
    return [value for name, _, value in lines if name == key]


def test_systemd_takes_the_units(unit: Path) -> None:
    """
    Every line of them is known and in its place.
    """
    answer = analyze("verify", "--man=no", "--recursive-errors=no", unit)

    assert (0, "") == (answer.returncode, answer.stderr)


def test_the_units_are_closed(unit: Path) -> None:
    """
    By systemd's own measure, where 10 is open to everything, each is at 2.0 or below.
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
