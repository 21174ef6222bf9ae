"""Mirrors that do as they are told."""

from collections.abc import AsyncIterator

import pytest

from tests.conftest import Cook
from tests.runner.auditing import Audited
from tests.runner.odd import Odd, odd


@pytest.fixture
async def web() -> AsyncIterator[Odd]:
    async with odd() as server:
        yield server


@pytest.fixture
async def audited(cook: Cook, web: Odd) -> Audited:
    """Jobs run by hand, and it is always a mirror's turn."""
    kitchen = await cook(
        cdn={"audit_seconds": 1e-9}, jobs={"mirrors_audit_seconds": 3600, "lease_seconds": 86_400}
    )
    return Audited(kitchen, web)
