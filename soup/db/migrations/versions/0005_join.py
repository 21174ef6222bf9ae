"""Mirrors that joined by themselves, and addresses at which none may."""

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import AutoString

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Only add: what cores of the release before write has not joined."""
    op.add_column("mirror", sa.Column("joined", sa.Boolean, nullable=False, server_default=sa.false()))
    op.create_table(
        "bar",
        sa.Column("fqdn", AutoString, primary_key=True),
        sa.Column("port", sa.Integer, primary_key=True),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
    )
