"""`insert ... on conflict`, which SQLAlchemy has once for each database and the same in both."""

from typing import Any

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

_INSERTS: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def upsert(session: AsyncSession, table: Any) -> Any:
    """An insert into a table, in the dialect of a session's database."""
    return insert_in(dialect(session), table)


def dialect(session: AsyncSession) -> str:
    """The name of the dialect of a session's database."""
    return session.get_bind().dialect.name


def insert_in(dialect: str, table: Any) -> Any:
    """An insert into a table, in this dialect: for statements that are built once."""
    return _INSERTS[dialect](table)
