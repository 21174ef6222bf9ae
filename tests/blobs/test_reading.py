"""The bytes behind a direct answer (D4)."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from soup.blobs.reading import PIECE, Reading
from soup.blobs.service import Blobs
from soup.core.blob import Blob
from soup.core.digest import Digest
from soup.core.errors import BlobMissing, StoreDown
from soup.core.span import Span
from soup.stores.disk import Disk
from soup.stores.local import LocalStore
from tests.blobs.conftest import LEEK, keep
from tests.conftest import Cook, Kitchen
from tests.contract import read
from tests.folders import handles, tells

SMALL = Blob(LEEK, 4)
BROTH = os.urandom(2 * PIECE + 9)
LARGE = Blob(Digest.of(BROTH), len(BROTH))


async def sent(blobs: Blobs, blob: Blob, span: Span | None = None) -> bytes:
    with await blobs.open(blob) as opened:
        return await read(opened.pieces(span or Span(0, blob.size - 1)))


@pytest.mark.row("S37")
@pytest.mark.parametrize("data", [b"leek", BROTH, b"x" * 65_536, b"x" * 65_537])
async def test_whole_and_in_part(blobs: Blobs, data: bytes) -> None:
    """
    Small and large, whole and in part, exactly the bytes that were asked for come.
    """
    blob = Blob((await keep(blobs, data)).digest, len(data))
    spans = [Span(0, 0), Span(0, len(data) - 1), Span(1, len(data) - 2), Span(len(data) - 1, len(data) - 1)]

    assert data == await sent(blobs, blob)
    for span in spans:
        assert data[span.first : span.last + 1] == await sent(blobs, blob, span)


async def test_the_empty_blob(blobs: Blobs) -> None:
    """
    Nothing is sent for the empty blob, and that is no error.
    """
    await keep(blobs, b"")

    assert b"" == await sent(blobs, Blob(Digest.of(b""), 0))


HARM: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "short": lambda file: os.truncate(file, file.stat().st_size - 1),
    "long": lambda file: os.truncate(file, file.stat().st_size + 1),
    "empty": lambda file: os.truncate(file, 0),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
    "no folder": lambda file: (file.unlink(), file.parent.rmdir()),
}


@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize("data", [b"leek", BROTH])
async def test_a_file_that_is_not_what_it_was(kitchen: Kitchen, blobs: Blobs, data: bytes, harm: str) -> None:
    """
    A file that is missing or has another size is BlobMissing before a byte is sent; an upload repairs it.
    """
    digest = (await keep(blobs, data)).digest
    assert data == await sent(blobs, Blob(digest, len(data)))
    HARM[harm](kitchen.file(digest))

    with pytest.raises(BlobMissing) as caught:
        await blobs.open(Blob(digest, len(data)))

    assert digest == caught.value.digest
    if harm != "a folder":
        await keep(blobs, data)
        assert data == await sent(blobs, Blob(digest, len(data)))


@pytest.mark.row("S35")
async def test_a_small_file_that_was_altered(kitchen: Kitchen, blobs: Blobs) -> None:
    """
    A small file is checked against its name before it is sent, also when it was good and looks untouched.
    """
    await keep(blobs, b"leek")
    assert b"leek" == await sent(blobs, SMALL)
    file = kitchen.file(LEEK)
    before = file.stat()

    with file.open("r+b") as altered:
        altered.write(b"kale")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

    with pytest.raises(BlobMissing):
        await blobs.open(SMALL)
    await keep(blobs, b"leek")
    assert b"leek" == await sent(blobs, SMALL)


async def test_how_large_small_is(cook: Cook) -> None:
    """
    Up to which size files are checked is a setting; 0 stands for none but the empty blob.
    """
    kitchen = await cook(serve={"verify_up_to": 0})
    await keep(kitchen.soup.blobs, b"leek")
    kitchen.file(LEEK).write_bytes(b"kale")

    assert b"kale" == await sent(kitchen.soup.blobs, SMALL)


async def test_shorter_while_it_is_read(kitchen: Kitchen, blobs: Blobs) -> None:
    """
    A file that ends before it should breaks the answer off: it is never filled up, never cut in silence.
    """
    await keep(blobs, BROTH)
    with await blobs.open(LARGE) as opened:
        pieces = opened.pieces(Span(0, LARGE.size - 1))
        await anext(pieces)
        os.truncate(kitchen.file(LARGE.digest), PIECE + 10)

        with pytest.raises(BlobMissing):
            await read(pieces)


@pytest.mark.parametrize("data", [b"leek", BROTH])
async def test_an_answer_under_way(kitchen: Kitchen, blobs: Blobs, data: bytes) -> None:
    """
    What is being sent is sent to its end, whatever happens to the name meanwhile.
    """
    digest = (await keep(blobs, data)).digest
    with await blobs.open(Blob(digest, len(data))) as opened:
        await blobs.delete(digest)
        kitchen.file(digest).unlink()

        assert data == await read(opened.pieces(Span(0, len(data) - 1)))


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[tuple[Reading, Disk]]:
    """A store of its own with LEEK and BROTH, and the two threads of its disk."""
    disk = Disk(threads=2, seconds=0.5)
    store = LocalStore(disk, tmp_path)
    for blob, data in ((SMALL, b"leek"), (LARGE, BROTH)):
        file = store.path(blob.digest)
        file.parent.mkdir()
        file.write_bytes(data)
        if not tells(file):
            pytest.skip("the file system of temporary files does not tell what is in memory")
    yield Reading(store, disk, verify_up_to=65_536), disk
    disk.close()


async def answered(reading: Reading, blob: Blob) -> bytes:
    with await reading.open(blob) as opened:
        return await read(opened.pieces(Span(0, blob.size - 1)))


async def test_what_is_in_memory_needs_no_thread(local: tuple[Reading, Disk]) -> None:
    """
    A small blob that was checked, and a large one, are read at once; a thread checks.
    """
    reading, disk = local
    assert b"leek" == await answered(reading, SMALL)
    disk.close()

    assert b"leek" == await answered(reading, SMALL)
    assert BROTH == await answered(reading, LARGE)
    os.posix_fadvise(fd := os.open(reading._store.path(LEEK), os.O_RDONLY), 0, 0, os.POSIX_FADV_DONTNEED)
    os.utime(fd)
    os.close(fd)
    with pytest.raises(StoreDown):
        await reading.open(SMALL)


async def test_a_disk_that_hangs_is_not_asked_in_the_loop(
    local: tuple[Reading, Disk], tmp_path: Path
) -> None:
    """
    Where more than half of the threads are busy, what is in memory goes by a thread too, with its limit.
    """
    reading, disk = local
    assert b"leek" == await answered(reading, SMALL)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    hang = [asyncio.create_task(disk.run(os.open, fifo, os.O_RDONLY)) for _ in range(2)]
    await asyncio.sleep(0.05)
    began = time.monotonic()

    with pytest.raises(StoreDown):
        await reading.open(SMALL)

    assert 0.3 < time.monotonic() - began < 5
    for failed in await asyncio.gather(*hang, return_exceptions=True):
        assert isinstance(failed, StoreDown)
    os.close(os.open(fifo, os.O_RDWR))


async def test_a_pipe_in_place_of_a_file(local: tuple[Reading, Disk]) -> None:
    """
    Whatever lies there, the event loop does not wait for it.
    """
    reading, _ = local
    file = reading._store.path(LEEK)
    file.unlink()
    os.mkfifo(file)
    asked = asyncio.create_task(reading.open(SMALL))
    began = time.monotonic()

    await asyncio.sleep(0.01)

    assert time.monotonic() - began < 0.3
    with pytest.raises(StoreDown):
        await asked
    os.close(os.open(file, os.O_RDWR))


async def test_files_are_given_back(kitchen: Kitchen, blobs: Blobs) -> None:
    """
    Every file that was opened is closed, whether the answer went well or not.
    """
    await keep(blobs, BROTH)
    await keep(blobs, b"leek")
    before = handles()

    for blob in (LARGE, SMALL) * 3:
        await sent(blobs, blob)
    os.truncate(kitchen.file(LARGE.digest), 5)
    kitchen.file(LEEK).write_bytes(b"kale")
    for blob in (LARGE, SMALL) * 3:
        with pytest.raises(BlobMissing):
            await blobs.open(blob)

    assert before == handles()
