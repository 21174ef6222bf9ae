"""Rows of runs. They never leave `queries.py`."""

from datetime import datetime

from sqlmodel import Field, SQLModel


class JobRunRow(SQLModel, table=True):
    """One run of a job."""

    __tablename__ = "job_run"

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(index=True)
    started_at: datetime
    seconds: float
    holder: str
    result: str
