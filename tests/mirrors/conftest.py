"""What tests of the picture share."""

import pytest

from soup.core.bell import Bell
from soup.mirrors.picture import Live
from soup.mirrors.policy import Rules
from tests.conftest import Time
from tests.mirrors.drawing import Table


@pytest.fixture
def table(clocks: Time) -> Table:
    return Table(clocks)


@pytest.fixture
def bell() -> Bell:
    return Bell()


@pytest.fixture
def live(table: Table, bell: Bell, clocks: Time) -> Live:
    return Live(table, bell, Rules(), table.history, monotonic=clocks.steady)
