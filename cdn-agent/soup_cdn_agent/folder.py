"""The folder the web server serves: `abc/abc...`, and `.soup-cdn` for what nobody is to be sent.

A file appears under its name when it is whole, right and on disk. All of this blocks; the agent calls it in
threads.
"""

import errno
import fcntl
import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

PIECE = 1 << 20
OWN = ".soup-cdn"
QUARANTINED = 16  # bad files kept for somebody to look at; the oldest go
KEPT = 1 << 30  # bytes of them
FULL = {errno.ENOSPC, errno.EDQUOT}
BAD = {  # this file or folder, no other
    errno.EACCES, errno.EPERM, errno.EIO, errno.EBADMSG, errno.EUCLEAN,
    errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO,
}  # fmt: skip
READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe would be waited for
_DIGEST = re.compile("[0-9a-f]{64}").fullmatch


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes of the disk."""

    free: int
    total: int


class Folder:
    """The blobs of a mirror on its disk.

    `reserve` is the room to leave free: in bytes, or as a float the share of the disk; None: a default.
    """

    def __init__(self, root: Path, reserve: int | float | None) -> None:  # noqa: PYI041 - they differ here
        self.root = root.absolute()
        self.own = self.root / OWN
        self.incoming, self.quarantine = self.own / "incoming", self.own / "quarantine"
        self._reserve = reserve
        self.device = 0
        self._lock: int | None = None

    def open(self) -> None:
        """Take it for us alone, make what is missing, remove what a crash left. Raises OSError."""
        self.root.mkdir(parents=True, exist_ok=True)
        self.device = self.root.stat().st_dev
        self.prepare()
        self.close()
        self._lock = os.open(self.own / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.close()
            raise BlockingIOError(
                f"another agent keeps {self.root}: each wants a folder of its own"
            ) from error
        for left in self.incoming.glob("*.new"):
            left.unlink()

    def close(self) -> None:
        """Leave it to others."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def prepare(self) -> None:
        """Make the folders of our own. Raises OSError."""
        for folder in (self.own, self.incoming, self.quarantine):
            folder.mkdir(exist_ok=True)

    def path(self, digest: str) -> Path:
        """Where a blob is, if it is here."""
        return self.root / digest[:3] / digest

    def _at(self, digest: str) -> str:
        return f"{self.root}/{digest[:3]}/{digest}"

    def part(self, digest: str) -> Path:
        """Where a blob is while it is fetched."""
        return self.incoming / f"{digest}.part"

    def size(self, digest: str) -> int | None:
        """How long the file of a blob is; None where there is none."""
        try:
            seen = os.lstat(self._at(digest))
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in BAD:
                return None
            raise
        return seen.st_size if stat.S_ISREG(seen.st_mode) else None

    def lacking(self, digest: str, size: int) -> int:
        """How many bytes of a blob of this size are still to come: the file or a part of it may be here."""
        if self.size(digest) == size:
            return 0
        try:
            return max(0, size - os.lstat(self.part(digest)).st_size)
        except OSError:
            return size

    def seen(self, digest: str) -> tuple[int, int] | None:
        """Size of a blob's file, and when it was changed, in Unix seconds; None where there is none."""
        try:
            seen = os.lstat(self._at(digest))
        except OSError:
            return None
        return (seen.st_size, int(seen.st_mtime)) if stat.S_ISREG(seen.st_mode) else None

    def opened(self, digest: str) -> int:
        """The file of a blob, to be read. Raises OSError, one of BAD where something else lies there."""
        fd = os.open(self._at(digest), READ)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.EISDIR, "it is no file")
        return fd

    def keep(self, blobs: Iterable[tuple[str, bytes, int]]) -> list[str]:
        """Keep small blobs (digest, bytes, Unix time they were created); those whose bytes are right.

        Where something lies in the way of one, the others are kept all the same.
        """
        kept, stuck = list[str](), dict[str, OSError]()
        for digest, data, created_at in blobs:
            if hashlib.sha256(data).hexdigest() != digest:
                continue
            new = f"{self.incoming}/{digest}.new"
            try:
                with open(new, "wb") as file:
                    file.write(data)
                    file.flush()
                    self._finish(file.fileno(), created_at)
                self._name(new, digest)
            except BaseException as error:
                with suppress(FileNotFoundError):
                    os.unlink(new)
                if not isinstance(error, OSError) or error.errno not in BAD:
                    raise
                stuck[digest] = error
            else:
                kept.append(digest)
        warn("blobs.no_place", stuck)
        return kept

    def _finish(self, fd: int, created_at: int) -> None:
        os.fchmod(fd, 0o644)  # the web server is another user
        os.utime(fd, (created_at, created_at))
        os.fsync(fd)

    def _name(self, file: str | Path, digest: str) -> None:
        try:
            os.rename(file, self._at(digest))
        except FileNotFoundError:
            parent = self.path(digest).parent
            parent.mkdir(exist_ok=True)
            parent.chmod(0o755)
            os.rename(file, self._at(digest))

    def adopt(self, part: Path, digest: str, created_at: int) -> None:
        """Give a file that was fetched, and is right, its name."""
        fd = os.open(part, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._finish(fd, created_at)
        finally:
            os.close(fd)
        self._name(part, digest)

    def right(self, blobs: Iterable[tuple[str, int, int]]) -> list[str]:
        """Those (digest, size, Unix time of creation) whose file is right; wrong ones are set aside."""
        found = []
        for digest, size, created_at in blobs:
            try:
                with open(self.opened(digest), "rb") as file:
                    if _right(file, digest, size) and _dated(file.fileno(), created_at):
                        found.append(digest)
                        continue
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno not in BAD:
                    raise
            self.set_aside(digest)
        return found

    def whole(self, digest: str) -> bool:
        """Whether the file of a blob has its bytes. Raises OSError where that is no fault of the file."""
        try:
            with open(self.opened(digest), "rb") as file:
                return _right(file, digest, None)
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno in BAD:
                return False
            raise

    def remove(self, digests: Iterable[str]) -> int:
        """Remove blobs; how many were here. What cannot go stays, for the next scan to find.

        Raises OSError where that is no fault of the file.
        """
        removed, stuck = 0, dict[str, OSError]()
        for digest in digests:
            try:
                removed += self.remove_one(digest)
            except OSError as error:
                if error.errno not in BAD:
                    raise
                stuck[digest] = error
        warn("blobs.stuck", stuck)
        return removed

    def remove_one(self, digest: str) -> bool:
        """Remove a blob; whether it was here. Raises OSError."""
        self.remove_parts([digest])
        try:
            os.unlink(self._at(digest))
        except FileNotFoundError:
            return False
        return True

    def remove_parts(self, digests: Iterable[str]) -> None:
        """Give up what was fetched of blobs that are not whole."""
        for digest in digests:
            self.part(digest).unlink(missing_ok=True)

    def set_aside(self, digest: str) -> None:
        """Take a bad file out of the web server's sight, for somebody to look at; the oldest of many go.

        What is no file at all is removed, unless it is a folder: that stays.
        """
        path = self.path(digest)
        try:
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode):
                log.warning("blob.no_file", path=str(path), reason="a folder lies in its place")
                return
            if not stat.S_ISREG(mode):
                path.unlink()
                return
            path.rename(self.quarantine / digest)
            os.utime(self.quarantine / digest)
        except FileNotFoundError:
            return
        except OSError:  # there is no room even for its name
            with suppress(OSError):  # what can be neither moved nor removed stays, and is not claimed
                path.unlink()
        size = 0
        for place, (_, held, path) in enumerate(sorted(_aged(self.quarantine), reverse=True)):
            size += held
            if place >= QUARANTINED or (place and size > KEPT):
                with suppress(OSError):
                    path.unlink()

    def room(self) -> Room:
        """How much room there is. Raises OSError."""
        usage = shutil.disk_usage(self.root)
        return Room(usage.free, usage.total)

    def reserve(self, room: Room) -> int:
        """How much of it is to stay free."""
        if self._reserve is None:
            return min(1 << 30, room.total // 20)
        return int(room.total * self._reserve) if isinstance(self._reserve, float) else self._reserve

    def unwritable(self) -> str | None:
        """Why nothing can be kept here; None where it can. A full disk is another matter."""
        try:
            if self.root.stat().st_dev != self.device:
                return f"another disk is mounted at {self.root}: restart the agent if that is right"
            self.prepare()
            with tempfile.TemporaryFile(dir=self.incoming):
                pass
        except OSError as error:
            if error.errno in FULL:
                return None
            return f"{self.root} cannot be written: {error.strerror}"
        return None

    def prefixes(self) -> Iterator[str]:
        """All folders there can be, by their three digits."""
        for number in range(1 << 12):
            yield f"{number:03x}"

    def files(self, prefix: str) -> dict[str, int]:
        """Size of every blob in a folder; other files are nobody's business."""
        found: dict[str, int] = {}
        try:
            with os.scandir(self.root / prefix) as entries:
                for entry in entries:
                    if _DIGEST(entry.name) and entry.name[:3] == prefix:
                        with suppress(FileNotFoundError):
                            if entry.is_file(follow_symlinks=False):
                                found[entry.name] = entry.stat(follow_symlinks=False).st_size
        except FileNotFoundError:
            pass
        except OSError as error:  # one bad folder of 4096 is no reason to know nothing of the others
            if error.errno not in BAD:
                raise
        return found

    def parts(self) -> Iterator[str]:
        """The blobs of which a part is here."""
        for path in self.incoming.glob("*.part"):
            if _DIGEST(path.stem):
                yield path.stem


def warn(event: str, stuck: dict[str, OSError]) -> None:
    """Say of how many blobs something was in vain, and why of the first; nothing where there are none."""
    if stuck:
        digest, error = next(iter(stuck.items()))
        log.warning(event, blobs=len(stuck), digest=digest, reason=str(error))


def _right(file: BufferedReader, digest: str, size: int | None) -> bool:
    """Whether an open file has the bytes of a blob; None: however long it is."""
    if size not in {None, os.fstat(file.fileno()).st_size}:
        return False
    return hashlib.file_digest(file, "sha256").hexdigest() == digest


def _dated(fd: int, created_at: int) -> bool:
    """Make a file as ours are. One of somebody else may stay as it is if the web server can read it."""
    try:
        os.utime(fd, (created_at, created_at))
        os.fchmod(fd, 0o644)
    except PermissionError:
        return bool(os.fstat(fd).st_mode & stat.S_IROTH)
    return True


def _aged(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """Time, size and path of each file."""
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            seen = path.lstat()
            yield seen.st_mtime, seen.st_size, path
