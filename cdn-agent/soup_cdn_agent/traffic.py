"""How much the web server has delivered, by its access log."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import structlog

from soup_cdn_agent.accesslog import AccessLog
from soup_cdn_agent.index import Index
from soup_cdn_agent.known import Threads

log = structlog.get_logger(__name__)

SECONDS = 5.0


class Traffic:
    """Totals that only grow for as long as `boot_id` is the same.

    They are written down together with how far the log was read: a restart neither loses nor repeats any.
    """

    def __init__(
        self, logs: Sequence[Path], index: Index, threads: Threads, *, digests: bool = False
    ) -> None:
        """`digests`: the index is told which blobs were served, and when."""
        self._log, self._index, self._threads = AccessLog(logs, digests=digests), index, threads
        self._alone = asyncio.Lock()
        self.boot_id: str = index.note("boot_id")
        self.totals: dict[str, int] = index.note("totals") or {"bytes": 0, "requests": 0}
        self._place = index.note("log") or {}
        self.fault: str | None = None  # why a log cannot be read

    async def run(self) -> None:
        """Count on, for ever."""
        while True:
            while await self.count():
                pass
            await asyncio.sleep(SECONDS)

    async def count(self) -> bool:
        """Count a stretch of the logs; whether there was any."""
        async with self._alone:
            return await self._more()

    async def _more(self) -> bool:
        place, requests, size = await self._threads.run(self._log.read, self._place)
        fault = "; ".join(f"{path} {fault}" for path, fault in self._log.faults.items()) or None
        if fault and fault != self.fault:
            log.warning("access_log.unread", reason=fault)
        self.fault = fault
        if place == self._place:
            return False
        totals = {"bytes": self.totals["bytes"] + size, "requests": self.totals["requests"] + requests}
        await self._threads.ledger(lambda: self._index.write(totals=totals, log=place))
        self.totals, self._place = totals, place
        if served := self._log.served:
            await self._threads.ledger(self._index.served, [*served], time.time())
            served.clear()
        return True
