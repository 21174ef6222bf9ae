"""What docs/promises.md calls kept has a test, and the checker that says so can be trusted."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.rows import Promise, faults, read

ROOT = Path(__file__).parent.parent

PAGE = """
# Promises

| id | promise | state |
|---|---|---|
| S1 | Soup is hot. | kept |
| S2 | Soup is never salted twice. | later |
"""
HOT = ("S1", "test_kitchen.py::test_hot")

KITCHEN = """
import pytest

pytestmark = pytest.mark.row("S1")


class Salted:
    @pytest.mark.parametrize("grains", [1, 2])
    def test_salt(self, grains): ...


@pytest.mark.row("S2", "S3")
class TestBroth(Salted): ...


@pytest.mark.row()
def test_pepper(): ...
"""


def rows(*arguments: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.rows", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_every_kept_promise_has_a_test() -> None:
    """
    The page and the tests agree.
    """
    answer = rows()

    assert 0 == answer.returncode, answer.stderr


def test_the_page_is_read() -> None:
    """
    Rows of the table are promises, the rest of the page is prose.
    """
    hot, salt = Promise("S1", "Soup is hot.", "kept"), Promise("S2", "Soup is never salted twice.", "later")

    assert ([hot, salt], []) == read(PAGE)


def test_a_kept_promise_has_a_test() -> None:
    """
    One for later needs none.
    """
    assert [] == list(faults(PAGE, [HOT]))


def test_a_kept_promise_without_a_test() -> None:
    """
    A promise that no test keeps is not kept.
    """
    assert ["S1 is marked kept and has no test"] == list(faults(PAGE, []))


def test_an_unknown_id() -> None:
    """
    A test cannot keep what was never promised.
    """
    marks = [HOT, ("S3", "test_kitchen.py::test_thick")]

    assert ["test_kitchen.py::test_thick is marked with S3, which is no promise"] == list(faults(PAGE, marks))


def test_a_promise_made_twice() -> None:
    """
    An id means one thing.
    """
    twice = PAGE + "| S2 | Soup is salted once. | later |\n"

    assert ["S2 stands in the table 2 times"] == list(faults(twice, [HOT]))


@pytest.mark.parametrize("row", ["| S3 | Thick. | maybe |", "| S3 | kept |", "| s3 | Thick. | kept |", "|S3"])
def test_a_row_in_a_wrong_form(row: str) -> None:
    """
    A row nobody can read is a fault, not one promise less to keep.
    """
    assert [f"not a row: {row}"] == list(faults(f"{PAGE}{row}\n", [HOT]))


def test_marks_are_what_pytest_collects(tmp_path: Path) -> None:
    """
    Marks of modules, classes and functions count, inherited tests too; a parametrised test counts once.
    """
    page, kitchen = tmp_path / "promises.md", tmp_path / "test_kitchen.py"
    page.write_text(PAGE)
    kitchen.write_text(KITCHEN)

    answer = rows(page, tmp_path)

    printed = [line.strip().rpartition("/")[2] for line in answer.stdout.splitlines()]
    assert 1 == answer.returncode
    assert [
        "S1   kept   Soup is hot.",
        "test_kitchen.py::TestBroth::test_salt",
        "test_kitchen.py::test_pepper",
        "S2   later  Soup is never salted twice.",
        "test_kitchen.py::TestBroth::test_salt",
    ] == printed
    assert "TestBroth::test_salt is marked with S3, which is no promise\n" in answer.stderr
    assert "test_pepper is marked with ?, which is no promise\n" in answer.stderr


def test_tests_that_cannot_be_collected(tmp_path: Path) -> None:
    """
    A broken test module fails the check, with pytest's own words.
    """
    page, kitchen = tmp_path / "promises.md", tmp_path / "test_kitchen.py"
    page.write_text(PAGE)
    kitchen.write_text("import no_such_soup")

    answer = rows(page, tmp_path)

    assert 1 == answer.returncode
    assert "No module named 'no_such_soup'" in answer.stderr
