"""Rows of blobs. They never leave `queries.py`."""

from datetime import datetime

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, LargeBinary, SmallInteger, text
from sqlmodel import Field, SQLModel

NUMBER = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by its own INTEGER only
ABSENT = text("state <> 1")
DAMAGED = text("state <> 1")


class BlobRow(SQLModel, table=True):
    """One digest, one row, for ever or until the feed forgets it."""

    __tablename__ = "blob"
    __table_args__ = (
        Index("blob_known", "digest", "seq", "size", "state"),
        Index("blob_state", "state", "touched_at", sqlite_where=ABSENT, postgresql_where=ABSENT),
    )

    id: int | None = Field(default=None, sa_column=Column(NUMBER, primary_key=True))
    digest: bytes = Field(sa_column=Column(LargeBinary(32), unique=True, nullable=False))
    size: int = Field(sa_column=Column(BigInteger, nullable=False))
    state: int = Field(sa_column=Column(SmallInteger, nullable=False))
    seq: int = Field(sa_column=Column(BigInteger, unique=True, nullable=False))
    created_at: datetime
    touched_at: datetime


class FeedRow(SQLModel, table=True):
    """The one row that numbers all changes."""

    __tablename__ = "feed"

    id: int = Field(default=1, primary_key=True)
    epoch: str
    head: int = Field(sa_column=Column(BigInteger, nullable=False))
    floor: int = Field(sa_column=Column(BigInteger, nullable=False))


class StoreRow(SQLModel, table=True):
    """A store this database has placements in."""

    __tablename__ = "store"

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    uuid: str = Field(unique=True)
    kind: str


class PlacementRow(SQLModel, table=True):
    """A copy of a blob in a store; without a key it lies under `abc/<digest>`."""

    __tablename__ = "placement"
    __table_args__ = (Index("placement_damaged", "blob_id", sqlite_where=DAMAGED, postgresql_where=DAMAGED),)

    blob_id: int = Field(
        sa_column=Column(NUMBER, ForeignKey("blob.id", ondelete="CASCADE"), primary_key=True)
    )
    store_id: int = Field(sa_column=Column(Integer, ForeignKey("store.id"), primary_key=True))
    state: int = Field(sa_column=Column(SmallInteger, nullable=False))
    key: str | None = None
    verified_at: datetime | None = None


class ScrubRow(SQLModel, table=True):
    """The round of the scrub that a store is in, or the last: `cursor` is the last digest it read."""

    __tablename__ = "scrub"

    store_id: int = Field(sa_column=Column(Integer, ForeignKey("store.id"), primary_key=True))
    cursor: bytes | None = Field(default=None, sa_column=Column(LargeBinary(32)))
    started_at: datetime
    finished_at: datetime | None = None
    blobs: int = Field(sa_column=Column(BigInteger, nullable=False))
    bytes: int = Field(sa_column=Column(BigInteger, nullable=False))
    damaged: int = Field(sa_column=Column(BigInteger, nullable=False))
