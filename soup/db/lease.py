"""A lease: one process at a time, and never two that both believe it."""

import asyncio
import os
import secrets
import socket
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import Field, SQLModel

from soup.core.clock import Steady, steady
from soup.core.errors import Unavailable
from soup.db.upsert import upsert
from soup.db.work import Database


class LeaseRow(SQLModel, table=True):
    """Who holds what, until when. `epoch` grows with each new holder."""

    __tablename__ = "lease"

    name: str = Field(primary_key=True)
    holder: str
    until: datetime
    epoch: int = 0


lease: Any = LeaseRow.__table__  # type: ignore[attr-defined]


class LeaseLost(Unavailable):
    """Another process holds the lease by now."""


@dataclass(frozen=True, slots=True)
class Held:
    """A lease this process holds, as far as it knows.

    `over` is set when what is done under it is to come to its end: the lease is lost, or the process stops.
    """

    name: str
    epoch: int
    over: asyncio.Event = field(default_factory=asyncio.Event, compare=False, repr=False)

    async def check(self, session: AsyncSession) -> None:
        """Raise LeaseLost in a transaction that writes what only the holder may write.

        A process that was stopped for longer than its lease wakes up believing it; the database knows better.
        """
        epoch = (await session.execute(select(lease.c.epoch).where(lease.c.name == self.name))).scalar()
        if epoch != self.epoch:
            raise LeaseLost(f"lease {self.name!r} has passed on")


class Lease:
    """Tries to hold one name. `seconds` is how long it lasts without being renewed.

    `me` says where it is held: `<host>:<process id>:<random>`.
    """

    def __init__(self, database: Database, name: str, *, seconds: float, monotonic: Steady = steady) -> None:
        self._database, self._name, self._length = database, name, timedelta(seconds=seconds)
        self._steady = monotonic
        self.me = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._held: Held | None = None
        self._ends = 0.0

    @property
    def held(self) -> Held | None:
        """What this process holds now, by its own steady clock."""
        return self._held if self._steady() < self._ends else None

    async def borrowed(self) -> Held:
        """The lease of whoever has it: for one run at the command line. Raises LeaseLost where nobody has."""
        async with self._database.reading() as session:
            epoch = (await session.execute(select(lease.c.epoch).where(lease.c.name == self._name))).scalar()
        if epoch is None:
            raise LeaseLost("no soup has run on this database yet")
        return Held(self._name, epoch)

    async def renew(self) -> Held | None:
        """Take the lease if it is free, keep it if it is ours. None when another process has it."""
        began = self._steady()
        async with self._database.begin() as work:
            held = await self._take(work.session)
        self._held = held
        self._ends = began + self._length.total_seconds() if held else 0.0
        return held

    async def _take(self, session: AsyncSession) -> Held | None:
        row = await session.get(LeaseRow, self._name, with_for_update=True)
        if row is None:
            # Two that find no row both insert it, and one of them has it: ask again under the row's lock.
            until = await self._database.now(session)
            first = upsert(session, lease).values(name=self._name, holder="", until=until, epoch=0)
            await session.execute(first.on_conflict_do_nothing())
            row = await session.get_one(LeaseRow, self._name, with_for_update=True)
        # Under the lock: next to a moment before it, what was written meanwhile is too far ahead.
        now = await self._database.now(session)
        # An end far ahead was written by a clock that ran ahead, and binds nobody (D18). One up to twice as
        # far as a lease is long may be due to a clock that was put back a little, and binds.
        free = row.until <= now or row.until > now + 2 * self._length
        if row.holder != self.me and not free:
            return None
        if row.holder != self.me:
            row.epoch += 1
        row.holder, row.until = self.me, now + self._length
        return Held(self._name, row.epoch)

    async def release(self) -> None:
        """Let the next one have it at once."""
        if self._held is None:
            return
        async with self._database.begin() as work:
            await work.session.execute(
                update(lease)
                .where(lease.c.name == self._name, lease.c.holder == self.me)
                .values(until=await self._database.now(work.session))
            )
        self._held, self._ends = None, 0.0
