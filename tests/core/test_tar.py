"""Members of a tar, against the programs that unpack them."""

import io
import subprocess
import tarfile
from datetime import UTC, datetime

import pytest

from soup.core import tar
from soup.core.blob import Blob
from soup.core.digest import Digest
from tests.conftest import program

LEEK = Digest.of(b"leek")
NOON = datetime(2026, 1, 1, 12, 0, 0, 999_999, UTC)


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513])
def test_an_archive(size: int) -> None:
    """
    A regular file under its folder, readable by all, of nobody in particular, as old as the blob.
    """
    data = bytes(size)
    archive = tar.header(Blob(LEEK, size), NOON) + data + tar.padding(size) + tar.END

    assert 0 == len(archive) % 512
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        (member,) = opened.getmembers()
        file = opened.extractfile(member)
        assert file is not None
        assert data == file.read()
    assert f"{LEEK[:3]}/{LEEK}" == member.name
    assert (True, 0o644, 0, 0) == (member.isreg(), member.mode, member.uid, member.gid)
    assert int(NOON.timestamp()) == member.mtime


@pytest.mark.parametrize("size", [tar.LARGEST, tar.LARGEST + 1, 1 << 50])
def test_a_large_one(size: int) -> None:
    """
    Above 8 GiB, where the digits of a plain header end, `tar` reads the size as well.
    """
    header = tar.header(Blob(LEEK, size), NOON)

    listed = subprocess.run([program("tar"), "-tvf", "-"], input=header, capture_output=True, check=False)

    assert 512 == len(header)
    assert f" {size} " in listed.stdout.decode()
    assert (size <= tar.LARGEST) == (header[257:265] == b"ustar\x0000")
