"""`soup migrate`: the tables, before anything is started."""

from pathlib import Path

import pytest

from soup.db.migrate import migrate
from tests.command import Ended, refusal, soup
from tests.conftest import Servers
from tests.databases import KIND


@pytest.fixture
def head(tmp_path: Path) -> str:
    """The revision of this release."""
    return migrate(f"sqlite:///{tmp_path / 'head' / 'soup.db'}")


@pytest.fixture
def data(serve: Servers) -> Path:
    """A data folder that has an empty database."""
    data = serve.folder / "data"
    data.mkdir()
    if KIND.url(data):
        KIND.ask(data, "drop schema public cascade; create schema public")
    return data


def migrated(data: Path, *arguments: str) -> Ended:
    return soup("migrate", *arguments, cwd=data.parent, SOUP_DATA=str(data), SOUP_DATABASE=KIND.url(data))


def test_an_empty_database(data: Path, head: str, serve: Servers) -> None:
    """
    The tables are made, the revision is printed, and a soup starts on it.
    """
    ended = migrated(data)

    assert (0, f"{head}\n", "") == (ended.returncode, ended.stdout, ended.stderr)
    assert [(head,)] == KIND.ask(data, "select version_num from alembic_version")
    assert 200 == serve(data=data).client.get("/readyz").status_code


def test_twice(data: Path, head: str) -> None:
    """
    What is there is not done again.
    """
    migrated(data)
    KIND.ask(data, "insert into feed (id, epoch, head, floor) values (1, 'epoch', 7, 0)")

    assert f"{head}\n" == migrated(data).stdout
    assert [(7,)] == KIND.ask(data, "select head from feed")


def test_a_check_of_an_empty_database(data: Path, head: str) -> None:
    """
    It is behind: exit status 1, and nothing is made.
    """
    said = refusal(migrated(data, "--check"))

    assert f"the database is at revision none, behind {head}: run soup migrate" == said
    assert [] == list(data.iterdir())


def test_a_check_of_a_good_database(data: Path, head: str) -> None:
    """
    Exit status 0 and the revision.
    """
    migrated(data)

    ended = migrated(data, "--check")

    assert (0, f"{head}\n", "") == (ended.returncode, ended.stdout, ended.stderr)


@pytest.mark.parametrize("check", [(), ("--check",)])
def test_a_newer_database(data: Path, check: tuple[str, ...]) -> None:
    """
    A database that a newer release has written is refused, and left as it is.
    """
    migrated(data)
    KIND.ask(data, "update alembic_version set version_num = '9001'")

    said = refusal(migrated(data, *check))

    assert said.startswith("the database is at revision 9001, which this release does not know")
    assert [("9001",)] == KIND.ask(data, "select version_num from alembic_version")


@pytest.mark.parametrize("check", [(), ("--check",)])
def test_a_database_that_is_down(tmp_path: Path, check: tuple[str, ...]) -> None:
    """
    That is said, without a trace, and exit status 1.
    """
    ended = soup("migrate", *check, cwd=tmp_path, SOUP_DATABASE="postgresql://postgres@127.0.0.1:1/soup")

    assert 1 == ended.returncode
    assert ended.stderr.startswith("soup: the database ")
    assert "Traceback" not in ended.stderr
