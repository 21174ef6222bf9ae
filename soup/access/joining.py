"""A secret that others keep in a file: whoever shows it may join (D11).

It is in no table. It is good for as long as the file has it, and compared in constant time.
"""

import asyncio
import hashlib
import hmac
import stat
from pathlib import Path

import structlog

from soup.core.errors import Refused

log = structlog.get_logger(__name__)

SHORTEST, LONGEST = 16, 1024  # characters
SIGNS = range(ord("!"), ord("~") + 1)
SECONDS = 2.0  # that one look may take: until a disk answers that hangs, what was there last is good


def read(file: Path) -> str:
    """The secret in a file. Raises Refused, which says what is wrong with it and never what it is."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # to open a pipe would be to wait for its writer
            raise Refused(f"{file}: not a file")
        with file.open("rb") as opened:
            found = opened.read(2 * LONGEST).strip()
    except OSError as error:
        raise Refused(f"{file}: {error.strerror or error}") from error
    if not all(byte in SIGNS for byte in found):
        raise Refused(f"{file}: a secret of letters, digits and signs of ASCII, without spaces, is wanted")
    if not SHORTEST <= len(found) <= LONGEST:
        raise Refused(f"{file}: a secret of {SHORTEST} to {LONGEST} characters is wanted, not {len(found)}")
    return found.decode()


class Secret:
    """The secret of a file, as it was at the last look; none before the first, and none without a file."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._hash: bytes | None = None
        self._fault: str | None = None
        self._reading: asyncio.Task[str] | None = None

    def become(self, file: Path | None) -> None:
        """Go by another file. Nothing is good until it was looked at."""
        if file != self._file:
            self._file, self._hash, self._fault, self._reading = file, None, None, None

    def is_it(self, hash: bytes) -> bool:
        """Whether this is the SHA-256 of the secret."""
        return self._hash is not None and hmac.compare_digest(hash, self._hash)

    async def look(self) -> None:
        """Read the file again, off the event loop. What is no good any more is said once, in the log."""
        if self._file is None:
            return
        if self._reading is None:
            self._reading = asyncio.create_task(asyncio.to_thread(read, self._file))
        reading = self._reading
        await asyncio.wait([reading], timeout=SECONDS)
        if not reading.done() or reading is not self._reading:
            return
        self._reading = None
        try:
            self._hash, fault = hashlib.sha256(reading.result().encode()).digest(), None
        except Refused as error:
            self._hash, fault = None, str(error)
        if fault is not None and fault != self._fault:
            log.error("join.no_secret", reason=fault)
        self._fault = fault
