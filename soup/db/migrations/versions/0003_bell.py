"""The bell that is heard on every machine."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create its table, and its row."""
    bell = op.create_table(
        "bell",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("rung", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(bell, [{"id": 1, "rung": 0}])
