"""What soup ships for machines that cannot be had in a test: the systemd unit, the file for IIS."""

from xml.etree import ElementTree as ET

import pytest

from tests.mirror_servers import ROOT

UNIT = ROOT / "cdn-agent" / "soup-cdn-agent.service"


@pytest.mark.parametrize(
    "line",
    [
        "User=soup-cdn",
        "Group=soup-cdn",
        "SupplementaryGroups=adm",
        "UMask=0022",
        "Restart=always",
        "ReadWritePaths=/data/blobs",
        "ProtectSystem=strict",
        "NoNewPrivileges=true",
        "PrivateTmp=true",
        "CapabilityBoundingSet=",
        "SystemCallFilter=@system-service",
        "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
    ],
)
def test_what_the_unit_gives_the_agent(line: str) -> None:
    """
    A user of its own, the folder of blobs, the web server's log, the network; files that others may read.
    """
    assert 1 == UNIT.read_text().splitlines().count(line)


@pytest.mark.row("S34")
def test_iis_is_said_to_be_untested() -> None:
    """
    The file for IIS says first that nobody has tried it; it is XML, and has the rule for the path of a blob.
    """
    file = ROOT / "deploy" / "iis" / "web.config"
    root = ET.fromstring(file.read_text())  # noqa: S314 - our own

    assert "UNTESTED" in "".join(file.read_text().splitlines()[:3])
    matches = [rule.get("url") for rule in root.iter("match")]
    assert "^([0-9a-f]{3})([0-9a-f]{61})$" in matches
    assert "blobs/{R:1}/{R:1}{R:2}" in [action.get("url") for action in root.iter("action")]
