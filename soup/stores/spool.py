"""The one door for new bytes (D5)."""

import asyncio
import errno
import fcntl
import hashlib
import os
import secrets
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from soup import metrics
from soup.core.blob import Blob
from soup.core.digest import Digest
from soup.core.errors import NoRoom, TooLarge
from soup.stores.disk import Disk, sync_folder

PIECE = (
    256 * 1024
)  # bytes handed to a thread at once: large enough to pay for the hop, small enough for many uploads


AMPLE = 16 << 20  # bytes; while there is room for many more, it is looked at once a second


class Spooled:
    """Bytes on disk whose name and size are known. A Source: call it to read them.

    Its file is made with the first bytes, in the same thread: a small upload is on disk with one trip there.
    """

    def __init__(self, disk: Disk, folder: Path) -> None:
        self._disk, self._folder = disk, folder
        self._fd: int | None = None  # not made yet; -1 when it is over
        self._name: Path | None = None
        self._sha = hashlib.sha256()
        self._busy = threading.Lock()  # an asker may be cancelled while its thread still writes
        self.size = 0
        self.adopted = False  # it has a name in a store

    @property
    def blob(self) -> Blob:
        """What arrived so far; final once the spool has handed it out."""
        return Blob(Digest(self._sha.hexdigest()), self.size)

    async def __call__(self) -> AsyncIterator[bytes]:
        """Its bytes from the start."""
        place = 0
        while piece := await self._disk.run(self._read, place):
            place += len(piece)
            yield piece

    def _read(self, place: int) -> bytes:
        with self._busy:
            return os.pread(self._live(), PIECE, place)

    def _live(self) -> int:
        if self._fd is None:
            self._make()
        if self._fd is None or self._fd < 0:
            raise OSError(errno.EBADF, "this upload is over")
        return self._fd

    def _make(self) -> None:
        try:
            self._fd = os.open(self._folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o644)
        except OSError:  # a file system without unnamed files: NFS, some FUSE
            self._make_named()

    def _make_named(self) -> None:
        while self._fd is None:
            name = self._folder / f"upload.{secrets.token_hex(8)}"
            fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                if os.fstat(fd).st_nlink:
                    self._fd, self._name = fd, name
                    return
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)  # a sweep was faster than our lock and took the new file away: another one

    def write(self, pieces: list[bytes]) -> None:
        """Append, in a thread."""
        with self._busy:
            fd = self._live()
            for piece in pieces:
                self._sha.update(piece)
                rest = memoryview(piece)
                while rest:
                    rest = rest[os.write(fd, rest) :]
                self.size += len(piece)

    async def sync(self) -> None:
        """Have its bytes on disk, so that to adopt it takes no time. Raises StoreDown."""
        await self._disk.run(self._sync)

    def _sync(self) -> None:
        with self._busy:
            os.fsync(self._live())

    def adopt(self, target: Path) -> None:
        """Become this file, durably, in place of one that may lie there. In a thread; no copy is made.

        Raises OSError: EXDEV when the target is on another file system.
        """
        with self._busy:
            os.fsync(self._live())
            try:
                self._link(target)
            except FileExistsError:
                self._replace(target)
            sync_folder(target.parent)
            self.adopted = True

    def _replace(self, target: Path) -> None:
        # A link cannot replace, a rename can. The file is locked by our own handle before it has a name in
        # between, so that the sweep of another process takes it for what it is: alive.
        fcntl.flock(self._live(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        between = self._folder / f"{target.name}.{secrets.token_hex(8)}"
        self._link(between)
        try:
            between.rename(target)
        finally:
            between.unlink(missing_ok=True)  # a rename onto itself is none: the target may be this very file

    def _link(self, target: Path) -> None:
        # With a src_dir_fd Python calls linkat(2) so that it follows /proc/self/fd/N to the unnamed file;
        # without one it would link the symbolic link itself. Both paths are absolute: any handle will do.
        source = self._name or f"/proc/self/fd/{self._fd}"
        os.link(source, target, src_dir_fd=self._fd, follow_symlinks=True)

    @property
    def settled(self) -> bool:
        """Whether to close it takes no time: nobody is at it, and nothing has to go with it."""
        return self.adopted and self._name is None and not self._busy.locked()

    def close(self) -> None:
        """Forget the spool's own name of it; what was linked elsewhere stays.

        Whoever comes too late gets an error, and not the file that has the same handle by then.
        """
        with self._busy:
            fd, self._fd = self._fd, -1
            try:
                if self._name is not None:
                    self._name.unlink(missing_ok=True)
            finally:
                if fd is not None:
                    os.close(fd)


class Spool:
    """Takes bodies of unknown name down once and learns their names on the way.

    `keep_free` is in bytes: an upload that would leave less of the file system free is refused, for a
    database on the same disk must not starve. None stands for 1 GiB, or for 1 % where that is less.
    """

    def __init__(self, disk: Disk, folder: Path, *, keep_free: int | None, largest: int | None) -> None:
        self._disk, self._folder, self._keep_free = disk, folder, keep_free
        self.largest = largest
        self._ample_until = 0.0

    async def expect(self, announced: int | None) -> None:
        """Refuse a body that cannot be kept before a byte of it has come. Raises TooLarge, NoRoom."""
        if announced is not None:
            self._fits(announced)
            if time.monotonic() > self._ample_until or announced > AMPLE:
                await self._disk.run(self._room, announced)

    @asynccontextmanager
    async def receive(self, body: AsyncIterator[bytes]) -> AsyncIterator[Spooled]:
        """Write a body down; it is gone again when the block ends, whatever happened.

        Raises TooLarge, NoRoom, StoreDown.

        Constant memory: one piece of a body at a time.
        """
        spooled = Spooled(self._disk, self._folder)
        try:
            pieces: list[bytes] = []
            held = 0
            async for piece in body:
                pieces.append(piece)
                held += len(piece)
                self._fits(spooled.size + held)
                if held >= PIECE:
                    await self._disk.run(self._write, spooled, pieces)
                    pieces, held = [], 0
            await self._disk.run(self._write, spooled, pieces)
            yield spooled
        finally:
            if spooled.settled:
                spooled.close()
            else:
                # Shielded, and a write still in a thread is waited for: a handle closed under it could be
                # another file's.
                await asyncio.shield(asyncio.ensure_future(self._disk.run(spooled.close)))

    def _fits(self, size: int) -> None:
        if self.largest is not None and size > self.largest:
            metrics.REFUSED.labels("largest").inc()
            raise TooLarge(f"more than {self.largest} bytes, the largest that is taken here")

    async def room(self) -> dict[str, int]:
        """Bytes of the file system: `all`, those that are `free`, those that are to be `kept` free.

        Raises StoreDown.
        """
        return await self._disk.run(self._measured)

    def _measured(self) -> dict[str, int]:
        disk = os.statvfs(self._folder)
        whole = disk.f_blocks * disk.f_frsize
        keep = min(1 << 30, whole // 100) if self._keep_free is None else self._keep_free
        return {"all": whole, "free": disk.f_bavail * disk.f_frsize, "kept": keep}

    def _room(self, wanted: int) -> None:
        room = self._measured()
        keep = room["kept"]
        if room["free"] - wanted < keep:
            metrics.REFUSED.labels("keep_free").inc()
            raise NoRoom(f"{wanted} bytes would leave less than the {keep} bytes that are to stay free")
        if room["free"] - wanted > keep + 64 * AMPLE:
            self._ample_until = time.monotonic() + 1

    def _write(self, spooled: Spooled, pieces: list[bytes]) -> None:
        self._room(sum(map(len, pieces)))
        spooled.write(pieces)

    async def swept(self) -> int:
        """`sweep`, from the event loop. Raises StoreDown."""
        return await self._disk.run(self.sweep)

    def sweep(self) -> int:
        """Take away what crashes left behind, and nothing that a live process holds.

        In a thread; how many went.
        """
        swept = 0
        for path in self._folder.iterdir():
            try:
                fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
                swept += 1
            except OSError:
                continue  # somebody's live upload
            finally:
                os.close(fd)
        return swept
