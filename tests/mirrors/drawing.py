"""A table of mirrors in a test's hands, and the picture that is drawn from it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from soup.core.digest import Digest
from soup.core.errors import DatabaseDown
from soup.mirrors.model import Fqdn, Mirror, Report, Status, Terms
from soup.mirrors.picture import Live
from soup.mirrors.policy import pick
from tests.conftest import Time

LEEK = Digest.of(b"leek")


@dataclass
class Table:
    """Rows of mirrors as a database has them."""

    clocks: Time
    rows: dict[int, Mirror] = field(default_factory=dict)
    down: bool = False
    reads: int = 0
    looks: int = 0
    head: int = 9

    async def every(self, _: Mapping[int, Mirror]) -> tuple[Sequence[Mirror], datetime]:
        return await self.some(self.rows)

    async def some(self, ids: Collection[int]) -> tuple[Sequence[Mirror], datetime]:
        self.reads += 1
        if self.down:
            raise DatabaseDown("the disk is gone")
        return [one for id, one in self.rows.items() if id in ids], self.clocks.now

    async def seen(self, seconds: float) -> Mapping[int, datetime]:
        self.looks += 1
        if self.down:
            raise DatabaseDown("the disk is gone")
        since = self.clocks.now - timedelta(seconds=seconds)
        return {
            id: one.last_seen for id, one in self.rows.items() if one.last_seen and one.last_seen >= since
        }

    async def history(self) -> tuple[str, int]:
        return "history", self.head

    def report(self, id: int, status: int = 1, at: datetime | None = None) -> None:
        terms = Terms(Fqdn(f"m{id}.example"), "https", 443)
        row = self.rows.get(id, Mirror(id, terms, self.clocks.now))
        seen = at or self.clocks.now
        self.rows[id] = replace(row, said=Report(Status(status)), last_seen=seen)


def chosen(live: Live) -> int | None:
    member = pick(live.picture, LEEK.raw, 1, 4, live.now(), lambda: 0.0)
    return member.id if member else None
