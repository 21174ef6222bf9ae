"""Blocking calls: off the loop, with a limit, in soup's own errors."""

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from soup.core.errors import BlobUnknown, NoRoom, StoreDown
from soup.stores.disk import Disk


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[Path]:
    """A file whose opening hangs in the kernel, as on a disk that does not answer."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    yield fifo
    release(fifo)


def release(fifo: Path) -> None:
    os.close(os.open(fifo, os.O_RDWR | os.O_NONBLOCK))


def look(fifo: Path) -> None:
    os.close(os.open(fifo, os.O_RDONLY))


async def test_off_the_loop(disk: Disk) -> None:
    """
    A call runs in a thread of its own and gives back what it returns.
    """
    assert threading.main_thread().ident != await disk.run(threading.get_ident)
    assert b"leek" == await disk.run(bytes.join, b"", [b"le", b"ek"])


async def test_a_hanging_call(hanging: Path) -> None:
    """
    A disk that does not answer is StoreDown within the limit, and the loop goes on meanwhile.
    """
    disk = Disk(threads=2, seconds=0.2)
    turns = 0
    began = time.monotonic()
    asked = asyncio.create_task(disk.run(look, hanging))
    while not asked.done():
        turns += 1
        await asyncio.sleep(0.01)

    with pytest.raises(StoreDown):
        await asked
    assert 0.2 <= time.monotonic() - began < 2
    assert turns >= 5
    disk.close()


async def test_what_nobody_waits_for_is_not_begun(hanging: Path, tmp_path: Path) -> None:
    """
    Who was told that the disk does not answer may count on it: nothing is removed an hour later.
    """
    disk, file = Disk(threads=1, seconds=0.2), tmp_path / "leek"
    file.touch()
    first = asyncio.create_task(disk.run(look, hanging))
    await asyncio.sleep(0.05)
    with pytest.raises(StoreDown):
        await disk.run(file.unlink)
    with pytest.raises(StoreDown):
        await first

    release(hanging)
    assert 3 == await disk.run(len, "end")
    assert file.exists()
    disk.close()


async def test_one_hangs_and_others_do_not(hanging: Path) -> None:
    """
    A hanging call takes one thread, the others answer. When all hang, nobody waits longer than the limit.
    """
    disk = Disk(threads=2, seconds=0.3)
    one = asyncio.create_task(disk.run(look, hanging))
    await asyncio.sleep(0)
    assert 2 == await disk.run(len, "ab")
    two = asyncio.create_task(disk.run(look, hanging))
    await asyncio.sleep(0)

    results = await asyncio.gather(one, two, disk.run(len, "ab"), return_exceptions=True)
    release_both = [asyncio.to_thread(release, hanging) for _ in range(2)]
    await asyncio.gather(*release_both)

    assert [StoreDown] * 3 == [type(result) for result in results]
    assert 2 == await disk.run(len, "ab")
    disk.close()


async def test_a_full_disk(disk: Disk) -> None:
    """
    "No space left on device" is NoRoom, and its cause stays attached.
    """
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(NoRoom) as caught:
            await disk.run(os.write, fd, b"leek")
    finally:
        os.close(fd)

    assert isinstance(caught.value.__cause__, OSError)


async def test_every_other_failure(disk: Disk, tmp_path: Path) -> None:
    """
    Whatever else a disk says is StoreDown, a missing file included: only a store knows what that means.
    """
    (tmp_path / "file").touch()
    for call, path in ((os.open, "gone"), (os.listdir, "file"), (os.rmdir, "file"), (os.readlink, "file")):
        with pytest.raises(StoreDown):
            await disk.run(call, tmp_path / path, *([os.O_RDONLY] if call is os.open else []))


async def test_soups_own_errors_pass(disk: Disk) -> None:
    """
    What a store raises itself comes out as it is, and a mistake of ours stays a mistake.
    """

    def unknown() -> None:
        raise BlobUnknown("not here")

    with pytest.raises(BlobUnknown):
        await disk.run(unknown)
    with pytest.raises(ZeroDivisionError):
        await disk.run(lambda: 1 // 0)
