"""Session in, values out."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import bindparam, case, delete, func, insert, literal_column, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from soup.blobs.model import Copy, Facts, Feed, Placement, Round
from soup.blobs.tables import BlobRow, FeedRow, PlacementRow, ScrubRow, StoreRow
from soup.core.blob import Blob, State
from soup.core.digest import Digest
from soup.db.upsert import dialect, insert_in, upsert

KEPT, DAMAGED = 1, 2  # what is known of a placement; DAMAGED: its bytes are wrong, or not there
PLACEMENT = {KEPT: "kept", DAMAGED: "damaged"}

blob: Any = BlobRow.__table__  # type: ignore[attr-defined]
feed: Any = FeedRow.__table__  # type: ignore[attr-defined]
store: Any = StoreRow.__table__  # type: ignore[attr-defined]
placement: Any = PlacementRow.__table__  # type: ignore[attr-defined]
scrub: Any = ScrubRow.__table__  # type: ignore[attr-defined]


# Statements of an upload are built once: to build one takes longer than to run it.
_STATES = (
    select(blob.c.digest, blob.c.id, blob.c.state)
    .where(blob.c.digest.in_(bindparam("digests", expanding=True)))
    .order_by(blob.c.id)  # two that lock the same rows in different orders wait for each other
    .with_for_update()
)
_NUMBERS = update(feed).values(head=feed.c.head + bindparam("count")).returning(feed.c.head)
_ADD = insert(blob)
_NUMBERED = select(blob.c.id, bindparam("store"), literal_column(str(KEPT))).where(
    blob.c.seq.between(bindparam("first"), bindparam("last"))
)


@cache
def _placing(name: str, *, numbered: bool = False) -> Any:
    insertion = insert_in(name, placement)
    if numbered:
        insertion = insertion.from_select(["blob_id", "store_id", "state"], _NUMBERED)
    return insertion.on_conflict_do_update(
        index_elements=["blob_id", "store_id"], set_={"state": insertion.excluded.state}
    )


def _facts(row: Any, placements: Iterable[Placement] = ()) -> Facts:
    return Facts(
        Digest.from_raw(row.digest),
        row.size,
        State(row.state),
        row.seq,
        row.created_at,
        placements=tuple(placements),
    )


async def states(session: AsyncSession, digests: Iterable[Digest]) -> dict[Digest, tuple[int, State]]:
    """Id and state of each digest that has a row. The rows stay locked until the transaction ends."""
    rows = await session.execute(_STATES, {"digests": [digest.raw for digest in digests]})
    return {Digest.from_raw(row.digest): (row.id, State(row.state)) for row in rows}


async def numbers(session: AsyncSession, count: int) -> range:
    """The next `count` numbers of the feed.

    Taken last in a transaction: whoever waits for them waits for its end.
    """
    head: int = (await session.execute(_NUMBERS, {"count": count})).scalar_one()
    return range(head - count + 1, head + 1)


async def add(session: AsyncSession, blobs: Sequence[Blob], seqs: Iterable[int], now: datetime) -> None:
    """Rows for blobs that have none."""
    rows = [
        {
            "digest": new.digest.raw,
            "size": new.size,
            "state": State.PRESENT,
            "seq": seq,
            "created_at": now,
            "touched_at": now,
        }
        for new, seq in zip(blobs, seqs, strict=False)
    ]
    if rows:
        await session.execute(_ADD, rows)


async def move(
    session: AsyncSession, row: int, state: State, seq: int, now: datetime, *, anew: bool = False
) -> None:
    """Another state, and the number of that change. `anew`: it was gone, so it is created now."""
    created = {"created_at": now} if anew else {}
    await session.execute(
        update(blob).where(blob.c.id == row).values(state=state, seq=seq, touched_at=now, **created)
    )


async def touch(session: AsyncSession, rows: Sequence[int], now: datetime) -> None:
    """Somebody wanted these again."""
    await session.execute(update(blob).where(blob.c.id.in_(rows)).values(touched_at=now))


async def place(session: AsyncSession, rows: Sequence[int], store_id: int) -> None:
    """Each of these lies in that store, and is good."""
    if not rows:
        return
    places = [{"blob_id": row, "store_id": store_id, "state": KEPT} for row in rows]
    await session.execute(_placing(dialect(session)), places)


async def place_numbered(session: AsyncSession, numbers: range, store_id: int) -> None:
    """Each blob whose last change has one of these numbers lies in that store, and is good."""
    if numbers:
        where = {"store": store_id, "first": numbers[0], "last": numbers[-1]}
        await session.execute(_placing(dialect(session), numbered=True), where)


async def damaged(session: AsyncSession, rows: Sequence[int], store_id: int) -> set[int]:
    """Those of these whose bytes in that store are not to be relied on."""
    found = await session.execute(
        select(placement.c.blob_id).where(
            placement.c.blob_id.in_(rows), placement.c.store_id == store_id, placement.c.state == DAMAGED
        )
    )
    return set(found.scalars())


async def facts(session: AsyncSession, digest: Digest) -> Facts | None:
    """Everything about one blob, whatever its state."""
    row = (await session.execute(select(blob).where(blob.c.digest == digest.raw))).one_or_none()
    if row is None:
        return None
    copies = await session.execute(
        select(store.c.name, placement.c.state, placement.c.verified_at)
        .join(store, store.c.id == placement.c.store_id)
        .where(placement.c.blob_id == row.id)
        .order_by(store.c.name)
    )
    return _facts(row, (Placement(copy.name, PLACEMENT[copy.state], copy.verified_at) for copy in copies))


async def listed(session: AsyncSession, after: Digest | None, limit: int, state: State) -> list[Facts]:
    """Blobs of a state in digest order, from behind `after`."""
    wanted = select(blob).where(blob.c.state == state).order_by(blob.c.digest).limit(limit)
    if after is not None:
        wanted = wanted.where(blob.c.digest > after.raw)
    return [_facts(row) for row in await session.execute(wanted)]


async def history(session: AsyncSession) -> Feed:
    """Which history this is."""
    row = (await session.execute(select(feed))).one()
    return Feed(row.epoch, row.head, row.floor)


async def changes(session: AsyncSession, after: int, limit: int) -> list[Facts]:
    """Blobs that have changed since a number, by the number of their last change."""
    wanted = select(blob).where(blob.c.seq > after).order_by(blob.c.seq).limit(limit)
    return [_facts(row) for row in await session.execute(wanted)]


async def nth(session: AsyncSession, after: int, count: int) -> int | None:
    """The number of the `count`-th change since a number; None where there are fewer."""
    wanted = select(blob.c.seq).where(blob.c.seq > after).order_by(blob.c.seq).offset(count - 1).limit(1)
    found: int | None = (await session.execute(wanted)).scalar()
    return found


async def known(session: AsyncSession, digests: Sequence[Digest]) -> dict[Digest, Facts]:
    """What is here of these and may be read."""
    wanted = blob.c.digest.in_([digest.raw for digest in digests])
    rows = await session.execute(select(blob).where(wanted, blob.c.state == State.PRESENT))
    return {facts.digest: facts for facts in map(_facts, rows)}


async def trim(session: AsyncSession, before: datetime, limit: int) -> int:
    """Forget blobs gone before a moment, the earliest first, and raise the floor above them; how many."""
    gone = (
        blob.c.state == State.GONE,
        blob.c.state != literal_column(str(State.PRESENT.value)),  # written out, as in the index
        blob.c.touched_at < before,
        ~select(placement.c.blob_id).where(placement.c.blob_id == blob.c.id).exists(),
    )
    some = select(blob.c.id).where(*gone).order_by(blob.c.touched_at).limit(limit)
    forgotten = delete(blob).where(blob.c.id.in_(some), *gone).returning(blob.c.seq)
    seqs = list((await session.execute(forgotten)).scalars())
    if seqs:
        await session.execute(update(feed).where(feed.c.floor < max(seqs)).values(floor=max(seqs)))
    return len(seqs)


async def present(session: AsyncSession, digests: Sequence[Digest]) -> set[Digest]:
    """Those of these digests that are here and may be read."""
    found: set[Digest] = set()
    for start in range(0, len(digests), 1000):
        some = [digest.raw for digest in digests[start : start + 1000]]
        rows = await session.execute(
            select(blob.c.digest).where(blob.c.digest.in_(some), blob.c.state == State.PRESENT)
        )
        found.update(Digest.from_raw(raw) for raw in rows.scalars())
    return found


async def sweepable(
    session: AsyncSession, before: datetime, limit: int, *, but: Collection[int]
) -> list[tuple[int, Digest]]:
    """Blobs gone before a moment whose bytes are still in a store, `but` for some ids.

    The rows stay locked until the transaction ends. One that is locked now is passed over: an upload brings
    it back.
    """
    rows = await session.execute(
        select(blob.c.id, blob.c.digest)
        .where(blob.c.state == State.GONE, blob.c.touched_at < before, blob.c.id.not_in(but))
        .where(select(placement.c.blob_id).where(placement.c.blob_id == blob.c.id).exists())
        .order_by(blob.c.touched_at)
        .limit(limit)
        .with_for_update(of=blob, skip_locked=True)
    )
    return [(row.id, Digest.from_raw(row.digest)) for row in rows]


async def unplace(session: AsyncSession, row: int) -> None:
    """No store has it any more."""
    await session.execute(delete(placement).where(placement.c.blob_id == row))


async def copies(session: AsyncSession, store_id: int, after: Digest | None, limit: int) -> list[Copy]:
    """What lies in a store, or should, in digest order from behind `after`. Gone blobs are passed over."""
    wanted = (
        select(blob, placement.c.state.label("standing"))
        .join(placement, placement.c.blob_id == blob.c.id)
        .where(placement.c.store_id == store_id, blob.c.state != State.GONE)
        .order_by(blob.c.digest)
        .limit(limit)
    )
    if after is not None:
        wanted = wanted.where(blob.c.digest > after.raw)
    return [_copy(row, row.standing) for row in await session.execute(wanted)]


async def copy_of(session: AsyncSession, digest: Digest, store_id: int) -> Copy | None:
    """What lies in a store of a blob that may be read, or should; None where there is nothing."""
    wanted = (
        select(blob, placement.c.state.label("standing"))
        .join(placement, placement.c.blob_id == blob.c.id)
        .where(placement.c.store_id == store_id, blob.c.digest == digest.raw, blob.c.state == State.PRESENT)
    )
    row = (await session.execute(wanted)).one_or_none()
    return None if row is None else _copy(row, row.standing)


async def broken(session: AsyncSession, store_id: int, after: int, limit: int) -> list[tuple[Copy, Facts]]:
    """Copies in a store that are damaged, of blobs that may be read, by their ids from behind `after`."""
    wanted = (
        select(blob, placement.c.state.label("standing"))
        .join(placement, placement.c.blob_id == blob.c.id)
        .where(placement.c.state != literal_column(str(KEPT)))  # written out, as in the index
        .where(placement.c.blob_id > after, placement.c.store_id == store_id, blob.c.state == State.PRESENT)
        .order_by(placement.c.blob_id)
        .limit(limit)
    )
    return [(_copy(row, row.standing), _facts(row)) for row in await session.execute(wanted)]


def _copy(row: Any, standing: int) -> Copy:
    return Copy(row.id, Blob(Digest.from_raw(row.digest), row.size), row.touched_at, standing == DAMAGED)


async def copy(session: AsyncSession, row: int, store_id: int) -> Copy | None:
    """One of them, as it is now; it stays locked until the transaction ends. None when it is gone."""
    wanted = select(blob).where(blob.c.id == row, blob.c.state != State.GONE).with_for_update()
    found = (await session.execute(wanted)).one_or_none()
    # On its own: joined to the first it might be as it was before the lock was free.
    standing = (
        await session.execute(
            select(placement.c.state).where(placement.c.blob_id == row, placement.c.store_id == store_id)
        )
    ).scalar()
    return _copy(found, standing) if found is not None and standing is not None else None


async def doubt(session: AsyncSession, row: int, store_id: int) -> None:
    """The bytes in that store are not to be relied on. Only with the row locked."""
    await session.execute(
        update(placement)
        .where(placement.c.blob_id == row, placement.c.store_id == store_id)
        .values(state=DAMAGED)
    )


async def verified(session: AsyncSession, copies: Sequence[Copy], store_id: int, now: datetime) -> None:
    """These were read, and are good.

    One that somebody else is at just now, or was since it was read, is left to the next round.
    """
    free = await session.execute(
        select(blob.c.id, blob.c.touched_at)
        .where(blob.c.id.in_([copy.row for copy in copies]))
        .with_for_update(skip_locked=True)
    )
    touched = {row.id: row.touched_at for row in free}
    for standing in (KEPT, DAMAGED):
        rows = [
            copy.row
            for copy in copies
            if copy.damaged == (standing == DAMAGED) and touched.get(copy.row) == copy.touched_at
        ]
        await session.execute(
            update(placement)
            .where(placement.c.blob_id.in_(rows), placement.c.store_id == store_id)
            .where(placement.c.state == standing)
            .values(state=KEPT, verified_at=now)
        )


async def round(session: AsyncSession, store_id: int) -> Round | None:
    """The round of the scrub that is under way in a store, or the last; None if there never was one."""
    row = (await session.execute(select(scrub).where(scrub.c.store_id == store_id))).one_or_none()
    if row is None:
        return None
    after = None if row.cursor is None else Digest.from_raw(row.cursor)
    return Round(row.started_at, after, row.blobs, row.bytes, row.damaged, row.finished_at)


async def save(session: AsyncSession, store_id: int, round: Round) -> None:
    """Write down how far a round is."""
    values = {
        "cursor": None if round.after is None else round.after.raw,
        "started_at": round.started_at,
        "finished_at": round.finished_at,
        "blobs": round.blobs,
        "bytes": round.bytes,
        "damaged": round.damaged,
    }
    insertion = upsert(session, scrub).values(store_id=store_id, **values)
    await session.execute(insertion.on_conflict_do_update(index_elements=["store_id"], set_=values))


async def counted(session: AsyncSession, after: int, many: int) -> tuple[int | None, int, int]:
    """Of the next `many` rows behind an id: the last id (None: no rows), blobs that are present, bytes."""
    behind = select(blob.c.id, blob.c.size, blob.c.state).where(blob.c.id > after)
    some = behind.order_by(blob.c.id).limit(many).subquery()
    here = some.c.state == State.PRESENT
    found = select(
        func.max(some.c.id),
        func.coalesce(func.sum(case((here, 1), else_=0)), 0),
        func.coalesce(func.sum(case((here, some.c.size), else_=0)), 0),
    )
    last, blobs, size = (await session.execute(found)).one()
    return last, int(blobs), int(size)


async def begin_feed(session: AsyncSession, epoch: str) -> None:
    """The one row of the feed, if it is not there yet. It stays locked: one core at a time begins."""
    await session.execute(
        upsert(session, feed).values(id=1, epoch=epoch, head=0, floor=0).on_conflict_do_nothing()
    )
    await session.execute(select(feed.c.id).with_for_update())


async def renew_feed(session: AsyncSession, epoch: str) -> None:
    """Another history begins: cursors of the one before count as 0 (D7)."""
    await session.execute(update(feed).values(epoch=epoch))


async def store_uuid(session: AsyncSession, name: str) -> str | None:
    """The uuid the database knows for a store of this name."""
    found: str | None = (await session.execute(select(store.c.uuid).where(store.c.name == name))).scalar()
    return found


async def register(session: AsyncSession, name: str, uuid: str, kind: str) -> int:
    """The id of a store, which is written down if it is new."""
    await session.execute(
        upsert(session, store).values(name=name, uuid=uuid, kind=kind).on_conflict_do_nothing()
    )
    return await store_id(session, name)


async def store_id(session: AsyncSession, name: str) -> int:
    """The id of a store that is registered."""
    found: int = (await session.execute(select(store.c.id).where(store.c.name == name))).scalar_one()
    return found
