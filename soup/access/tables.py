"""Rows of tokens. They never leave `queries.py`."""

from datetime import datetime

from sqlalchemy import Column, ForeignKey, Integer, LargeBinary
from sqlmodel import Field, SQLModel


class TokenRow(SQLModel, table=True):
    """A token by its hash; the token itself is shown once and kept nowhere."""

    __tablename__ = "token"
    __table_args__ = {"sqlite_autoincrement": True}

    id: int | None = Field(default=None, primary_key=True)
    kind: str
    mirror_id: int | None = Field(
        default=None, sa_column=Column(Integer, ForeignKey("mirror.id", ondelete="CASCADE"), index=True)
    )
    hash: bytes = Field(sa_column=Column(LargeBinary(32), unique=True, nullable=False))
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
