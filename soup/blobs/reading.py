"""The bytes behind a direct answer (D4)."""

import hashlib
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

from soup.core.blob import Blob
from soup.core.digest import Digest
from soup.core.errors import BlobMissing
from soup.core.span import Span
from soup.stores import cached
from soup.stores.base import File, OnDisk, Store
from soup.stores.disk import Disk

PIECE = 512 * 1024
SPARE = 16  # buffers for pieces that are kept: a new one costs a tenth of an answer
TRUSTED = 600.0  # seconds for which a small file that has not changed is not hashed again
REMEMBERED = 65_536

_spare: list[bytearray] = []


def _references() -> int:
    """How many references there are to what only one name holds, as the interpreter counts them."""
    only = bytearray()
    return sys.getrefcount(only)


OURS = _references()


@dataclass(slots=True)
class Opened:
    """A blob that is certain to be there, open: what happens to its name now does not matter to this answer.

    `data` has all of it where it is small; otherwise `pieces` reads it.
    """

    blob: Blob
    disk: Disk
    fd: int | None = None
    data: bytes | None = None
    inner: Store | None = None

    async def pieces(self, span: Span) -> AsyncIterator[bytes]:
        """The bytes of a span. The buffer of a piece that nobody keeps is filled again.

        Raises BlobMissing when the file ends before it should.
        """
        if self.data is not None:
            yield self.data[span.first : span.last + 1]
        elif self.fd is None:
            assert self.inner is not None  # noqa: S101 - one of the three is always there
            async for piece in self.inner.open(self.blob.digest, span):
                yield piece
        else:
            place = span.first
            while place <= span.last:
                size = min(PIECE, span.last + 1 - place)
                buffer = _spare.pop() if size == PIECE and _spare else bytearray(size)
                got = None if self.disk.crowded else cached.read(self.fd, buffer, place)
                read: Any = buffer
                if got is None:
                    read = await self.disk.run(os.pread, self.fd, size, place)
                elif got < size:
                    read = buffer[:got]
                if not read:
                    raise BlobMissing("its file became shorter", digest=self.blob.digest)
                place += len(read)
                yield read
                del read
                if size == PIECE and len(_spare) < SPARE and sys.getrefcount(buffer) == OURS:
                    _spare.append(buffer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None


class Reading:
    """Opens blobs.

    Up to `verify_up_to` bytes are checked against their name before a byte of them is sent. What the kernel
    has in memory is read at once, all else in a thread: also what is in memory, when so many threads wait for
    the disk that it may not be well.
    """

    def __init__(self, store: Store, disk: Disk, *, verify_up_to: int) -> None:
        self._store, self._disk, self.verify_up_to = store, disk, verify_up_to
        self._on_disk = store if isinstance(store, OnDisk) else None
        self._folders: dict[str, bytes] = {}  # by the first digits of the digests in them
        self._seen: dict[Digest, tuple[File, float]] = {}
        self._able: bool | None = None  # to read without waiting: the first that is opened in a thread tells

    async def open(self, blob: Blob) -> Opened:
        """Raises BlobMissing when its bytes are not there, or not those of its name."""
        if self._on_disk is not None:
            path = self._path(self._on_disk, blob.digest)
            opened = self._at_once(blob, path) if self._able and not self._disk.crowded else None
            return opened if opened is not None else await self._disk.run(self._open, blob, path)
        if not await self._store.has(blob.digest):
            raise BlobMissing("its bytes are not in the store", digest=blob.digest)
        return Opened(blob, self._disk, inner=self._store)

    async def whole(self, blobs: Sequence[Blob]) -> list[bytes | BlobMissing]:
        """All bytes of each of some small blobs, or why they cannot be had: one trip to the disk for all."""
        if self._on_disk is not None:
            paths = [self._path(self._on_disk, blob.digest) for blob in blobs]
            return await self._disk.run(lambda: list(map(self._whole, blobs, paths)))
        return [await self._gathered(blob) for blob in blobs]

    def _path(self, store: OnDisk, digest: Digest) -> bytes:
        """Where its file is. Paths are dear, and those of a folder differ in their last part only."""
        folder = self._folders.get(digest[:3])
        if folder is None:
            folder = self._folders[digest[:3]] = os.fsencode(store.path(digest).parent) + b"/"
        return folder + digest.encode()

    def _whole(self, blob: Blob, path: bytes) -> bytes | BlobMissing:
        try:
            with self._open(blob, path) as opened:
                data = os.pread(opened.fd, blob.size, 0) if opened.fd is not None else opened.data or b""
        except BlobMissing as error:
            return error
        except OSError as error:  # of this one file: the others are none the worse
            return BlobMissing(f"its file cannot be read: {error.strerror}", digest=blob.digest)
        if len(data) != blob.size:
            return BlobMissing("its file became shorter", digest=blob.digest)
        return data

    async def _gathered(self, blob: Blob) -> bytes | BlobMissing:
        try:
            opened = await self.open(blob)
            data = b"".join([piece async for piece in opened.pieces(Span(0, blob.size - 1))])
        except BlobMissing as error:
            return error
        if len(data) != blob.size:
            return BlobMissing(f"it has {len(data)} bytes, not {blob.size}", digest=blob.digest)
        return data

    def _at_once(self, blob: Blob, path: bytes) -> Opened | None:
        """A blob that is in memory, and whose bytes are known to be right where they have to be.

        None where it is not, or seems to be another: a thread finds out.
        """
        small = blob.size <= self.verify_up_to
        if small and blob.size > PIECE:
            return None
        got = cached.open_file(path, max(blob.size, 1) if small else 1)
        if got is None:
            return None
        fd, data = got
        found = None
        try:
            file = _file(os.fstat(fd))
            if not small and file[1] == blob.size:
                found = Opened(blob, self._disk, fd=fd)
            elif small and len(data) == blob.size and self._remembered(blob, file):
                found = Opened(blob, self._disk, data=data)
        finally:
            if found is None or found.fd is None:
                os.close(fd)
        return found

    def _open(self, blob: Blob, path: bytes) -> Opened:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise BlobMissing("its file is not in the store", digest=blob.digest) from error
        try:
            if self._able is None:
                self._able = cached.able(fd)
            file = _file(os.fstat(fd))
            if file[1] != blob.size:
                raise BlobMissing(f"its file has {file[1]} bytes, not {blob.size}", digest=blob.digest)
            if blob.size > self.verify_up_to:
                opened = Opened(blob, self._disk, fd=fd)
                fd = -1
                return opened
            data = os.pread(fd, blob.size, 0)
            self._verify(blob, data, file)
            return Opened(blob, self._disk, data=data)
        finally:
            if fd >= 0:
                os.close(fd)

    def _remembered(self, blob: Blob, file: File) -> bool:
        last, until = self._seen.get(blob.digest, (None, 0.0))
        return last == file and time.monotonic() < until

    def _verify(self, blob: Blob, data: bytes, file: File) -> None:
        if self._remembered(blob, file):
            return
        if hashlib.sha256(data).hexdigest() != blob.digest:
            raise BlobMissing("its file has other bytes", digest=blob.digest)
        if len(self._seen) >= REMEMBERED:
            self._seen.clear()  # rare, and the price is one hash each
        self._seen[blob.digest] = (file, time.monotonic() + TRUSTED)


def _file(seen: os.stat_result) -> File:
    return seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns
