"""Migrations: forward only, all or nothing, by one process at a time."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, inspect
from sqlmodel import SQLModel

import soup.app  # noqa: F401 - all tables
from soup.core.errors import Refused
from soup.db import migrate as migrating
from soup.db.migrate import migrate

STEPS = Path(migrating.__file__).parent / "migrations/versions"

# A later release: its second step fails when half of it is done.
LATER = """
from alembic import op
import sqlalchemy as sa

revision = "{revision}"
down_revision = "{before}"

def upgrade():
    op.create_table("{table}", sa.Column("id", sa.Integer, primary_key=True))
    op.bulk_insert(sa.table("feed", sa.column("epoch"), sa.column("head"), sa.column("floor")),
                   [dict(epoch="{revision}", head=0, floor=0)])
    {end}
"""


@pytest.fixture
def file(tmp_path):
    return tmp_path / "soup.db"


@pytest.fixture
def url(file):
    return f"sqlite:///{file}"


def asked(file: Path, statement: str) -> list[tuple]:
    database = sqlite3.connect(file)
    try:
        return database.execute(statement).fetchall()
    finally:
        database.close()


def tables(file: Path) -> set[str]:
    return {name for (name,) in asked(file, "select name from sqlite_master where type = 'table'")}


def test_it_makes_what_the_code_expects(url) -> None:
    """
    The migrated schema is that of the tables: Alembic finds nothing left to do, types included.
    """
    migrate(url)

    engine = create_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "render_as_batch": True})
        left = compare_metadata(context, SQLModel.metadata)
    engine.dispose()
    assert [] == left


def test_what_alembic_does_not_compare(url) -> None:
    """
    Keys, unique columns, deletes that cascade and partial indexes are those of the tables as well.
    """
    migrate(url)
    written, meant = create_engine(url), create_engine("sqlite://")
    SQLModel.metadata.create_all(meant)

    def shape(engine) -> dict[str, object]:
        inspector = inspect(engine)
        return {
            table: (
                inspector.get_pk_constraint(table)["constrained_columns"],
                sorted(str(sorted(key.items(), key=str)) for key in inspector.get_foreign_keys(table)),
                sorted(str(sorted(one["column_names"])) for one in inspector.get_unique_constraints(table)),
                sorted((str(one["name"]), *one["column_names"]) for one in inspector.get_indexes(table)),
                [(column["name"], column["nullable"]) for column in inspector.get_columns(table)],
            )
            for table in inspector.get_table_names()
            if table != "alembic_version"
        }

    found, wanted = shape(written), shape(meant)
    written.dispose()
    meant.dispose()
    assert wanted == found


def test_mirrors_and_tokens_are_never_numbered_again(url, file) -> None:
    """
    Ids of what may be deleted are not used again: an old token must not fit a new mirror.
    """
    migrate(url)

    kept = {
        name for (name,) in asked(file, "select name from sqlite_master where sql like '%AUTOINCREMENT%'")
    }
    assert {"mirror", "token"} <= kept


def test_twice_is_once(url, file) -> None:
    """
    What is there is not done again, and what was written stays.
    """
    first = migrate(url)
    database = sqlite3.connect(file)
    with database:
        database.execute("insert into feed values (1, 'epoch', 7, 0)")
    database.close()

    assert first == migrate(url)
    assert [("epoch", 7)] == asked(file, "select epoch, head from feed")


def test_two_processes_at_once(url, file) -> None:
    """
    One does it, the other waits and finds it done.
    """
    code = f"from soup.db.migrate import migrate; print(migrate({url!r}))"
    many = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]

    said = {one.communicate(timeout=30)[0].strip() for one in many}

    assert {migrate(url)} == said
    assert [(1,)] == asked(file, "select count(*) from alembic_version")


def test_there_is_one_way_forward() -> None:
    """
    One head, one start, and no way back: what a release has added, the previous one can live with.
    """
    steps = [step.read_text() for step in STEPS.glob("*.py")]

    assert 1 == len([step for step in steps if "down_revision = None" in step])
    assert len(steps) == len({step.partition("down_revision = ")[2].split()[0] for step in steps})
    assert [] == [step for step in steps if "def downgrade" in step]


@pytest.fixture
def later(tmp_path, monkeypatch):
    """The scripts of a later release, to which steps may be added."""
    scripts = tmp_path / "scripts"
    (scripts / "versions").mkdir(parents=True)
    for step in STEPS.glob("*.py"):
        (scripts / "versions" / step.name).write_text(step.read_text())
    monkeypatch.setattr(migrating, "SCRIPTS", scripts)

    def add(revision: str, before: str, end: str = "") -> None:
        text = LATER.format(revision=revision, before=before, table=f"later_{revision}", end=end)
        (scripts / "versions" / f"{revision}.py").write_text(text)

    return add


def test_a_later_release(url, file, later) -> None:
    """
    It applies only what is new.
    """
    head = migrate_as_now(url)
    later("9001", head)
    later("9002", "9001")

    assert "9002" == migrate(url)
    assert {"later_9001", "later_9002", "blob"} <= tables(file)
    assert [("9001",), ("9002",)] == asked(file, "select epoch from feed order by epoch")


def migrate_as_now(url: str) -> str:
    scripts, migrating.SCRIPTS = migrating.SCRIPTS, STEPS.parent
    try:
        return migrate(url)
    finally:
        migrating.SCRIPTS = scripts


def test_a_step_that_fails(url, file, later) -> None:
    """
    All or nothing: what was done before the fault is undone, and a mended release goes on from there.
    """
    head = migrate_as_now(url)
    before = tables(file)
    later("9001", head)
    later("9002", "9001", "op.execute('insert into nowhere values (1)')")

    with pytest.raises(Refused, match="no such table: nowhere"):
        migrate(url)

    assert before == tables(file)
    assert [(head,)] == asked(file, "select version_num from alembic_version")
    later("9002", "9001")
    assert "9002" == migrate(url)


def test_a_first_start_that_is_cut_short(url, file, later) -> None:
    """
    Killed in the middle of its first migration, soup starts the next time as if nothing had been.
    """
    later("9001", migrate_as_now("sqlite:///" + str(file.with_name("other.db"))), "__import__('os')._exit(9)")
    code = (
        "from pathlib import Path; from soup.db import migrate as m;"
        f"m.SCRIPTS = Path({str(migrating.SCRIPTS)!r}); m.migrate({url!r})"
    )
    killed = subprocess.run([sys.executable, "-c", code], check=False)

    assert 9 == killed.returncode
    assert set() == tables(file)
    assert migrate_as_now(url)


def test_a_newer_database(url, file, later) -> None:
    """
    A revision that is not known is refused, and nothing is changed.
    """
    later("9001", migrate_as_now(url))
    migrate(url)
    before = tables(file)

    with pytest.raises(Refused, match="at revision 9001, which this release does not know"):
        migrate_as_now(url)

    assert before == tables(file)


@pytest.mark.parametrize("data", [b"minestrone" * 1000, b"SQLite format 3\x00" + b"\xff" * 8000])
def test_a_corrupt_file(url, file, data) -> None:
    """
    It is refused with what to do, and left for whoever wants to mend it.
    """
    file.write_bytes(data)

    with pytest.raises(Refused, match=r"soup.db cannot be opened: .*\. Restore it from a backup"):
        migrate(url)

    assert data == file.read_bytes()


def test_a_database_of_somebody_else(url, file) -> None:
    """
    A database that has a table of ours and was not made by soup is refused and left as it is.
    """
    database = sqlite3.connect(file)
    database.execute("create table token (id text)")
    database.close()

    with pytest.raises(Refused, match="table token already exists"):
        migrate(url)

    assert {"token"} == tables(file)


def test_an_empty_file(url, file) -> None:
    """
    An empty file is an empty database: somebody made it with the right owner beforehand.
    """
    file.touch()

    assert migrate(url)
    assert "blob" in tables(file)


@pytest.mark.parametrize(
    "url", ["sqlite://", "mysql://db/soup", "postgresql://db", "minestrone", "sqlite:///"]
)
def test_a_url_that_is_none(url) -> None:
    """
    A database soup does not know, or one in memory, is refused with an example of a good one.
    """
    with pytest.raises(Refused, match="sqlite:///"):
        migrate(url)
