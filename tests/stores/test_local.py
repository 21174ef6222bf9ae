"""A store in a folder."""

import asyncio
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from soup.core.digest import Digest
from soup.core.errors import NoRoom, StoreDown
from soup.stores.disk import Disk
from soup.stores.local import QUARANTINE, SPOOL, LocalStore
from tests.contract import BROTH, blob_of, read, source, walked
from tests.folders import handles, names
from tests.stores.conftest import TINY, read_only

LEEK = blob_of(b"leek")


@pytest.fixture
def store(disk: Disk, tmp_path: Path) -> LocalStore:
    (tmp_path / "blobs" / SPOOL).mkdir(parents=True)
    return LocalStore(disk, tmp_path / "blobs")


@pytest.mark.row("S21")
async def test_where_a_blob_lies(store: LocalStore) -> None:
    """
    A blob is a file named by all 64 digits in a folder named by the first three, which web servers may read.
    """
    await store.put(LEEK, source(b"leek"))

    file = store.folder / LEEK.digest[:3] / LEEK.digest
    umask = os.umask(0)
    os.umask(umask)
    assert file == store.path(LEEK.digest)
    assert b"leek" == file.read_bytes()
    assert 0o644 & ~umask == file.stat().st_mode & 0o777


async def test_an_upload_becomes_the_file(store: LocalStore) -> None:
    """
    From the store's own spool no copy is made: what was written is what is kept.
    """
    async with store._spool.receive(source(BROTH)()) as upload:
        inode = os.fstat(upload._fd).st_ino
        await store.put(upload.blob, upload)

    assert inode == store.path(Digest.of(BROTH)).stat().st_ino


async def test_a_walk_passes_over_other_things(store: LocalStore) -> None:
    """
    Only files under their own digest in their own folder are blobs.
    """
    await store.put(LEEK, source(b"leek"))
    kale, folder = Digest.of(b"kale"), store.folder / LEEK.digest.folder
    other = Digest(LEEK.digest[:3] + kale[3:])
    for stray in ("soup-store.json", "abcd/x", f"{LEEK.digest[:3]}/README", f"000/{kale}", str(kale)):
        (store.folder / stray).parent.mkdir(exist_ok=True)
        (store.folder / stray).write_bytes(b"x")
    (folder / LEEK.digest.upper()).write_bytes(b"x")
    (folder / other).mkdir()
    (store.folder / "abc").write_bytes(b"no folder")
    (folder / (LEEK.digest[:3] + "0" * 61)).symlink_to(store.path(LEEK.digest))

    assert [LEEK] == await walked(store)


async def test_a_walk_while_blobs_are_dropped(store: LocalStore) -> None:
    """
    What is dropped under a walk's feet is passed over.
    """
    blobs = [blob_of(b"%d" % number) for number in range(200)]
    for number, blob in enumerate(blobs):
        await store.put(blob, source(b"%d" % number))

    walks = asyncio.gather(*(walked(store) for _ in range(20)))
    for blob in blobs:
        await store.drop(blob.digest)

    for found in await walks:
        assert sorted(found, key=lambda blob: blob.digest) == found
    assert [] == await walked(store)


async def test_dropping_a_file_and_no_other(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What has come in the place of the file that is meant stays, also where it comes while that goes.
    """
    await store.put(LEEK, source(b"leek"))
    before = await store.file(LEEK.digest)
    await store.put(LEEK, source(b"leek"))
    file = await store.file(LEEK.digest)
    assert before is not None
    assert file not in {before, None}

    await store.drop(LEEK.digest, before)
    assert file == await store.file(LEEK.digest)
    with monkeypatch.context() as patched:
        patched.setattr(store, "_file", lambda _: before)  # as it was a moment ago
        await store.drop(LEEK.digest, before)
    assert b"leek" == await read(store.open(LEEK.digest))
    assert [] == names(store.folder / SPOOL)

    await store.drop(LEEK.digest, await store.file(LEEK.digest))
    assert not await store.has(LEEK.digest)
    assert [] == names(store.folder / SPOOL)


async def test_setting_aside(store: LocalStore) -> None:
    """
    What is set aside is kept, and no verb sees it any more.
    """
    await store.put(LEEK, source(b"leek"))
    file = await store.file(LEEK.digest)
    assert file is not None

    assert await store.set_aside(LEEK.digest, file)

    assert b"leek" == (store.folder / QUARANTINE / LEEK.digest).read_bytes()
    assert not await store.has(LEEK.digest)
    assert await store.file(LEEK.digest) is None
    assert [] == await walked(store)
    await store.drop(LEEK.digest)
    assert [LEEK.digest] == names(store.folder / QUARANTINE)


async def test_setting_aside_what_was_replaced(store: LocalStore) -> None:
    """
    A file that has come in the place of the one that is meant stays where it is.
    """
    await store.put(LEEK, source(b"leek"))
    file = await store.file(LEEK.digest)
    assert file is not None
    await store.put(LEEK, source(b"leek"))

    assert not await store.set_aside(LEEK.digest, file)

    assert b"leek" == await read(store.open(LEEK.digest))


async def test_which_file_it_is(store: LocalStore) -> None:
    """
    A file is the same until it is written to or replaced; a store that is not mounted does not say.
    """
    await store.put(LEEK, source(b"leek"))
    first = await store.file(LEEK.digest)
    assert first == await store.file(LEEK.digest)
    store.path(LEEK.digest).write_bytes(b"leej")
    second = await store.file(LEEK.digest)
    await store.put(LEEK, source(b"leek"))

    assert 3 == len({first, second, await store.file(LEEK.digest)})
    shutil.rmtree(store.folder)
    with pytest.raises(StoreDown):
        await store.file(LEEK.digest)


async def test_its_folder_is_gone(store: LocalStore) -> None:
    """
    Without its folder a store is down; it never makes the folder anew.
    """
    shutil.rmtree(store.folder)

    with pytest.raises(StoreDown):
        await store.put(LEEK, source(b"leek"))
    with pytest.raises(StoreDown):
        await walked(store)

    assert not store.folder.exists()


async def test_a_folder_where_the_file_should_be(store: LocalStore) -> None:
    """
    Something that cannot be replaced is StoreDown, and the upload leaves nothing behind.
    """
    (store.path(LEEK.digest) / "inside").mkdir(parents=True)

    with pytest.raises(StoreDown):
        await store.put(LEEK, source(b"leek"))

    assert [] == names(store.folder / SPOOL)


async def test_part_of_it_on_another_file_system(store: LocalStore) -> None:
    """
    What cannot become the file is an error: a put that returns has kept the blob.
    """
    elsewhere = Path(tempfile.mkdtemp(dir="/dev/shm"))
    (store.folder / LEEK.digest.folder).symlink_to(elsewhere)
    try:
        with pytest.raises(StoreDown):
            await store.put(LEEK, source(b"leek"))

        assert [] == names(elsewhere)
    finally:
        shutil.rmtree(elsewhere)


async def test_its_disk_is_full(disk: Disk, tiny: Path) -> None:
    """
    A blob that does not fit is NoRoom, nothing of it stays, and what fits is still taken.
    """
    (tiny / SPOOL).mkdir()
    store = LocalStore(disk, tiny)
    large = blob_of(bytes(2 * TINY))

    with pytest.raises(NoRoom):
        await store.put(large, source(bytes(2 * TINY)))

    assert [] == await walked(store)
    await store.put(LEEK, source(b"leek"))
    assert b"leek" == await read(store.open(LEEK.digest))


async def test_its_folder_is_read_only(open_folder: Path) -> None:
    """
    A store that may not write is down for writing, and reads all the same.
    """
    disk = Disk(threads=2)
    (open_folder / SPOOL).mkdir()
    store = LocalStore(disk, open_folder)
    await store.put(LEEK, source(b"leek"))

    with read_only(open_folder):
        with pytest.raises(StoreDown):
            await store.put(blob_of(b"kale"), source(b"kale"))
        with pytest.raises(StoreDown):
            await store.drop(LEEK.digest)

        assert b"leek" == await read(store.open(LEEK.digest))
        assert [LEEK] == await walked(store)
    disk.close()


async def test_readers_who_leave(store: LocalStore) -> None:
    """
    A reader who stops early gives the file back.
    """
    await store.put(blob_of(BROTH), source(BROTH))
    before = handles()

    for _ in range(5):
        pieces = store.open(Digest.of(BROTH))
        await anext(pieces)
        await pieces.aclose()  # type: ignore[attr-defined]

    assert before == handles()
