"""The bell that is heard on every machine (`core.bell` is heard on one).

Who changes what all keep a picture of, which mirrors there are and which tokens, rings it in the same
transaction. Every worker looks twice a second, which costs one short query, and reads anew when it has rung.
It works through PgBouncer, where NOTIFY does not.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy import BigInteger, Column, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import Field, SQLModel

from soup.db.work import Work


class BellRow(SQLModel, table=True):
    """One row. `rung` is how often."""

    __tablename__ = "bell"

    id: int = Field(default=1, primary_key=True)
    rung: int = Field(sa_column=Column(BigInteger, nullable=False))


bell: Any = BellRow.__table__  # type: ignore[attr-defined]


async def ring(work: Work, near: Callable[[], Awaitable[None]]) -> None:
    """Tell everybody, once this is true: other machines, and this one by `near`.

    To be the last statement of a transaction: the row is everybody's.
    """
    await work.session.execute(update(bell).values(rung=bell.c.rung + 1))
    work.after(near)


async def rung(session: AsyncSession) -> int:
    """How often it has rung."""
    return int((await session.execute(select(bell.c.rung))).scalar_one())
