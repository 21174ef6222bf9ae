"""Rows of mirrors and of what they last said. They never leave `queries.py`."""

from datetime import date, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Integer,
    SmallInteger,
    UniqueConstraint,
    false,
)
from sqlmodel import Field, SQLModel


class MirrorRow(SQLModel, table=True):
    """What an administrator says of a mirror."""

    __tablename__ = "mirror"
    # Without AUTOINCREMENT SQLite gives the number of a deleted mirror to the next one, and its old token
    # with it.
    __table_args__ = (UniqueConstraint("fqdn", "port", name="mirror_address"), {"sqlite_autoincrement": True})

    id: int | None = Field(default=None, primary_key=True)
    fqdn: str
    scheme: str
    port: int
    mode: str
    weight: int
    trusted: bool
    drained: bool
    doubt_since: datetime | None = None
    doubt_reason: str | None = None
    created_at: datetime
    audited_at: datetime | None = None
    # The default is the table's own, for cores of a release that knows nothing of it.
    joined: bool = Field(default=False, sa_column=Column(Boolean, nullable=False, server_default=false()))


class BarRow(SQLModel, table=True):
    """An address at which no mirror may join."""

    __tablename__ = "bar"

    fqdn: str = Field(primary_key=True)
    port: int = Field(primary_key=True)
    since: datetime


class ReportRow(SQLModel, table=True):
    """What the mirror said last: many writes, narrow rows, apart from `mirror` (D19)."""

    __tablename__ = "report"

    mirror_id: int = Field(
        sa_column=Column(Integer, ForeignKey("mirror.id", ondelete="CASCADE"), primary_key=True)
    )
    status: int = Field(sa_column=Column(SmallInteger, nullable=False))
    last_seen: datetime | None = Field(default=None, index=True)
    message: str | None = None
    leaving: bool = False
    epoch: str | None = None
    synced_to: int | None = Field(default=None, sa_column=Column(BigInteger))
    holds: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON))
    lacking: list[str] | None = Field(default=None, sa_column=Column(JSON))
    agent: str | None = None
    disk_free: int | None = Field(default=None, sa_column=Column(BigInteger))
    disk_total: int | None = Field(default=None, sa_column=Column(BigInteger))
    boot_id: str | None = None
    totals: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON))
    # The totals that are in `delivery` already, and of which boot; a report without any leaves them.
    counted_boot: str | None = None
    counted_bytes: int | None = Field(default=None, sa_column=Column(BigInteger))
    counted_requests: int | None = Field(default=None, sa_column=Column(BigInteger))


class DeliveryRow(SQLModel, table=True):
    """What a mirror has delivered on a day of UTC. Three numbers a day, kept while there is the mirror."""

    __tablename__ = "delivery"

    mirror_id: int = Field(
        sa_column=Column(Integer, ForeignKey("mirror.id", ondelete="CASCADE"), primary_key=True)
    )
    day: date = Field(primary_key=True)
    bytes: int = Field(sa_column=Column(BigInteger, nullable=False))
    requests: int = Field(sa_column=Column(BigInteger, nullable=False))
