"""Reads that never wait."""

import os
from pathlib import Path

import pytest

from soup.stores import cached
from tests.folders import handles, tells


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that is in memory."""
    made = tmp_path / "leek"
    made.write_bytes(b"leek" * 4096)
    if not tells(made):
        pytest.skip("the file system of temporary files does not tell what is in memory")
    return made


@pytest.mark.parametrize(("size", "wanted"), [(1, b"l"), (6, b"leekle"), (20_000, b"leek" * 4096)])
def test_in_memory(file: Path, size: int, wanted: bytes) -> None:
    """
    The first bytes come with the file, as many as there are.
    """
    found = cached.open_file(os.fsencode(file), size)

    assert found
    fd, data = found
    assert wanted == data
    buffer = bytearray(4)
    assert 4 == cached.read(fd, buffer, 2)
    assert b"ekle" == buffer
    assert 2 == cached.read(fd, buffer, 4 * 4096 - 2)
    assert 0 == cached.read(fd, buffer, 4 * 4096)
    os.close(fd)


def test_not_in_memory(file: Path) -> None:
    """
    What only the disk has is not waited for.
    """
    fd = os.open(file, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

    assert cached.read(fd, bytearray(4), 0) is None
    os.close(fd)


@pytest.mark.parametrize("path", [b"/proc/version", b"/nowhere/at/all"])
def test_nothing_to_be_had(path: bytes) -> None:
    """
    A file system that cannot tell, and a file that is not there, are left to a thread.
    """
    assert cached.open_file(path, 1) is None


def test_no_file_stays_open(file: Path) -> None:
    """
    What could not be had is closed again.
    """
    before = handles()

    for path in (b"/proc/version", os.fsencode(file.parent)):
        assert cached.open_file(path, 1) is None

    assert before == handles()
