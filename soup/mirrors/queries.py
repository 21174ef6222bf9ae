"""Session in, values out."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import and_, case, delete, func, insert, literal_column, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from soup.core.digest import Digest
from soup.core.errors import MirrorExists, MirrorUnknown
from soup.db.upsert import upsert
from soup.mirrors.model import (
    HEARTBEAT,
    UNCOUNTED,
    Bar,
    Counted,
    Delivered,
    Delivery,
    Fqdn,
    Mirror,
    Report,
    Status,
    Terms,
)
from soup.mirrors.tables import BarRow, DeliveryRow, MirrorRow, ReportRow

mirror: Any = MirrorRow.__table__  # type: ignore[attr-defined]
report: Any = ReportRow.__table__  # type: ignore[attr-defined]
bar: Any = BarRow.__table__  # type: ignore[attr-defined]
delivery: Any = DeliveryRow.__table__  # type: ignore[attr-defined]
_said = (column for column in report.c if not column.name.startswith("counted_"))
_both = select(mirror, *(column.label(f"said_{column.name}") for column in _said)).outerjoin(
    report, report.c.mirror_id == mirror.c.id
)
FULL = 1 << 62  # a day that holds so much takes no more
_standing = (
    select(mirror, report.c.last_seen.label("said_last_seen"), report.c.status.label("said_status"))
    .outerjoin(report, report.c.mirror_id == mirror.c.id)
    .order_by(mirror.c.id)
)
SOME = 500  # ids in one question
_TERMS = ("scheme", "port", "mode", "weight", "trusted", "drained")


@dataclass(frozen=True, slots=True)
class Before:
    """What is written of a mirror when its report comes."""

    status: Status = Status.OFFLINE
    counted: Counted = UNCOUNTED


@dataclass(frozen=True, slots=True)
class Heard:
    """What a mirror says, the status and the count that follow from it, and when it was said."""

    id: int
    said: Report
    status: Status
    counted: Counted
    at: datetime


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
        row.joined,
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
    if locked:
        wanted = wanted.with_for_update(of=mirror)
    if only is None:
        return [_value(row) for row in await session.execute(wanted)]
    found = list[Mirror]()
    for some in _pieces(sorted(only)):
        found += [_value(row) for row in await session.execute(wanted.where(mirror.c.id.in_(some)))]
    return found


def _pieces(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    """So many at once as one question may name."""
    for start in range(0, len(ids), SOME):
        yield ids[start : start + SOME]


async def anew(session: AsyncSession, known: Mapping[int, Mirror]) -> list[Mirror]:
    """All mirrors, in order of id; one that is as it is known to be is that very value.

    To read what a mirror has said, and to make a value of it, costs ten times what it costs to see that it
    has said nothing since.
    """
    rows = (await session.execute(_standing)).all()
    same = {row.id: known[row.id] for row in rows if row.id in known and _same(known[row.id], row)}
    changed = [row.id for row in rows if row.id not in same]
    same |= {one.id: one for one in await every(session, changed)}
    return [same[row.id] for row in rows if row.id in same]


def _same(known: Mirror, row: Any) -> bool:
    terms, said = known.terms, known.said
    return (
        known.last_seen == row.said_last_seen
        and (None if said is None else said.status) == row.said_status
        and (terms.fqdn, terms.scheme, terms.port, terms.mode, terms.weight, terms.trusted, terms.drained)
        == (row.fqdn, row.scheme, row.port, row.mode, row.weight, row.trusted, row.drained)
        and (known.doubt_reason, known.doubt_since, known.audited_at)
        == (row.doubt_reason, row.doubt_since, row.audited_at)
    )


async def seen(session: AsyncSession, since: datetime) -> dict[int, datetime]:
    """Who has reported since a moment, and when last."""
    wanted = select(report.c.mirror_id, report.c.last_seen).where(report.c.last_seen >= since)
    return dict((await session.execute(wanted)).tuples().all())


async def one(session: AsyncSession, id: int) -> Mirror:
    """Raises MirrorUnknown."""
    found = await every(session, [id])
    if not found:
        raise MirrorUnknown(f"no mirror {id}")
    return found[0]


async def at(session: AsyncSession, fqdn: Fqdn, port: int) -> Mirror | None:
    """The mirror at an address, if there is one. It stays as it is until the transaction ends."""
    there = select(mirror.c.id).where(mirror.c.fqdn == str(fqdn), mirror.c.port == port).with_for_update()
    found = (await session.execute(there)).scalar()
    return None if found is None else await one(session, found)


async def joined(session: AsyncSession) -> int:
    """How many mirrors have joined."""
    return int((await session.execute(select(func.count()).where(mirror.c.joined))).scalar_one())


async def longest_silent(session: AsyncSession, since: datetime) -> Mirror | None:
    """Of those that have joined, and of which nobody has decided anything, the one silent for longest."""
    heard = func.coalesce(report.c.last_seen, mirror.c.created_at)
    wanted = (
        select(mirror.c.id)
        .outerjoin(report, report.c.mirror_id == mirror.c.id)
        .where(mirror.c.joined, ~mirror.c.trusted, ~mirror.c.drained, heard < since)
        .order_by(heard)
        .limit(1)
    )
    found = (await session.execute(wanted)).scalar()
    return None if found is None else await one(session, found)


async def barred(session: AsyncSession) -> list[Bar]:
    """Where no mirror may join, in order."""
    rows = await session.execute(select(bar).order_by(bar.c.fqdn, bar.c.port))
    return [Bar(Fqdn(row.fqdn), row.port, row.since) for row in rows]


async def is_barred(session: AsyncSession, fqdn: Fqdn, port: int) -> bool:
    """Whether no mirror may join there."""
    return (await session.execute(select(bar.c.port).where(_there(fqdn, port)))).scalar() is not None


async def set_bar(session: AsyncSession, terms: Terms, now: datetime) -> None:
    """No mirror may join at the address of these terms."""
    row = {"fqdn": str(terms.fqdn), "port": terms.port, "since": now}
    await session.execute(upsert(session, bar).values(row).on_conflict_do_nothing())


async def lift_bar(session: AsyncSession, terms: Terms) -> None:
    """Mirrors may join there again."""
    await session.execute(delete(bar).where(_there(terms.fqdn, terms.port)))


def _there(fqdn: Fqdn, port: int) -> Any:
    return and_(bar.c.fqdn == str(fqdn), bar.c.port == port)


async def add(session: AsyncSession, terms: Terms, now: datetime, *, joined: bool = False) -> int:
    """The id of a new mirror. Raises MirrorExists for an address that is taken."""
    statement = insert(mirror).returning(mirror.c.id)
    return int((await _written(session, statement, terms, created_at=now, joined=joined)).scalar_one())


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


async def unaudit(session: AsyncSession, id: int, *, doubted: bool = False) -> None:
    """Nothing that was found out about a mirror holds any more, unless it may be `doubted` still."""
    values = {"audited_at": None} | ({} if doubted else {"doubt_since": None, "doubt_reason": None})
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


async def before(session: AsyncSession, ids: Iterable[int]) -> dict[int, Before]:
    """Those of these ids that are mirrors, with what is written of each.

    The rows stay locked until the transaction ends.
    """
    known = select(mirror.c.id).where(mirror.c.id.in_(list(ids))).order_by(mirror.c.id).with_for_update()
    found = {id: Before() for id in (await session.execute(known)).scalars()}
    # On its own: joined to the first it might be as it was before the lock was free.
    written = select(report.c["mirror_id", "status", "counted_boot", "counted_bytes", "counted_requests"])
    for id, status, *counted in await session.execute(written.where(report.c.mirror_id.in_(found))):
        found[id] = Before(Status(status), Counted(*counted))
    return found


async def write(session: AsyncSession, heard: Iterable[Heard]) -> None:
    """What these mirrors say.

    A heartbeat leaves the rest as it was.
    """
    spoken, beats = list[dict[str, Any]](), list[dict[str, Any]]()
    for one in heard:
        row = {"mirror_id": one.id, "status": one.status, "last_seen": one.at}
        if one.said == HEARTBEAT:
            beats.append({**row, "leaving": False})
        else:
            spoken.append(row | _columns(one.said, one.counted))
    for rows, changed in ((spoken, list(spoken[0]) if spoken else []), (beats, ["status", "last_seen"])):
        if rows:
            insertion = upsert(session, report)
            values = {name: insertion.excluded[name] for name in changed}
            await session.execute(
                insertion.on_conflict_do_update(index_elements=["mirror_id"], set_=values), rows
            )


def _columns(said: Report, counted: Counted) -> dict[str, Any]:
    holds = {"smallest": said.smallest, "largest": said.largest}
    return {
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
        "counted_boot": counted.boot,
        "counted_bytes": counted.bytes,
        "counted_requests": counted.requests,
    }


async def deliver(session: AsyncSession, delivered: Mapping[int, Delivery], day: date) -> None:
    """Add what mirrors have delivered to their day. One that would be more than any number holds is full."""
    if not delivered:
        return
    insertion = upsert(session, delivery)
    added = {
        name: case(
            (delivery.c[name] < FULL, delivery.c[name] + insertion.excluded[name]), else_=delivery.c[name]
        )
        for name in ("bytes", "requests")
    }
    rows = [
        {"mirror_id": id, "day": day, "bytes": min(more.bytes, FULL), "requests": min(more.requests, FULL)}
        for id, more in delivered.items()
    ]
    await session.execute(
        insertion.on_conflict_do_update(index_elements=["mirror_id", "day"], set_=added), rows
    )


async def delivered(session: AsyncSession, day: date, id: int | None = None) -> dict[int, Delivered]:
    """What mirrors, or one of them, have delivered in all, and on a day; those with nothing are left out."""
    wanted = select(delivery.c.mirror_id).group_by(delivery.c.mirror_id)
    for name in ("bytes", "requests"):
        # As a number that no sum of days is too great for; exact up to 2^53 at least.
        number = delivery.c[name] * literal_column("1.0")
        today = case((delivery.c.day == day, number), else_=literal_column("0.0"))
        wanted = wanted.add_columns(func.sum(number), func.sum(today))
    if id is not None:
        wanted = wanted.where(delivery.c.mirror_id == id)
    return {
        row[0]: Delivered(Delivery(int(row[1]), int(row[3])), Delivery(int(row[2]), int(row[4])))
        for row in await session.execute(wanted)
    }


async def days(session: AsyncSession, id: int, since: date) -> list[tuple[date, Delivery]]:
    """What a mirror has delivered on each day since one, in order; days with nothing are left out."""
    wanted = select(delivery.c["day", "bytes", "requests"]).where(delivery.c.mirror_id == id)
    rows = await session.execute(wanted.where(delivery.c.day >= since).order_by(delivery.c.day))
    return [(row.day, Delivery(row.bytes, row.requests)) for row in rows]


async def silence(session: AsyncSession, ids: Iterable[int], now: datetime, seconds: float) -> Sequence[int]:
    """Status 0 for those of these ids not heard of for so many seconds; their ids.

    A report that comes between wins (C45); one dated as far ahead was dated by a clock that ran ahead (D18).
    """
    length = timedelta(seconds=seconds)
    silenced = (
        update(report)
        .where(
            ~report.c.last_seen.between(now - length, now + length),
            report.c.status != Status.OFFLINE,
        )
        .values(status=Status.OFFLINE)
        .returning(report.c.mirror_id)
    )
    found = list[int]()
    for some in _pieces(list(ids)):
        found += (await session.execute(silenced.where(report.c.mirror_id.in_(some)))).scalars()
    return found
