"""A store knows who it is (D15)."""

import json
import uuid
from pathlib import Path

import pytest

from soup.core.errors import Refused, WrongStore
from soup.stores.identity import FILE, settle
from soup.stores.local import SPOOL
from tests.folders import names
from tests.stores.conftest import read_only

OURS = "6b8f2f0e-3a53-4f0e-9a4e-1d1f5c7a9b10"
THEIRS = "0c0ffee0-0000-4000-8000-000000000000"


def sign(folder: Path, **fields: object) -> None:
    (folder / FILE).write_text(json.dumps({"uuid": OURS, "layout": 1, **fields}))


def test_a_new_store(tmp_path: Path) -> None:
    """
    A new folder and a new database become a store: its name is written down, and found again.
    """
    name = settle(tmp_path, None)

    assert name == str(uuid.UUID(name))
    assert {"uuid": name, "layout": 1} == json.loads((tmp_path / FILE).read_text())
    assert name == settle(tmp_path, name) == settle(tmp_path, None)
    assert [SPOOL, FILE] == names(tmp_path)
    assert [] == names(tmp_path / SPOOL)


def test_no_two_are_alike(tmp_path: Path) -> None:
    """
    Every store is another.
    """
    names = set()
    for number in range(20):
        (tmp_path / str(number)).mkdir()
        names.add(settle(tmp_path / str(number), None))

    assert 20 == len(names)


def test_a_database_that_is_new(tmp_path: Path) -> None:
    """
    A new database takes over a store that is there: so blobs survive the loss of a database.
    """
    sign(tmp_path)

    assert OURS == settle(tmp_path, None)


def test_an_empty_folder(tmp_path: Path) -> None:
    """
    A disk that is not mounted is no empty store: soup refuses, says which store it wants, and writes nothing.
    """
    with pytest.raises(WrongStore) as caught:
        settle(tmp_path, OURS)

    assert OURS in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert [] == names(tmp_path)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """
    A folder that is missing is no store either, and is not made.
    """
    with pytest.raises(WrongStore):
        settle(tmp_path / "gone", OURS)

    assert not (tmp_path / "gone").exists()


def test_another_store(tmp_path: Path) -> None:
    """
    The folder of another store is refused, with both names, and nothing in it changes.
    """
    sign(tmp_path, uuid=THEIRS)
    before = (tmp_path / FILE).read_bytes()

    with pytest.raises(WrongStore) as caught:
        settle(tmp_path, OURS)

    assert OURS in str(caught.value)
    assert THEIRS in str(caught.value)
    assert before == (tmp_path / FILE).read_bytes()
    assert [FILE] == names(tmp_path)


@pytest.mark.parametrize("known", [None, OURS])
@pytest.mark.parametrize("layout", [0, 2, "1", None, [1]])
def test_a_layout_of_the_future(tmp_path: Path, layout: object, known: str | None) -> None:
    """
    A folder that another release has laid out is left alone, whoever it belongs to.
    """
    sign(tmp_path, layout=layout)

    with pytest.raises(WrongStore, match="layout"):
        settle(tmp_path, known)

    assert [FILE] == names(tmp_path)


@pytest.mark.parametrize("known", [None, OURS])
@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"7",
        b"{}",
        b'"soup"',
        b"\xff\xfe\x00",
        b'{"uuid": 7, "layout": 1}',
        b'{"uuid": null, "layout": 1}',
        b'{"uuid": "soup", "layout": 1}',
        b'{"uuid": ["6b8f2f0e-3a53-4f0e-9a4e-1d1f5c7a9b10"], "layout": 1}',
        b'{"layout": 1}',
        b'{"uuid": "6b8f2f0e-3a53-4f0e-9a4e-1d1f5c7a9b10"}',
    ],
)
def test_a_file_that_says_nothing(tmp_path: Path, text: bytes, known: str | None) -> None:
    """
    A file that cannot be understood is no reason to make a new one: it is named, and left as it is.
    """
    (tmp_path / FILE).write_bytes(text)

    with pytest.raises(WrongStore, match=FILE):
        settle(tmp_path, known)

    assert text == (tmp_path / FILE).read_bytes()
    assert [FILE] == names(tmp_path)


def test_a_file_that_is_no_file(tmp_path: Path) -> None:
    """
    What cannot even be opened is refused in the same words.
    """
    (tmp_path / FILE).mkdir()

    with pytest.raises(WrongStore, match=FILE):
        settle(tmp_path, OURS)


def test_a_file_we_may_not_read(open_folder: Path) -> None:
    """
    A file that belongs to somebody else is refused, not replaced.
    """
    sign(open_folder)
    (open_folder / FILE).chmod(0)

    with read_only(open_folder), pytest.raises(WrongStore, match=FILE):
        settle(open_folder, OURS)

    assert OURS in (open_folder / FILE).read_text()


@pytest.mark.parametrize("known", [None, OURS])
def test_a_folder_we_may_not_write(open_folder: Path, known: str | None) -> None:
    """
    Soup does not start on a folder it cannot write to, and says which.
    """
    sign(open_folder)

    with read_only(open_folder), pytest.raises(Refused, match=str(open_folder)):
        settle(open_folder, known)


def test_a_crash_in_the_middle(tmp_path: Path) -> None:
    """
    A name that was never finished is written again.
    """
    (tmp_path / f"{FILE}.new").write_text('{"uuid": "0c0')

    name = settle(tmp_path, None)

    assert name == settle(tmp_path, name)
    assert not (tmp_path / f"{FILE}.new").exists()
