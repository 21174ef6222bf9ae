"""The core: blobs, the feed, stores, mirrors, reports, tokens, leases."""

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import AutoString

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the first tables."""
    moment = sa.DateTime(timezone=True)
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite numbers rows by its own INTEGER only
    op.create_table(
        "blob",
        sa.Column("id", number, primary_key=True),
        sa.Column("digest", sa.LargeBinary(32), nullable=False, unique=True),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False, unique=True),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("touched_at", moment, nullable=False),
    )
    # Everything a redirect asks of a blob, without a second look into the table.
    op.create_index("blob_known", "blob", ["digest", "seq", "size", "state"])
    absent = sa.text("state <> 1")
    op.create_index(
        "blob_state", "blob", ["state", "touched_at"], sqlite_where=absent, postgresql_where=absent
    )
    op.create_table(
        "feed",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("epoch", AutoString, nullable=False),
        sa.Column("head", sa.BigInteger, nullable=False),
        sa.Column("floor", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "store",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", AutoString, nullable=False, unique=True),
        sa.Column("uuid", AutoString, nullable=False, unique=True),
        sa.Column("kind", AutoString, nullable=False),
    )
    op.create_table(
        "placement",
        sa.Column("blob_id", number, sa.ForeignKey("blob.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("store_id", sa.Integer, sa.ForeignKey("store.id"), primary_key=True),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("key", AutoString),
        sa.Column("verified_at", moment),
    )
    op.create_table(
        "mirror",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("fqdn", AutoString, nullable=False),
        sa.Column("scheme", AutoString, nullable=False),
        sa.Column("port", sa.Integer, nullable=False),
        sa.Column("mode", AutoString, nullable=False),
        sa.Column("weight", sa.Integer, nullable=False),
        sa.Column("trusted", sa.Boolean, nullable=False),
        sa.Column("drained", sa.Boolean, nullable=False),
        sa.Column("doubt_since", moment),
        sa.Column("doubt_reason", AutoString),
        sa.Column("created_at", moment, nullable=False),
        sa.UniqueConstraint("fqdn", "port", name="mirror_address"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "report",
        sa.Column("mirror_id", sa.Integer, sa.ForeignKey("mirror.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("status", sa.SmallInteger, nullable=False),
        sa.Column("last_seen", moment, index=True),
        sa.Column("message", AutoString),
        sa.Column("leaving", sa.Boolean, nullable=False),
        sa.Column("epoch", AutoString),
        sa.Column("synced_to", sa.BigInteger),
        sa.Column("holds", sa.JSON),
        sa.Column("lacking", sa.JSON),
        sa.Column("agent", AutoString),
        sa.Column("disk_free", sa.BigInteger),
        sa.Column("disk_total", sa.BigInteger),
        sa.Column("boot_id", AutoString),
        sa.Column("totals", sa.JSON),
    )
    op.create_table(
        "token",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("kind", AutoString, nullable=False),
        sa.Column("mirror_id", sa.Integer, sa.ForeignKey("mirror.id", ondelete="CASCADE"), index=True),
        sa.Column("hash", sa.LargeBinary(32), nullable=False, unique=True),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("expires_at", moment),
        sa.Column("last_used_at", moment),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "job_run",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", AutoString, nullable=False, index=True),
        sa.Column("started_at", moment, nullable=False),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.Column("holder", AutoString, nullable=False),
        sa.Column("result", AutoString, nullable=False),
    )
    op.create_table(
        "lease",
        sa.Column("name", AutoString, primary_key=True),
        sa.Column("holder", AutoString, nullable=False),
        sa.Column("until", moment, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
    )
