"""The folder that a mirror's web server serves."""

import errno
import hashlib
import os
import stat
from pathlib import Path

import pytest
from soup_cdn_agent.folder import QUARANTINED, Folder

LEEK = b"leek"
DIGEST = hashlib.sha256(LEEK).hexdigest()
CREATED = 1_700_000_000


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path / "blobs", None)
    folder.open()
    return folder


@pytest.mark.row("S21")
def test_a_blob_lies_under_its_first_three_digits(folder: Folder) -> None:
    """
    `abc/abc...`, readable by the web server, dated with the time the blob was created.
    """
    assert [DIGEST] == folder.keep([(DIGEST, LEEK, CREATED)])

    file = folder.root / DIGEST[:3] / DIGEST
    seen = file.stat()
    assert LEEK == file.read_bytes()
    assert CREATED == seen.st_mtime
    assert 0o644 == stat.S_IMODE(seen.st_mode)
    assert 0o755 == stat.S_IMODE(file.parent.stat().st_mode)


def test_bytes_of_another_name_are_not_kept(folder: Folder) -> None:
    """
    Nothing appears under a name that is not that of its bytes, and nothing stays behind.
    """
    assert [] == folder.keep([(DIGEST, b"sand", CREATED)])

    assert not folder.path(DIGEST).exists()
    assert [] == [*folder.incoming.iterdir()]


def test_a_file_of_somebody_else_is_taken_when_it_is_right(folder: Folder) -> None:
    """
    Who filled the folder by hand need not fetch it again: what is right gets its date, what is not goes.
    """
    other = "0" * 64
    for digest, data in ((DIGEST, LEEK), (other, b"four")):
        folder.path(digest).parent.mkdir()
        folder.path(digest).write_bytes(data)
        folder.path(digest).chmod(0o600)

    assert [DIGEST] == folder.right([(DIGEST, 4, CREATED), (other, 4, CREATED), ("f" * 64, 1, CREATED)])

    assert CREATED == folder.path(DIGEST).stat().st_mtime
    assert 0o644 == stat.S_IMODE(folder.path(DIGEST).stat().st_mode)
    assert not folder.path(other).exists()
    assert b"four" == (folder.quarantine / other).read_bytes()


def test_the_quarantine_does_not_fill_the_disk(folder: Folder) -> None:
    """
    Of many bad files the last few are kept.
    """
    for place in range(QUARANTINED + 5):
        digest = f"{place:064x}"
        folder.path(digest).parent.mkdir(exist_ok=True)
        folder.path(digest).write_bytes(b"bad")
        folder.set_aside(digest)

    assert QUARANTINED == len([*folder.quarantine.iterdir()])


def test_files_are_blobs_of_their_folder_and_nothing_else(folder: Folder) -> None:
    """
    Other names, links, folders, and blobs in the wrong folder are nobody's business.
    """
    folder.keep([(DIGEST, LEEK, CREATED)])
    home = folder.path(DIGEST).parent
    (home / "notes.txt").write_text("x")
    (home / ("0" * 64)).write_text("x")
    (home / (DIGEST[:3] + "0" * 61)).symlink_to("/etc/passwd")

    assert {DIGEST: 4} == folder.files(DIGEST[:3])
    assert {} == folder.files("fff")


def test_what_a_crash_left_is_removed_and_what_was_fetched_is_not(folder: Folder) -> None:
    """
    A small blob that was being written is fetched anew; of a large one the part is good.
    """
    (folder.incoming / f"{DIGEST}.new").write_bytes(b"le")
    folder.part(DIGEST).write_bytes(b"le")

    folder.open()

    assert [folder.part(DIGEST)] == [*folder.incoming.iterdir()]


def test_another_disk_at_its_place_is_not_written(folder: Folder) -> None:
    """
    A disk that is unmounted leaves an empty folder behind; blobs do not belong into that.
    """
    assert folder.unwritable() is None

    folder.device += 1

    assert "another disk is mounted" in str(folder.unwritable())


def test_a_folder_that_cannot_be_written_says_why(folder: Folder) -> None:
    """
    The reason stands in the report.
    """
    folder.incoming.rmdir()
    folder.incoming.write_text("in the way")

    assert "cannot be written" in str(folder.unwritable())


def test_removing_forgets_what_was_fetched_as_well(folder: Folder) -> None:
    """
    A blob that is deleted while it is fetched leaves nothing.
    """
    folder.keep([(DIGEST, LEEK, CREATED)])
    folder.part(DIGEST).write_bytes(b"le")

    assert 1 == folder.remove([DIGEST, "0" * 64])

    assert not folder.path(DIGEST).exists()
    assert not folder.part(DIGEST).exists()


def test_one_blob_that_cannot_go_stops_no_other(folder: Folder) -> None:
    """
    A folder lies in its place: the others go. Who removes a single one is told.
    """
    folder.path("0" * 64).mkdir(parents=True)
    folder.keep([(DIGEST, LEEK, CREATED)])

    assert 1 == folder.remove(["0" * 64, DIGEST])

    assert not folder.path(DIGEST).exists()
    with pytest.raises(IsADirectoryError):
        folder.remove_one("0" * 64)


def test_a_disk_that_cannot_be_written_is_no_fault_of_a_file(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Whoever removes many is told so, and does not take them for removed.
    """

    def unlink(_: str) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "unlink", unlink)
    with pytest.raises(OSError, match="Read-only"):
        folder.remove([DIGEST])


def test_what_lies_in_the_way_of_one_blob_stops_no_other(folder: Folder) -> None:
    """
    Of many that came in one bundle all the others are kept, and nothing is left of that one.
    """
    folder.path(DIGEST).mkdir(parents=True)
    other = hashlib.sha256(b"kale").hexdigest()

    assert [other] == folder.keep([(DIGEST, LEEK, CREATED), (other, b"kale", CREATED)])

    assert [] == [*folder.incoming.iterdir()]


@pytest.mark.parametrize("to", ["right", "nothing"])
def test_a_link_is_no_blob(folder: Folder, tmp_path: Path, to: str) -> None:
    """
    No web server of ours follows it: it goes, and what it leads to stays as it is.
    """
    right = tmp_path / "right"
    right.write_bytes(LEEK)
    right.chmod(0o600)
    folder.path(DIGEST).parent.mkdir()
    folder.path(DIGEST).symlink_to(tmp_path / to)

    assert folder.size(DIGEST) is None
    assert folder.seen(DIGEST) is None
    assert not folder.whole(DIGEST)
    assert [] == folder.right([(DIGEST, 4, CREATED)])

    assert not folder.path(DIGEST).is_symlink()
    assert [] == [*folder.quarantine.iterdir()]
    assert 0o600 == stat.S_IMODE(right.stat().st_mode)


def test_a_pipe_is_not_waited_for(folder: Folder) -> None:
    """
    Nobody may ever write into it: it goes.
    """
    folder.path(DIGEST).parent.mkdir()
    os.mkfifo(folder.path(DIGEST))

    assert not folder.whole(DIGEST)
    assert [] == folder.right([(DIGEST, 0, CREATED)])

    assert not folder.path(DIGEST).exists()


def test_a_folder_in_the_place_of_a_blob_stays(folder: Folder) -> None:
    """
    Somebody may keep something there; it is no blob, and the others are looked at.
    """
    folder.keep([(DIGEST, LEEK, CREATED)])
    (folder.path("0" * 64) / "notes").mkdir(parents=True)

    assert [DIGEST] == folder.right([("0" * 64, 4, CREATED), (DIGEST, 4, CREATED)])

    assert folder.size("0" * 64) is None
    assert (folder.path("0" * 64) / "notes").exists()


@pytest.mark.parametrize(("mode", "right"), [(0o644, True), (0o640, False)])
def test_a_file_that_is_not_ours_is_right_if_all_may_read_it(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, mode: int, *, right: bool
) -> None:
    """
    Root has put it there, and only root may date it. One that the web server cannot read is set aside.
    """
    folder.keep([(DIGEST, LEEK, CREATED)])
    folder.path(DIGEST).chmod(mode)

    def not_ours(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "utime", not_ours)

    assert [DIGEST] * right == folder.right([(DIGEST, 4, CREATED + 1)])

    assert folder.path(DIGEST).exists() == right
