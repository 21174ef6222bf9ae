"""Folders and disks that are not as one would wish."""

import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from soup.stores.disk import Disk
from tests.stores.spooling import refusing

NOBODY = 65534
TINY = 1 << 20  # bytes


@pytest.fixture
def disk() -> Iterator[Disk]:
    disk = Disk(threads=8)
    yield disk
    disk.close()


@pytest.fixture
def only_named_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without unnamed files."""
    monkeypatch.setattr(os, "open", refusing(os.open))


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A folder that takes a megabyte: a small disk, or the kernel's limit where we may not mount one."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={TINY}", "tmpfs", str(folder)]
    if os.geteuid() == 0 and not subprocess.run(mount, capture_output=True, check=False).returncode:
        yield folder
        subprocess.run(["umount", str(folder)], check=True)  # noqa: S607 - the system's own
    else:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (TINY, before[1]))
        yield folder
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nobody may write here, and we are nobody: root would write all the same."""
    folder.chmod(0o555)
    me = os.geteuid()
    if me == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(me)
        folder.chmod(0o755)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder whose parents everybody may enter."""
    folder = Path(tempfile.mkdtemp(prefix="soup-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)
