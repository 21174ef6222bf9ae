"""`insert ... on conflict`, which SQLAlchemy has once for each database and the same in both."""

from typing import Any

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

_INSERTS: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def upsert(session: AsyncSession, table: Any) -> Any:
    """An insert into a table, in the dialect of a session's database."""
    return _INSERTS[session.get_bind().dialect.name](table)
