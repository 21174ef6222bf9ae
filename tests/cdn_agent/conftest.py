"""What tests of an agent beside a recorder share."""

import signal
from collections.abc import Iterator

import pytest

from tests.agents import Agent
from tests.cdn_agent.recorder import Recorder, recording


@pytest.fixture
def core() -> Iterator[Recorder]:
    with recording(interval=1.0) as core:
        yield core


@pytest.fixture
def started() -> Iterator[list[Agent]]:
    """Agents that end with the test."""
    running: list[Agent] = []
    yield running
    for agent in running:
        agent.stop(signal.SIGKILL)
