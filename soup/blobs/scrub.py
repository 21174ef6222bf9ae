"""Bytes that nobody asks for are read again, so that a disk that forgets is found out (job `blobs.scrub`).

The scrub goes through a store in digest order, round after round, slowly. How far it is stands in the
database: another process, or the next one, goes on from there.
"""

import asyncio
import hashlib
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import structlog

from soup.blobs import queries
from soup.blobs.damage import MISSING, Damage
from soup.blobs.model import Copy, Round
from soup.core.errors import BlobUnknown, StoreDown
from soup.core.span import Span
from soup.db.lease import Held
from soup.db.work import Database
from soup.stores.base import File, Quarantine, Store
from soup.stores.disk import Disk

log = structlog.get_logger(__name__)

PIECE = 512 * 1024
OPENING = 64 * 1024  # bytes that opening a blob counts for: small ones are more work than they weigh
GROUP = 256  # blobs in one transaction at most
SAVED = 10.0  # seconds after which what was found is written down at the latest
LONGEST = 1800.0  # seconds for a run: one that takes an hour is cut off
SHARE = 0.9  # of the interval that a run may take: one that is late would be in the way of the next
REST = timedelta(hours=1)  # from the start of a round to the next: a small store is not read all day


@dataclass(slots=True)
class _Reading:
    """A copy, as far as it is read. `file` is None in a store that does not say which file it is."""

    copy: Copy
    file: File | None
    missing: bool = False
    size: int = 0
    sha: Any = field(default_factory=hashlib.sha256)

    @property
    def fault(self) -> str | None:
        """What is wrong with it, once it is read."""
        blob = self.copy.blob
        if self.missing:
            return MISSING
        if self.size != blob.size:
            return f"it has {'more' if self.size > blob.size else self.size} bytes, not {blob.size}"
        return None if self.sha.hexdigest() == blob.digest else "it has other bytes"


class Scrub:
    """Reads a store through. `rate` is in bytes a second, 0 is never; `seconds` is how often it is run."""

    def __init__(
        self, database: Database, store: Store, store_name: str, disk: Disk, *, rate: int, seconds: float
    ) -> None:
        self._database, self._store, self._store_name, self._disk = database, store, store_name, disk
        self._damage = Damage(database, store, store_name)
        self._quarantine = store if isinstance(store, Quarantine) else None
        self._rate, self._share = rate, min(SHARE * seconds, LONGEST)
        self._store_id = 0
        self._free = 0.0  # the loop's time from which the next piece may be read
        self._reading: _Reading | None = None  # what the last run had no time to finish

    async def run(self, held: Held) -> int:
        """Go on with the round, for a while; how many blobs were read.

        A blob that cannot be read fails the run and is passed over: it holds up no others. Raises LeaseLost,
        StoreDown, DatabaseDown.
        """
        round = await self._round() if self._rate else None
        if round is None:
            return 0
        before, until = round.blobs, _now() + self._share
        more = True
        while more:
            round, more = await self._stretch(held, round, until)
        return round.blobs - before

    async def _round(self) -> Round | None:
        """The round that is under way, or a new one; None while it is too early for one."""
        async with self._database.reading() as session:
            self._store_id = await queries.store_id(session, self._store_name)
            round = await queries.round(session, self._store_id)
            now = await self._database.now(session)
        if round is None or (round.finished_at and not timedelta(0) <= now - round.started_at < REST):
            return Round(now)
        return None if round.finished_at else round

    async def _stretch(self, held: Held, round: Round, until: float) -> tuple[Round, bool]:
        """Read some blobs and write down what was found; how far it is now, and whether to go on."""
        async with self._database.reading() as session:
            copies = await queries.copies(session, self._store_id, round.after, GROUP)
        began, whole, failed, in_time = _now(), list[Copy](), None, True
        for copy in copies:
            good, size = None, 0
            try:
                reading = await self._read(copy, held.over, until)
                if reading is None:
                    in_time = False
                    break
                good, size = await self._judge(held, reading), reading.size
            except StoreDown as error:
                log.error("blob.unreadable", digest=copy.blob.digest, reason=str(error))  # noqa: TRY400 - it says all
                failed = error
            if good:
                whole.append(copy)
            round = Round(
                round.started_at,
                copy.blob.digest,
                round.blobs + 1,
                round.bytes + size,
                round.damaged + (good is False),
            )
            if failed or _now() > began + SAVED:
                break
        await self._save(held, round, whole, ended=not copies)
        if failed:
            raise failed
        return round, in_time and bool(copies)

    async def _save(self, held: Held, round: Round, whole: list[Copy], *, ended: bool) -> None:
        async with self._database.begin() as work:
            await held.check(work.session)
            now = await self._database.now(work.session)
            await queries.verified(work.session, whole, self._store_id, now)
            round = replace(round, finished_at=now if ended else None)
            await queries.save(work.session, self._store_id, round)
        if ended:
            seconds = (now - round.started_at).total_seconds()
            log.info(
                "scrub.done", blobs=round.blobs, bytes=round.bytes, damaged=round.damaged, seconds=seconds
            )

    async def _read(self, copy: Copy, over: asyncio.Event, until: float) -> _Reading | None:
        """Read a copy to its end; None when there is no time left for it: the next run goes on with it."""
        digest, size = copy.blob.digest, copy.blob.size
        file = await self._quarantine.file(digest) if self._quarantine else None
        reading, self._reading = self._reading, None
        if reading is None or (reading.copy, reading.file) != (copy, file):
            self._charge(OPENING)
            reading = _Reading(copy, file, missing=self._quarantine is not None and file is None)
        wanted = read = 0
        while read == wanted and reading.size <= size and not reading.missing:
            if not await self._turn(over, until):
                self._reading = reading
                return None
            span = Span(reading.size, min(reading.size + PIECE - 1, size))  # to one byte more than it has
            wanted = span.length
            try:
                piece = b"".join([part async for part in self._store.open(digest, span)])
            except BlobUnknown:
                reading.missing = True
                break
            await self._disk.run(reading.sha.update, piece)
            read = len(piece)
            reading.size += read
            self._charge(read)
        return reading

    def _charge(self, count: int) -> None:
        self._free = max(self._free, _now()) + count / self._rate

    async def _turn(self, over: asyncio.Event, until: float) -> bool:
        """Wait until the next piece may be read; whether there is still time for it."""
        if not over.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout_at(min(self._free, until)):
                    await over.wait()
        return not over.is_set() and _now() < until

    async def _judge(self, held: Held, reading: _Reading) -> bool | None:
        """Whether a copy is good; None where it has changed meanwhile, and nothing can be said."""
        fault = reading.fault
        if fault is None:
            return True
        if reading.missing and reading.copy.damaged:
            return False  # as an earlier round has said
        if not await self._damage.found(reading.copy, reading.file, fault, held.check):
            return None
        return False


def _now() -> float:
    return asyncio.get_running_loop().time()
