"""What a web server has delivered, by its access log.

A line is of the combined format. nginx says in it how much of a body it sent, Apache how much it wanted to
send; so soup's files for Apache have it add to the line what went out, and the smaller figure counts. What
agents and cores read to see whether all is well is no delivery.
"""

import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

PIECE = 256 * 1024
MOST = 8 * 1024 * 1024  # bytes of logs that one call reads
OLDER = 2  # rotated logs that are still looked at: a web server goes on writing to them for a while

_DELIVERED = re.compile(
    rb'^[^"\n]*"GET (?:(?i:https?)://[^/ "\n]*)?/([0-9a-f]{64})(?:\?[^ "\n]*)? HTTP/[0-9.]+" 20[06] '
    rb'(?![^\n]* "(?:soup-cdn-agent[^ "\n]* probe|soup audit)")([0-9]+)(?: [^\n]*?(?:" ([0-9]+))?)?$',
    re.MULTILINE,
)

Followed = list[list[int]]  # [inode, offset] of the log and of those that it was before, the newest first
Place = dict[str, Followed]


class AccessLog:
    """Counts the blobs in one or several logs from where the last call ended, however they are rotated.

    A log that nobody has looked at begins at its end, one that appears later at its beginning. `faults` says
    of a log why it cannot be read. `served` has the digests that were read since somebody emptied it, the
    last one last; it stays empty where nobody asks for it.
    """

    def __init__(self, logs: Sequence[Path], *, digests: bool = False) -> None:
        self._logs = logs
        self.served: dict[str, None] | None = {} if digests else None
        self.faults: dict[str, str] = {}

    def read(self, place: Place) -> tuple[Place, int, int]:
        """Read on, 8 MiB at most: the new place, how many blobs were sent, and how many bytes of them.

        The place goes through JSON. It is the old one when there is nothing new.
        """
        new: Place = {}
        requests = size = 0
        left = MOST
        for log in self._logs:
            name = str(log)
            followed = self._followed(log, place.get(name))
            new[name] = followed
            for step in reversed(followed):  # what was written first
                more_requests, more_size, taken = _read(_found(log, step[0]), step, left, self.served)
                requests, size, left = requests + more_requests, size + more_size, left - taken
        return new, requests, size

    def _followed(self, log: Path, before: Followed | None) -> Followed:
        """Which files the log is and was, and how far each is read."""
        self.faults.pop(str(log), None)
        here = self._status(log)
        if before is None:
            return [] if here is None else [[here.st_ino, here.st_size]]
        followed = [list(step) for step in before]
        if here is not None and (not followed or followed[0][0] != here.st_ino):
            # Rotated. A new log may have got the number of one that was removed, and followed until then.
            followed = [[here.st_ino, 0], *(step for step in followed if step[0] != here.st_ino)]
        kept = [step for step in followed[1 : 1 + OLDER] if _found(log, step[0])]
        return followed[:1] + kept

    def _status(self, log: Path) -> os.stat_result | None:
        try:
            status = log.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            self.faults[str(log)] = f"cannot be read: {error.strerror}"
            return None
        if not stat.S_ISREG(status.st_mode):
            self.faults[str(log)] = "is not a file"
        elif not os.access(log, os.R_OK):
            self.faults[str(log)] = "cannot be read: Permission denied"
        else:
            return status
        return None


def _found(log: Path, inode: int) -> Path | None:
    """The file of this number, by the log's name or by a longer one beside it."""
    return next((path for path in _beside(log) if _inode(path) == inode), None)


def _beside(log: Path) -> Iterator[Path]:
    yield log
    with suppress(OSError):
        yield from (path for path in log.parent.iterdir() if path.name.startswith(log.name))


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _read(
    path: Path | None, step: list[int], most: int, served: dict[str, None] | None
) -> tuple[int, int, int]:
    """Read on in a file and move the step: blobs sent, bytes of them, bytes read."""
    requests = size = taken = 0
    if path is None:
        return 0, 0, 0
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # gone, or not ours to read: the next call looks again
        return 0, 0, 0
    try:
        status = os.fstat(file)
        if status.st_ino != step[0]:  # rotated just now
            return 0, 0, 0
        if status.st_size < step[1]:  # emptied after it was copied
            step[1] = 0
        while taken < most:
            piece = os.pread(file, PIECE, step[1])
            whole = piece.rfind(b"\n") + 1
            if not whole and len(piece) < PIECE:  # the end, or a line that is still being written
                break
            for digest, told, sent in _DELIVERED.findall(piece, 0, whole):
                requests += 1
                size += min(int(told), int(sent)) if sent else int(told)
                if served is not None:
                    served.pop(digest.decode(), None)
                    served[digest.decode()] = None
            moved = whole or PIECE  # no line of a web server's is as long as a piece
            step[1] += moved
            taken += moved
    finally:
        os.close(file)
    return requests, size, taken
