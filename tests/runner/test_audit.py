"""Mirrors asked from outside: who is doubted, for what, and who is not."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from soup import metrics
from soup.db.lease import Held
from tests.conftest import Cook, Kitchen, Time
from tests.runner.odd import Odd, odd

LEEK = b"leek"
LARGE = bytes(range(256)) * 2000  # more than is read whole
WRONG = ("404", "500", "page", "short", "wrong", "another", "elsewhere")


@pytest.fixture
async def web() -> AsyncIterator[Odd]:
    async with odd() as server:
        yield server


class Audited:
    """A soup with one mirror, which is asked when a test says so."""

    def __init__(self, kitchen: Kitchen, web: Odd) -> None:
        self.kitchen, self.web = kitchen, web
        self.mirror: dict[str, Any] = {}

    async def add(self, *blobs: bytes, **terms: Any) -> None:
        """The mirror, and blobs that it has."""
        for data in blobs:
            await self.kitchen.keep(data)
            self.web.add(data)
        self.mirror = await self.kitchen.mirror(**({**self.web.terms, **terms}))

    async def held(self) -> Held:
        held = await self.kitchen.soup.runner._lease.renew()
        assert held
        return held

    async def run(self) -> int:
        """The job, to its end."""
        return await self.kitchen.soup.audit.run(await self.held())

    async def seen(self) -> dict[str, Any]:
        """The mirror as the list has it."""
        return (await self.kitchen.listed())[self.mirror["fqdn"]]

    async def reason(self) -> str | None:
        doubt = (await self.seen())["doubt"]
        return None if doubt is None else str(doubt["reason"])


@pytest.fixture
async def audited(cook: Cook, web: Odd) -> Audited:
    """Jobs run by hand, and it is always a mirror's turn."""
    kitchen = await cook(
        cdn={"audit_seconds": 1e-9}, jobs={"mirrors_audit_seconds": 3600, "lease_seconds": 86_400}
    )
    return Audited(kitchen, web)


def count(result: str) -> float:
    return float(metrics.AUDITS.labels(result)._value.get())


@pytest.mark.row("C31")
@pytest.mark.parametrize("blob", [LEEK, LARGE, b""], ids=["small", "large", "empty"])
async def test_a_mirror_that_is_well(audited: Audited, clocks: Time, blob: bytes) -> None:
    """
    It is asked for a blob, answers rightly, and the list says when.
    """
    await audited.add(blob)
    before = count("passed")

    assert None is (await audited.seen())["audited_at"]
    assert 1 == await audited.run()

    assert clocks.now.isoformat() == (await audited.seen())["audited_at"].replace(".000Z", "+00:00")
    assert None is await audited.reason()
    assert before + 1 == count("passed")


@pytest.mark.row("C31")
@pytest.mark.parametrize("blob", [LEEK, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("way", WRONG)
async def test_a_wrong_answer(audited: Audited, way: str, blob: bytes) -> None:
    """
    It is doubted at once, whatever it says of itself, and chosen again when it has passed.
    """
    await audited.add(blob)
    digest, before = audited.web.add(blob), count("wrong")
    audited.web.way = way

    with capture_logs() as logs:
        await audited.run()

    seen = await audited.seen()
    assert digest[:8] in seen["doubt"]["reason"]
    assert (1, True, f"it is doubted: {seen['doubt']['reason']}") == (
        seen["status"],
        seen["online"],
        seen["why"],
    )
    assert 200 == (await audited.kitchen.anyone.get(f"/{digest}")).status_code
    assert [("mirror.doubted", seen["doubt"]["reason"])] == [(log["event"], log["reason"]) for log in logs]
    assert before + 1 == count("wrong")
    assert 1 == metrics.MIRRORS.labels("doubted")._value.get()

    audited.web.way = "well"
    with capture_logs() as logs:
        await audited.run()

    assert None is await audited.reason()
    assert 307 == (await audited.kitchen.anyone.get(f"/{digest}")).status_code
    assert ["mirror.cleared"] == [log["event"] for log in logs]
    assert 0 == metrics.MIRRORS.labels("doubted")._value.get()
