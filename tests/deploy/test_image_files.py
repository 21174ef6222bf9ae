"""What the files of the images agree about, without an engine: `make test-images` builds them."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
FILES = [ROOT / "deploy/core/Dockerfile", ROOT / "nginx/Dockerfile", ROOT / "apache/Dockerfile"]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())


def locked(name: str) -> dict[str, str]:
    """Names and versions of a lock file."""
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
def test_an_image_has_the_version_of_what_is_in_it(file: Path) -> None:
    """
    As pyproject.toml says.
    """
    part = ROOT if file.parent.name == "core" else ROOT / "cdn-agent"
    version = tomllib.loads((part / "pyproject.toml").read_text())["project"]["version"]

    assert f"\nARG VERSION={version}\n" in file.read_text()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
def test_every_builder_can_build_it(file: Path) -> None:
    """
    Nothing that only BuildKit knows, and nothing that would be fetched to read the file itself.
    """
    text = file.read_text()

    assert not re.search(r"^# *syntax|--mount|--chmod|--link|<<|TARGETARCH", text, re.MULTILINE)


def test_images_share_their_first_layers() -> None:
    """
    The mirrors differ only from where their web servers are installed on, and all three begin alike.
    """
    core, nginx, apache = (file.read_text() for file in FILES)

    begin = [
        text[text.index("ARG BASE") : text.index("FROM python AS build")] for text in (core, nginx, apache)
    ]
    build = [text[text.index("ARG BASE") : text.rindex("RUN apt-get")] for text in (nginx, apache)]
    assert 1 == len(set(begin))
    assert 1 == len(set(build))


def test_the_agents_lock_agrees_with_the_others() -> None:
    """
    It has what the agent asks for, in the versions the tests have run with.
    """
    asked = tomllib.loads((ROOT / "cdn-agent/pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split(r"[^a-z0-9-]", one)[0] for one in asked}
    agent, tested = locked("cdn-agent/requirements.lock"), locked("requirements-dev.lock")

    assert names <= agent.keys()
    assert agent.items() <= tested.items()


def test_compose_says_nothing_that_a_version_refuses() -> None:
    """
    Compose 1.29 has no name, and a version is warned of by 2.
    """
    assert {"x-closed", "services", "networks", "volumes"} == COMPOSE.keys()


def test_compose_has_no_secret() -> None:
    """
    Variables name files, and ports are of this machine alone.
    """
    for service in COMPOSE["services"].values():
        for name, value in service.get("environment", {}).items():
            assert not re.search("PASSWORD|TOKEN|SECRET", name) or name.endswith("_FILE")
            assert not re.search("//[^/]*:[^/]*@", value)
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
