"""What the agent knows at this moment, and the threads that find it out."""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from soup_cdn_agent.folder import Room
from soup_cdn_agent.index import Corrupt, damaged
from soup_cdn_agent.standing import Claim, Facts

T = TypeVar("T")


class Threads:
    """Where blocking work is done: files by several threads, the index by one."""

    def __init__(self, files: int = 8) -> None:
        self._files = ThreadPoolExecutor(files, "files")
        self._ledger = ThreadPoolExecutor(1, "index")

    async def run(self, act: Callable[..., T], *what: Any) -> T:
        """Something with files."""
        return await asyncio.get_running_loop().run_in_executor(self._files, act, *what)

    async def through(self, act: Callable[..., T], *what: Any) -> T:
        """Something with an open file, to its end: one that is closed meanwhile may be another by then."""
        acting = asyncio.get_running_loop().run_in_executor(self._files, act, *what)
        cancelled: asyncio.CancelledError | None = None
        while not acting.done():
            try:
                await asyncio.wait([acting])
            except asyncio.CancelledError as error:  # it may come more than once
                cancelled = error
        if cancelled is None:
            return acting.result()
        if not acting.cancelled():
            acting.exception()  # nobody asks for it any more
        raise cancelled

    async def ledger(self, act: Callable[..., T], *what: Any) -> T:
        """Something with the index: one thing at a time, in the order they were asked. Raises Corrupt."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._ledger, act, *what)
        except sqlite3.DatabaseError as error:
            if damaged(error):
                raise Corrupt(str(error)) from error
            raise

    def close(self) -> None:
        """Take no more work."""
        self._files.shutdown(wait=False, cancel_futures=True)
        self._ledger.shutdown(wait=True)


class Bell:
    """Wakes one who waits. Rung while nobody waits, it is heard by the next."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    @property
    def rung(self) -> bool:
        """Whether somebody has rung whom nobody has heard yet."""
        return self._rung.is_set()

    def ring(self) -> None:
        """Wake who waits."""
        self._rung.set()

    async def heard(self, seconds: float) -> bool:
        """Wait for it, so many seconds at most; whether it was rung."""
        try:
            async with asyncio.timeout(seconds):
                await self._rung.wait()
        except TimeoutError:
            return False
        self._rung.clear()
        return True


@dataclass(slots=True)
class Known:
    """Everything the parts of the agent tell each other.

    `epoch` and `cursor` say how far the feed was read, `head` how far it goes; while `merging` or not yet
    `scanned` nothing is claimed. `unreadable` is why the index is not, `failed` has the works that ended of
    themselves and are begun again. `counted` has what /metrics shows.
    """

    epoch: str = ""
    cursor: int = 0
    head: int = 0
    merging: bool = True
    scanned: bool = False
    probe: str | None = None
    looked: bool = False
    unwritable: str | None = None
    unreadable: str | None = None
    failed: dict[str, str] = field(default_factory=dict)
    full: str | None = None
    strays: str | None = None
    blobs: int = 0
    wanted: int = 0
    failing: int = 0
    room: Room | None = None
    claim: Claim = field(default_factory=Claim)
    reported_at: float | None = None
    refused: str | None = None
    counted: Counter[str] = field(default_factory=Counter)
    feed: Bell = field(default_factory=Bell)
    fetch: Bell = field(default_factory=Bell)
    scan: Bell = field(default_factory=Bell)
    report: Bell = field(default_factory=Bell)
    look: Bell = field(default_factory=Bell)

    @property
    def facts(self) -> Facts:
        """What decides about the status."""
        reading = self.strays
        if self.merging:
            reading = "reading the list of blobs"
        elif not self.scanned:
            reading = "looking through its folder"
        behind = self.wanted + max(0, self.head - self.cursor)
        failed = "; ".join(f"its {work} fails: {reason}" for work, reason in self.failed.items())
        broken = self.unwritable or self.unreadable
        return Facts(
            self.probe, self.looked, broken, self.full, reading, behind, self.failing, failed or None
        )
