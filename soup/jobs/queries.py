"""Session in, values out."""

from typing import Any

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from soup.jobs.model import Run
from soup.jobs.tables import JobRunRow

run: Any = JobRunRow.__table__  # type: ignore[attr-defined]


async def add(session: AsyncSession, done: Run, keep: int) -> None:
    """Write a run down, and forget those of its job before the last `keep`."""
    await session.execute(
        insert(run).values(
            name=done.name,
            started_at=done.started_at,
            seconds=done.seconds,
            holder=done.holder,
            result=done.result,
        )
    )
    kept = select(run.c.id).where(run.c.name == done.name).order_by(run.c.id.desc()).limit(keep)
    await session.execute(delete(run).where(run.c.name == done.name, run.c.id.not_in(kept)))


async def last(session: AsyncSession) -> list[Run]:
    """The last run of each job, by name."""
    newest = select(func.max(run.c.id)).group_by(run.c.name)
    rows = await session.execute(select(run).where(run.c.id.in_(newest)).order_by(run.c.name))
    return [Run(row.name, row.started_at, row.seconds, row.holder, row.result) for row in rows]
