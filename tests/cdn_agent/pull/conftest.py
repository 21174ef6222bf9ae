"""A core whose bytes come as a test wants, and empty mirrors of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cdn_agent.spigot import PullMirror, Spigot, pull_mirror, spigot


@pytest.fixture
def core() -> Iterator[Spigot]:
    with spigot() as core:
        yield core


@pytest.fixture(params=["nginx", "apache"])
def mirror(request: pytest.FixtureRequest, core: Spigot, tmp_path: Path) -> Iterator[PullMirror]:
    with pull_mirror(tmp_path, core.url, request.param) as mirror:
        yield mirror


@pytest.fixture
def one(core: Spigot, tmp_path: Path) -> Iterator[PullMirror]:
    """Where it is the agent's work alone, one web server is enough."""
    with pull_mirror(tmp_path, core.url) as mirror:
        yield mirror
