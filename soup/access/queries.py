"""Session in, values out."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import column, delete, func, insert, or_, select, table, update
from sqlalchemy.ext.asyncio import AsyncSession

from soup.access.model import Kind, Token
from soup.access.tables import TokenRow
from soup.core.errors import TokenUnknown

token: Any = TokenRow.__table__  # type: ignore[attr-defined]
mirror = table("mirror", column("id"))  # what tokens refer to


async def good(
    session: AsyncSession, now: datetime, hashes: Iterable[bytes] | None = None
) -> dict[bytes, Token]:
    """Tokens that have not expired, by hash: all, or those of these hashes.

    One of a kind that only a newer release knows is worth nothing here.
    """
    fresh = or_(token.c.expires_at.is_(None), token.c.expires_at > now)
    wanted = select(token).where(fresh, token.c.kind.in_([*map(str, Kind)]))
    if hashes is not None:
        wanted = wanted.where(token.c.hash.in_(set(hashes)))
    return {
        row.hash: Token(
            row.id, Kind(row.kind), row.mirror_id, row.created_at, row.expires_at, row.last_used_at
        )
        for row in await session.execute(wanted)
    }


async def add(
    session: AsyncSession,
    kind: Kind,
    hash: bytes,
    now: datetime,
    mirror_id: int | None,
    until: datetime | None,
) -> None:
    """A new token."""
    row = {"kind": kind, "hash": hash, "created_at": now, "mirror_id": mirror_id, "expires_at": until}
    await session.execute(insert(token).values(row))


async def has_mirror(session: AsyncSession, id: int) -> bool:
    """Whether there is a mirror for a token to refer to."""
    return (await session.execute(select(mirror.c.id).where(mirror.c.id == id))).scalar() is not None


async def limit(session: AsyncSession, mirror_id: int, until: datetime) -> None:
    """The tokens a mirror has so far end at a moment, if not sooner."""
    longer = or_(token.c.expires_at.is_(None), token.c.expires_at > until)
    await session.execute(
        update(token).where(token.c.mirror_id == mirror_id, longer).values(expires_at=until)
    )


async def prune(session: AsyncSession, mirror_id: int, most: int) -> None:
    """Forget tokens that a mirror has never used, but for the newest."""
    unused = (token.c.mirror_id == mirror_id) & token.c.last_used_at.is_(None)
    newest = select(token.c.id).where(unused).order_by(token.c.id.desc()).limit(most)
    await session.execute(delete(token).where(unused, token.c.id.not_in(newest)))


async def supersede(session: AsyncSession, used: Token) -> None:
    """A mirror's newer token is in use: the older ones are done with."""
    older = delete(token).where(token.c.mirror_id == used.mirror_id, token.c.id < used.id)
    await session.execute(older)


async def mark(session: AsyncSession, ids: Iterable[int], now: datetime) -> None:
    """These were used."""
    await session.execute(update(token).where(token.c.id.in_(list(ids))).values(last_used_at=now))


async def remove(session: AsyncSession, id: int) -> None:
    """Forget a token. Raises TokenUnknown."""
    if not (await session.execute(delete(token).where(token.c.id == id).returning(token.c.id))).all():
        raise TokenUnknown(f"no token {id}")


async def expire(session: AsyncSession, now: datetime) -> int:
    """Forget those that ended before a moment; how many."""
    ended = delete(token).where(token.c.expires_at <= now).returning(token.c.id)
    return len((await session.execute(ended)).all())


async def count(session: AsyncSession, kind: Kind) -> int:
    """How many tokens of a kind there are."""
    return int((await session.execute(select(func.count()).where(token.c.kind == kind))).scalar_one())
