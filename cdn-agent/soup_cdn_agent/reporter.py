"""Reports: every 30 seconds, and at once when something has changed."""

import asyncio
import random
import sqlite3
from typing import Any

import structlog

from soup_cdn_agent import __version__
from soup_cdn_agent.core import Core, CoreDown, Refused
from soup_cdn_agent.feed import Feed, Holds
from soup_cdn_agent.folder import Folder
from soup_cdn_agent.index import Index
from soup_cdn_agent.known import Known, Threads
from soup_cdn_agent.standing import LACKING, Claim, Status, claim, standing
from soup_cdn_agent.traffic import Traffic

log = structlog.get_logger(__name__)

INTERVAL = 30.0  # seconds, until the core has said another
EARLY = 0.1  # of the interval that a report may be early: agents that start together drift apart
PATIENCE = 9.0  # seconds for an answer: three tries fit into the time until the core calls a mirror silent
AGAIN = 0.5, 5.0  # seconds until a report that failed is sent again: first, and at most
REFUSED = 30.0  # the same for one that was refused: somebody has to change something first
SOON = 5.0  # seconds between reports that say no more than that the mirror gets on
TOGETHER = 0.1  # what changes within this time is said together
FAREWELL = 3.0
LOUD = 20  # failures for which one line is enough


class Reporter:
    """Tells the core what `Known` says, and the feed what the core answers."""

    def __init__(
        self,
        core: Core,
        feed: Feed,
        index: Index,
        folder: Folder,
        threads: Threads,
        known: Known,
        traffic: Traffic,
        *,
        holds: Holds,
        behind: int,
        interval: float | None,
        claims: bool = True,
    ) -> None:
        """`claims`: the mirror says how far it has synced. One in mode pull has whatever it is asked for."""
        self._core, self._feed, self._index, self._folder = core, feed, index, folder
        self._threads, self._known, self._traffic = threads, known, traffic
        self._holds, self._behind, self._given = holds, behind, interval
        self._interval, self._claims = interval or INTERVAL, claims
        self._said: tuple[Status, Claim] | None = None
        self._epoch = ""
        self._failures = 0

    async def run(self) -> None:
        """Report, for ever."""
        while True:
            began = _now()
            pause = await self._report()
            await self._wait(began + pause)

    async def _wait(self, until: float) -> None:
        """Until then, or until there is something to say."""
        while (left := until - _now()) > 0:
            if await self._known.report.heard(left) and not self._failures:
                await asyncio.sleep(TOGETHER)
                until = min(until, self._due(await self._judge()))

    def _due(self, now: tuple[Status, Claim]) -> float:
        """When this is to be told: at once what sends clients elsewhere or here at all; soon what gets on."""
        if self._said is None:
            return 0.0
        (status, claim), (old, before) = now, self._said
        if status != old or claim.less_than(before) or (claim.synced_to and not before.synced_to):
            return 0.0
        if self._claims and self._known.epoch != self._epoch:
            return 0.0  # where soup has no blob yet, that its list was read is all there is to claim
        last = self._known.reported_at or 0.0
        return last + (SOON if claim != before else self._interval)

    async def _judge(self) -> tuple[Status, Claim]:
        known, claimed = self._known, Claim()
        try:
            read = await self._threads.ledger(self._read)
        except sqlite3.Error as error:  # then nothing is claimed, and that is said
            known.unreadable = f"its index cannot be read: {error}"
        else:
            known.unreadable = None
            if self._claims and not known.merging and known.scanned:
                claimed = claim(*read)
        known.claim = claimed
        return standing(known.facts, self._behind)[0], claimed

    def _read(self) -> tuple[int, list[tuple[int, str]]]:
        return self._index.note("cursor") or 0, self._index.wanted_numbers(LACKING + 1)

    async def _compose(self) -> dict[str, Any]:
        known = self._known
        try:
            known.blobs, known.wanted = await self._threads.ledger(self._index.counts)
            known.room = await self._threads.run(self._folder.room)
        except (OSError, sqlite3.Error):
            known.room = None  # the probe or the next line says why
        self._said, self._epoch = await self._judge(), known.epoch
        return self._words(standing(known.facts, self._behind)[1], leaving=False)

    def _words(self, message: str | None, *, leaving: bool) -> dict[str, Any]:
        """A report of what is known, without a look at the disk."""
        known = self._known
        status, said = self._said or (standing(known.facts, self._behind)[0], Claim())
        return {
            "status": int(status),
            "message": None if message is None else message[:1000],
            "leaving": leaving,
            "epoch": (known.epoch or None) if self._claims else None,
            "synced_to": said.synced_to if self._claims else None,
            "lacking": [digest for _, digest in said.lacking],
            "holds": {"smallest": self._holds.smallest or None, "largest": self._holds.largest},
            "agent": f"soup-cdn-agent/{__version__}",
            "disk": {"free": known.room.free, "total": known.room.total} if known.room else None,
            "boot_id": self._traffic.boot_id,
            "totals": self._traffic.totals,
        }

    async def _report(self) -> float:
        """One report; in how many seconds the next is due."""
        known = self._known
        try:
            heard = await self._core.report(await self._compose(), PATIENCE)
        except CoreDown as error:
            self._failures += 1
            known.counted["reports_failed"] += 1
            if self._failures % LOUD == 1:
                log.warning("report.failed", reason=str(error), times=self._failures)
            pause: float = min(max(error.after, AGAIN[0] * 2 ** min(self._failures, 8)), AGAIN[1])
            return pause * random.uniform(0.5, 1)  # noqa: S311 - many agents at once
        except Refused as error:
            self._failures += 1
            known.counted["reports_refused"] += 1
            known.refused = str(error)
            log.error("report.refused", reason=str(error))  # noqa: TRY400 - it says all
            return REFUSED * random.uniform(0.5, 1)  # noqa: S311
        if self._failures:
            log.info("report.heard", after=self._failures)
        self._failures, known.refused, known.reported_at = 0, None, _now()
        known.counted["reports"] += 1
        self._interval = self._given or heard.interval
        self._feed.heard(heard.epoch, heard.head)
        return self._interval * random.uniform(1 - EARLY, 1)  # noqa: S311

    async def leave(self) -> None:
        """Say that the mirror is to get no more traffic, once, and soon: the disk is not waited for."""
        try:
            await self._core.report(self._words("it is stopping", leaving=True), FAREWELL)
        except (CoreDown, Refused) as error:
            log.warning("farewell.unheard", reason=str(error))
        else:
            log.info("left")


def _now() -> float:
    return asyncio.get_running_loop().time()
