"""Session in, values out."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from soup.core.digest import Digest
from soup.core.errors import MirrorExists, MirrorUnknown
from soup.db.upsert import upsert
from soup.mirrors.model import HEARTBEAT, Fqdn, Mirror, Report, Status, Terms
from soup.mirrors.tables import MirrorRow, ReportRow

mirror: Any = MirrorRow.__table__  # type: ignore[attr-defined]
report: Any = ReportRow.__table__  # type: ignore[attr-defined]
_said = (column for column in report.c if not column.name.startswith("counted_"))
_both = select(mirror, *(column.label(f"said_{column.name}") for column in _said)).outerjoin(
    report, report.c.mirror_id == mirror.c.id
)
_TERMS = ("scheme", "port", "mode", "weight", "trusted", "drained")


def _value(row: Any) -> Mirror:
    return Mirror(
        row.id,
        Terms(Fqdn(row.fqdn), *(getattr(row, name) for name in _TERMS)),
        row.created_at,
        row.doubt_reason,
        row.doubt_since,
        row.audited_at,
        None if row.said_mirror_id is None else _report(row),
        row.said_last_seen,
    )


def _report(row: Any) -> Report:
    holds = row.said_holds or {}
    return Report(
        Status(row.said_status),
        row.said_message,
        row.said_leaving,
        row.said_epoch,
        row.said_synced_to,
        holds.get("smallest"),
        holds.get("largest"),
        frozenset(map(Digest, row.said_lacking or ())),
        row.said_agent,
        row.said_disk_free,
        row.said_disk_total,
        row.said_boot_id,
        row.said_totals or {},
    )


async def every(
    session: AsyncSession, only: Iterable[int] | None = None, *, locked: bool = False
) -> list[Mirror]:
    """All mirrors, or those of some ids, in order of id. `locked`: until the transaction ends."""
    wanted = _both.order_by(mirror.c.id)
    if only is not None:
        wanted = wanted.where(mirror.c.id.in_(list(only)))
    if locked:
        wanted = wanted.with_for_update(of=mirror)
    return [_value(row) for row in await session.execute(wanted)]


async def one(session: AsyncSession, id: int) -> Mirror:
    """Raises MirrorUnknown."""
    found = await every(session, [id])
    if not found:
        raise MirrorUnknown(f"no mirror {id}")
    return found[0]


async def add(session: AsyncSession, terms: Terms, now: datetime) -> int:
    """The id of a new mirror. Raises MirrorExists for an address that is taken."""
    return int(
        (await _written(session, insert(mirror).returning(mirror.c.id), terms, created_at=now)).scalar_one()
    )


async def change(session: AsyncSession, id: int, terms: Terms) -> None:
    """Other terms for a mirror. Raises MirrorExists for an address that is another's."""
    await _written(session, update(mirror).where(mirror.c.id == id), terms)


async def passed(session: AsyncSession, ids: Iterable[int], now: datetime) -> None:
    """These have passed an audit: nothing is held against them any more."""
    values = {"audited_at": now, "doubt_since": None, "doubt_reason": None}
    if found := list(ids):
        await session.execute(update(mirror).where(mirror.c.id.in_(found)).values(values))


async def doubt(session: AsyncSession, id: int, reason: str, since: datetime) -> None:
    """What the core holds against a mirror, and since when."""
    values = {"doubt_since": since, "doubt_reason": reason}
    await session.execute(update(mirror).where(mirror.c.id == id).values(values))


async def unaudit(session: AsyncSession, id: int) -> None:
    """Nothing that was found out about a mirror holds any more."""
    values = {"audited_at": None, "doubt_since": None, "doubt_reason": None}
    await session.execute(update(mirror).where(mirror.c.id == id).values(values))


async def _written(session: AsyncSession, statement: Any, terms: Terms, **more: Any) -> Any:
    values = {"fqdn": str(terms.fqdn), **{name: getattr(terms, name) for name in _TERMS}, **more}
    try:
        return await session.execute(statement.values(values))
    except IntegrityError as error:
        raise MirrorExists(f"there is a mirror at {terms.fqdn} port {terms.port} already") from error


async def remove(session: AsyncSession, id: int) -> None:
    """Forget a mirror, what it said and its tokens. Raises MirrorUnknown."""
    if not (await session.execute(delete(mirror).where(mirror.c.id == id).returning(mirror.c.id))).all():
        raise MirrorUnknown(f"no mirror {id}")


async def statuses(session: AsyncSession, ids: Iterable[int]) -> dict[int, Status]:
    """Those of these ids that are mirrors, with the status each has now.

    The rows stay locked until the transaction ends.
    """
    wanted = (
        select(mirror.c.id, report.c.status)
        .outerjoin(report, report.c.mirror_id == mirror.c.id)
        .where(mirror.c.id.in_(list(ids)))
        .with_for_update(of=mirror)
    )
    return {row.id: Status(row.status or 0) for row in await session.execute(wanted)}


async def write(session: AsyncSession, reports: Sequence[tuple[int, Report, Status, datetime]]) -> None:
    """What these mirrors say, the status each has then, and when it arrived.

    A heartbeat leaves the rest as it was.
    """
    spoken = [_columns(id, said, status, at) for id, said, status, at in reports if said != HEARTBEAT]
    beats = [
        {"mirror_id": id, "status": status, "last_seen": at, "leaving": False}
        for id, said, status, at in reports
        if said == HEARTBEAT
    ]
    for rows, changed in ((spoken, list(spoken[0]) if spoken else []), (beats, ["status", "last_seen"])):
        if rows:
            insertion = upsert(session, report)
            values = {name: insertion.excluded[name] for name in changed}
            await session.execute(
                insertion.on_conflict_do_update(index_elements=["mirror_id"], set_=values), rows
            )


def _columns(id: int, said: Report, status: Status, at: datetime) -> dict[str, Any]:
    holds = {"smallest": said.smallest, "largest": said.largest}
    return {
        "mirror_id": id,
        "status": status,
        "last_seen": at,
        "message": said.message,
        "leaving": said.leaving,
        "epoch": said.epoch,
        "synced_to": said.synced_to,
        "holds": holds if any(value is not None for value in holds.values()) else None,
        "lacking": sorted(said.lacking) or None,
        "agent": said.agent,
        "disk_free": said.disk_free,
        "disk_total": said.disk_total,
        "boot_id": said.boot_id,
        "totals": said.totals or None,
    }


async def silence(session: AsyncSession, ids: Iterable[int], now: datetime, seconds: float) -> Sequence[int]:
    """Status 0 for those of these ids not heard of for so many seconds; their ids.

    A report that comes between wins (C45); one dated as far ahead was dated by a clock that ran ahead (D18).
    """
    length = timedelta(seconds=seconds)
    silenced = (
        update(report)
        .where(
            report.c.mirror_id.in_(list(ids)),
            ~report.c.last_seen.between(now - length, now + length),
            report.c.status != Status.OFFLINE,
        )
        .values(status=Status.OFFLINE)
        .returning(report.c.mirror_id)
    )
    return list((await session.execute(silenced)).scalars())
