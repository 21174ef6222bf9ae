"""How far the scrub is."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the table of the scrub."""
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "scrub",
        sa.Column("store_id", sa.Integer, sa.ForeignKey("store.id"), primary_key=True),
        sa.Column("cursor", sa.LargeBinary(32)),
        sa.Column("started_at", moment, nullable=False),
        sa.Column("finished_at", moment),
        sa.Column("blobs", sa.BigInteger, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("damaged", sa.BigInteger, nullable=False),
    )
