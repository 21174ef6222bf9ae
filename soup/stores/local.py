"""A store in a folder of this machine, laid out as on every mirror: `abc/abc...` (S21)."""

import errno
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

from soup.core.blob import Blob
from soup.core.digest import Digest
from soup.core.errors import BadDigest, BlobUnknown, DigestMismatch
from soup.core.span import Span
from soup.stores.base import File, Source
from soup.stores.disk import Disk, sync_folder
from soup.stores.spool import PIECE, Spool, Spooled

SPOOL = ".spool"
QUARANTINE = ".quarantine"


class LocalStore:
    """Files in folders named by the first three digits. What `put` has acknowledged survives a power cut."""

    def __init__(self, disk: Disk, folder: Path) -> None:
        self._disk, self.folder = disk, folder
        self._spool = Spool(disk, folder / SPOOL, keep_free=0, largest=None)
        self._synced: set[str] = set()

    def path(self, digest: Digest) -> Path:
        """See OnDisk."""
        return self.folder / digest.folder / digest

    async def put(self, blob: Blob, source: Source) -> None:
        """See Store.

        A spooled upload becomes the file itself where it can; anything else is copied first.
        """
        if isinstance(source, Spooled) and await self._disk.run(self._adopted, blob, source):
            return
        async with self._spool.receive(source()) as copy:
            await self._disk.run(self._adopt, blob, copy)

    def _adopted(self, blob: Blob, spooled: Spooled) -> bool:
        """Whether an upload could become the file.

        Not from another file system, and not a second time when the first name has been dropped: the kernel
        gives an unnamed file a name once.
        """
        try:
            self._adopt(blob, spooled)
        except OSError as error:
            if error.errno in {errno.EXDEV, errno.ENOENT}:
                self._synced.discard(blob.digest.folder)  # it may be the folder that is gone
                return False
            raise
        return True

    def _adopt(self, blob: Blob, spooled: Spooled) -> None:
        if spooled.blob != blob:
            raise DigestMismatch(f"the source gave {spooled.blob}", digest=blob.digest)
        target = self.path(blob.digest)
        self._make(target.parent)
        spooled.adopt(target)

    def _make(self, folder: Path) -> None:
        """Make a folder, durably.

        One that is there may be new all the same: whoever made it may not have synced it yet.
        """
        if folder.name in self._synced:
            return
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)
        self._synced.add(folder.name)

    async def open(self, digest: Digest, span: Span | None = None) -> AsyncIterator[bytes]:
        """See Store."""
        fd = await self._disk.run(self._open, digest)
        try:
            place, end = (span.first, span.last + 1) if span else (0, None)
            while end is None or place < end:
                piece = await self._disk.run(
                    os.pread, fd, PIECE if end is None else min(PIECE, end - place), place
                )
                if not piece:
                    break
                place += len(piece)
                yield piece
        finally:
            os.close(fd)

    def _open(self, digest: Digest) -> int:
        try:
            return os.open(self.path(digest), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise BlobUnknown("not in this store", digest=digest) from error

    async def has(self, digest: Digest) -> bool:
        """See Store."""
        return await self._disk.run(self.path(digest).is_file)

    async def drop(self, digest: Digest, only: File | None = None) -> None:
        """See Store."""
        if only is None:
            await self._disk.run(self.path(digest).unlink, missing_ok=True)
        else:
            await self._disk.run(self._drop, digest, only)

    def _drop(self, digest: Digest, file: File) -> None:
        # Whoever wanted this may have lost the right to it while this thread waited, and another core may
        # have acknowledged an upload. A rename takes exactly one file, which can be looked at and put back.
        if self._file(digest) != file:
            return
        path, taken = self.path(digest), self.folder / SPOOL / f"{digest}.{secrets.token_hex(8)}"
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "a folder lies there")
        with suppress(FileNotFoundError):
            try:
                path.rename(taken)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                path.unlink()
                return
            seen = taken.stat()
            if (seen.st_ino, seen.st_size, seen.st_mtime_ns) != file[:3]:
                with suppress(FileExistsError):
                    os.link(taken, path)
                    sync_folder(path.parent)
            taken.unlink()

    async def file(self, digest: Digest) -> File | None:
        """See Quarantine."""
        return await self._disk.run(self._file, digest)

    def _file(self, digest: Digest) -> File | None:
        try:
            # Opened, for NFS may remember a look.
            fd = os.open(self.path(digest), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            if not (self.folder / SPOOL).is_dir():
                raise  # a disk that is not mounted has lost nothing
            return None
        try:
            seen = os.fstat(fd)
        finally:
            os.close(fd)
        return seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns

    async def set_aside(self, digest: Digest, file: File) -> bool:
        """See Quarantine. It goes to `.quarantine`, under its digest, and more where one lies there."""
        return await self._disk.run(self._set_aside, digest, file)

    def _set_aside(self, digest: Digest, file: File) -> bool:
        if self._file(digest) != file:
            return False
        folder = self.folder / QUARANTINE
        self._synced.discard(QUARANTINE)  # whoever looks into it may have removed it as well
        self._make(folder)
        target = folder / digest
        if target.exists():
            target = folder / f"{digest}.{secrets.token_hex(4)}"
        self.path(digest).rename(target)
        sync_folder(folder)
        sync_folder(self.path(digest).parent)
        return True

    async def walk(self) -> AsyncIterator[Blob]:
        """See Store. Files that are no blobs are passed over."""
        for folder in await self._disk.run(self._folders):
            for blob in await self._disk.run(_blobs, folder):
                yield blob

    def _folders(self) -> list[Path]:
        return sorted(path for path in self.folder.iterdir() if len(path.name) == 3 and path.is_dir())  # noqa: PLR2004


def _blobs(folder: Path) -> list[Blob]:
    found: list[Blob] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                digest = Digest(entry.name)
            except BadDigest:
                continue
            with suppress(FileNotFoundError):  # dropped since
                if digest.folder == folder.name and entry.is_file(follow_symlinks=False):
                    found.append(Blob(digest, entry.stat().st_size))
    return sorted(found, key=lambda blob: blob.digest)
