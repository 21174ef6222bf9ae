"""A soup with one mirror, which is asked when a test says so."""

from typing import Any

from soup import metrics
from soup.db.lease import Held
from tests.conftest import Kitchen
from tests.runner.odd import Odd

LEEK = b"leek"
LARGE = bytes(range(256)) * 2000  # more than is read whole


def count(result: str) -> float:
    return float(metrics.AUDITS.labels(result)._value.get())


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
