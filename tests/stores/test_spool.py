"""The one door for new bytes (D5)."""

import asyncio
import os
import subprocess
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from soup.core.blob import Blob
from soup.core.digest import Digest
from soup.core.errors import ClientGone, NoRoom, StoreDown, TooLarge
from soup.stores.disk import Disk
from soup.stores.spool import PIECE, Spool
from tests.contract import body, read
from tests.folders import handles, names
from tests.stores.conftest import TINY
from tests.stores.spooling import start

MEGABYTE = 1 << 20


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where uploads lie; nothing is left in it, and no file open, when a test ends."""
    folder = tmp_path / "spool"
    folder.mkdir()
    before = handles()
    yield folder
    assert [] == names(folder)
    assert before == handles()


@pytest.fixture
def spool(disk: Disk, folder: Path) -> Spool:
    return Spool(disk, folder, keep_free=0, largest=None)


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    with process:
        try:
            yield process
        finally:
            process.kill()


async def test_name_and_size_are_learned(spool: Spool) -> None:
    """
    A body of unknown name has its digest and size when it is down, and can be read again and again.
    """
    data = os.urandom(PIECE + 7)

    async with spool.receive(body(data, 1000)) as upload:
        assert Blob(Digest.of(data), len(data)) == upload.blob
        assert data == await read(upload())
        assert data == await read(upload())


async def test_the_empty_body(spool: Spool) -> None:
    """
    The empty blob is a blob.
    """
    async with spool.receive(body(b"")) as upload:
        assert Blob(Digest.of(b""), 0) == upload.blob
        assert b"" == await read(upload())


async def test_an_upload_has_no_name(spool: Spool, folder: Path) -> None:
    """
    While bytes come there is no file to be seen: a crash leaves nothing.
    """
    seen = []

    async def watched() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield bytes(PIECE)
            seen.append(names(folder))

    async with spool.receive(watched()) as upload:
        seen.append(names(folder))

        assert 3 * PIECE == upload.size
    assert [[]] * 4 == seen


async def test_constant_memory(spool: Spool) -> None:
    """
    What an upload takes of memory does not depend on its size.
    """

    async def long() -> AsyncIterator[bytes]:
        for _ in range(1024):
            yield os.urandom(PIECE // 4)

    tracemalloc.start()
    try:
        async with spool.receive(long()) as upload:
            peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert 64 * MEGABYTE == upload.size
    assert peak < 4 * PIECE


async def test_too_large(disk: Disk, folder: Path) -> None:
    """
    A body is cut as soon as it is larger than the largest; the rest of it is not read.
    """
    small = Spool(disk, folder, keep_free=0, largest=10)
    came = []

    async def endless() -> AsyncIterator[bytes]:
        while True:
            came.append(1)
            yield b"1234"

    with pytest.raises(TooLarge):
        async with small.receive(endless()):
            pass

    assert 3 == len(came)
    async with small.receive(body(b"1234567890")) as upload:
        assert 10 == upload.size


async def test_announced_too_large(disk: Disk, folder: Path) -> None:
    """
    A body that says how large it is, is refused before a byte of it has come.
    """
    small = Spool(disk, folder, keep_free=0, largest=10)

    with pytest.raises(TooLarge):
        await small.expect(11)
    await small.expect(10)
    await small.expect(None)


async def test_room_is_kept_free(disk: Disk, folder: Path) -> None:
    """
    An upload that would leave less room than is to stay free is refused: announced at once, else as it comes.
    """
    room = os.statvfs(folder)
    free = room.f_bavail * room.f_frsize
    half = Spool(disk, folder, keep_free=free // 2, largest=None)
    none = Spool(disk, folder, keep_free=2 * free, largest=None)

    await half.expect(0)
    with pytest.raises(NoRoom):
        await half.expect(free)
    with pytest.raises(NoRoom):
        await none.expect(0)
    with pytest.raises(NoRoom):
        async with none.receive(body(b"leek")):
            pass


async def test_room_that_is_kept_unasked(disk: Disk, folder: Path) -> None:
    """
    Without a setting a gigabyte stays free, or a hundredth where that is less.
    """
    room = os.statvfs(folder)
    free, kept = room.f_bavail * room.f_frsize, min(1 << 30, room.f_blocks * room.f_frsize // 100)
    unasked = Spool(disk, folder, keep_free=None, largest=None)

    with pytest.raises(NoRoom, match=str(kept)):
        await unasked.expect(free - kept // 2)
    await unasked.expect(max(0, free - 2 * kept - (1 << 30)))


async def test_a_full_disk(disk: Disk, tiny: Path) -> None:
    """
    A disk that is full in the middle of an upload is NoRoom; what was written is free again at once.
    """
    spool = Spool(disk, tiny, keep_free=0, largest=None)

    with pytest.raises(NoRoom):
        async with spool.receive(body(bytes(2 * TINY))):
            pass

    assert [] == names(tiny)
    async with spool.receive(body(bytes(TINY // 2))) as upload:
        assert TINY // 2 == upload.size


async def test_the_client_leaves(spool: Spool) -> None:
    """
    What ends the body ends the upload, and nothing of it stays.
    """

    async def cut() -> AsyncIterator[bytes]:
        yield bytes(2 * PIECE)
        raise ClientGone("left")

    with pytest.raises(ClientGone):
        async with spool.receive(cut()):
            pass


async def test_an_upload_is_cancelled(spool: Spool) -> None:
    """
    A request that is given up, whenever that is, leaves neither a file nor a handle.
    """

    async def take() -> None:
        async with spool.receive(body(bytes(50 * PIECE), PIECE)):
            await asyncio.sleep(0)

    for turns in range(0, 60, 3):
        task = asyncio.create_task(take())
        for _ in range(turns):
            await asyncio.sleep(0.0001)
        task.cancel()
        await asyncio.wait([task])


async def test_too_late(spool: Spool, disk: Disk, tmp_path: Path) -> None:
    """
    An upload that is over gives an error, and never another file that has its handle's number by now.
    """
    async with spool.receive(body(b"leek")) as upload:
        pass
    async with spool.receive(body(b"kale")) as other:
        with pytest.raises(StoreDown):
            await disk.run(upload.adopt, tmp_path / "leek")
        with pytest.raises(StoreDown):
            await read(upload())

        assert b"kale" == await read(other())
    assert not (tmp_path / "leek").exists()


async def test_no_folder(disk: Disk, tmp_path: Path) -> None:
    """
    A folder that is gone, as when a disk was unmounted, is a store that is down.
    """
    nowhere = Spool(disk, tmp_path / "gone", keep_free=0, largest=None)

    with pytest.raises(StoreDown):
        await nowhere.expect(1)
    with pytest.raises(StoreDown):
        async with nowhere.receive(body(b"leek")):
            pass


def test_killed(folder: Path) -> None:
    """
    A process that is killed in the middle of an upload leaves nothing.
    """
    with ended(start("upload", folder, MEGABYTE)) as process:
        held = [file.stat().st_size for file in Path(f"/proc/{process.pid}/fd").iterdir()]
        assert max(held) > MEGABYTE, "it is in the middle of it"
        process.kill()
        process.wait()

    assert [] == names(folder)


def test_killed_with_a_name(spool: Spool, folder: Path) -> None:
    """
    Where files must have names, a killed process leaves one, and the next sweep takes it.
    """
    with ended(start("upload", folder, MEGABYTE, "named")) as process:
        process.kill()
        process.wait()
    assert 1 == len(names(folder))

    assert 1 == spool.sweep()
    assert 0 == spool.sweep()


def test_the_sweep_spares_the_living(spool: Spool, folder: Path) -> None:
    """
    The sweep takes only what it can lock, never a live upload of another process.
    """
    with ended(start("upload", folder, MEGABYTE, "named")) as process:
        (folder / "upload.0123456789abcdef").write_bytes(b"what a crash left")

        assert 1 == spool.sweep()
        assert 1 == len(names(folder))

        said = process.communicate(b"go on\n", timeout=20)[0]
        assert Digest.of(bytes(MEGABYTE) + bytes(1 << 20) + b"end") == said.decode().strip()
        assert 0 == process.returncode


@pytest.mark.usefixtures("only_named_files")
async def test_a_sweep_that_never_rests(spool: Spool, folder: Path, tmp_path: Path) -> None:
    """
    However the sweep of another process falls between the steps of an upload, it takes none of it away.
    """
    target = tmp_path / "kept"
    with ended(start("sweep", folder)):
        for number in range(500):
            data = b"%d" % number
            async with spool.receive(body(data)) as upload:
                await asyncio.to_thread(upload.adopt, target)  # the first makes the file, others replace it
            assert data == target.read_bytes()


def test_what_is_no_upload(spool: Spool, folder: Path, tmp_path: Path) -> None:
    """
    The sweep follows no link and takes no folder.
    """
    (tmp_path / "precious").write_bytes(b"ours")
    (folder / "link").symlink_to(tmp_path / "precious")
    (folder / "folder").mkdir()

    assert 0 == spool.sweep()

    assert b"ours" == (tmp_path / "precious").read_bytes()
    (folder / "link").unlink()
    (folder / "folder").rmdir()
