"""What mirrors deliver, when each last passed an audit, and a short way to damaged copies."""

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import AutoString

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Only add: cores of the release before go on, and what they write counts when it is next reported."""
    op.add_column("mirror", sa.Column("audited_at", sa.DateTime(timezone=True)))
    op.add_column("report", sa.Column("counted_boot", AutoString))
    op.add_column("report", sa.Column("counted_bytes", sa.BigInteger))
    op.add_column("report", sa.Column("counted_requests", sa.BigInteger))
    op.create_table(
        "delivery",
        sa.Column("mirror_id", sa.Integer, sa.ForeignKey("mirror.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("day", sa.Date, primary_key=True),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("requests", sa.BigInteger, nullable=False),
    )
    damaged = sa.text("state <> 1")
    op.create_index(
        "placement_damaged", "placement", ["blob_id"], sqlite_where=damaged, postgresql_where=damaged
    )
