"""The composition root: settings to parts to one process, top to bottom."""

import asyncio
import signal
import sqlite3
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import structlog

from soup_cdn_agent import __version__
from soup_cdn_agent.core import Core
from soup_cdn_agent.feed import Feed, Holds
from soup_cdn_agent.fetch import Fetch
from soup_cdn_agent.folder import Folder
from soup_cdn_agent.index import Index
from soup_cdn_agent.known import Known, Threads
from soup_cdn_agent.page import Page
from soup_cdn_agent.probe import Probe
from soup_cdn_agent.reporter import Reporter
from soup_cdn_agent.scan import Scan
from soup_cdn_agent.scrub import Scrub
from soup_cdn_agent.settings import Settings
from soup_cdn_agent.standing import standing
from soup_cdn_agent.traffic import Traffic

log = structlog.get_logger(__name__)

AGAIN = 5.0  # seconds until what has failed on this machine's disk is tried again
INDEX = "index.db"
COUNTED = (
    "fetched", "fetched_bytes", "fetch_failures", "adopted", "removed", "damaged", "scrubbed_bytes"
)  # fmt: skip


class Lost(Exception):
    """The folder was emptied under us: all that was known of it is void."""


class Agent:
    """The parts of one agent, over one folder."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.known, self.threads = Known(), Threads()
        self.folder = Folder(settings.blobs, settings.reserve)
        self.folder.open()
        self.index = Index(self.folder.own / INDEX)
        verify = ssl.create_default_context()
        if settings.ca_file is not None:
            verify.load_verify_locations(settings.ca_file)
        parts = self.index, self.folder, self.threads, self.known
        holds = Holds(settings.smallest or 0, settings.largest)
        self.core = Core(settings.core, settings.id, lambda: settings.secret, verify)
        self.feed = Feed(self.core, *parts, holds)
        self.fetch = Fetch(
            self.core,
            *parts,
            bundle_up_to=settings.bundle_up_to,
            parallel=settings.parallel,
            bandwidth=settings.bandwidth,
            from_mirrors=settings.from_mirrors,
            again=settings.check_seconds,
        )
        self.scan = Scan(*parts, settings.strays)
        self.scrub = Scrub(*parts, settings.scrub)
        self.probe = Probe(settings.web, verify, *parts, self.scrub)
        self.traffic = Traffic(settings.access_log, self.index, self.threads)
        self.reporter = Reporter(
            self.core,
            self.feed,
            *parts,
            self.traffic,
            holds=holds,
            behind=settings.behind,
            interval=settings.interval,
        )
        self.feed.open()

    async def run(self, over: asyncio.Event) -> None:
        """Be the agent until it is over. Raises Lost."""
        works = (self.feed.run, self.fetch.run, self.scan.run, self.scrub.run, self.traffic.run)
        page = Page(self._settings.listen, self.status) if self._settings.listen else None
        if page:
            page.start()
        try:
            await self.probe.look()  # before the first word
            tasks = [asyncio.create_task(_again(work)) for work in works]
            tasks += [asyncio.create_task(self._look()), asyncio.create_task(_again(self.reporter.run))]
            ended = asyncio.create_task(over.wait())
            done, _ = await asyncio.wait([ended, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in (ended, *tasks):
                task.cancel()
            await asyncio.gather(ended, *tasks, return_exceptions=True)
            for task in done:
                task.result()
            await self.reporter.leave()
        finally:
            if page:
                await asyncio.to_thread(page.close)
            await self.core.close()
            await self.probe.close()
            self.threads.close()
            self.index.close()

    async def _look(self) -> None:
        """See now and then that all is well, and say at once when it is not."""
        while True:
            before = standing(self.known.facts, self._settings.behind)
            await self.known.look.heard(self._settings.check_seconds)
            if await self.threads.ledger(lambda: self.index.lost):
                self.known.unwritable = await self.threads.run(self.folder.unwritable)
                if self.known.unwritable is None:
                    raise Lost
            with suppress(OSError, sqlite3.Error):
                await self.probe.look()
            if standing(self.known.facts, self._settings.behind) != before:
                self.known.report.ring()

    def status(self) -> dict[str, Any]:
        """What is known now, for the person at the machine."""
        known = self.known
        status, message = standing(known.facts, self._settings.behind)
        age = None if known.reported_at is None else round(time.monotonic() - known.reported_at, 1)
        return {
            "version": __version__,
            "status": int(status),
            "message": message,
            "refused": known.refused,
            "access_log": self.traffic.fault,
            "lacking": len(known.claim.lacking),
            "metrics": {
                "status": int(status),
                "reported_seconds": age,
                "reports_total": known.counted["reports"],
                "reports_failed_total": known.counted["reports_failed"],
                "reports_refused_total": known.counted["reports_refused"],
                "feed_head": known.head,
                "feed_cursor": known.cursor,
                "synced_to": known.claim.synced_to,
                "blobs": known.blobs,
                "blobs_wanted": known.wanted,
                "blobs_failing": known.failing,
                **{f"{name}_total": known.counted[name] for name in COUNTED},
                "delivered_bytes_total": self.traffic.totals["bytes"],
                "delivered_requests_total": self.traffic.totals["requests"],
                "disk_free_bytes": known.room.free if known.room else None,
                "disk_total_bytes": known.room.total if known.room else None,
            },
        }


async def _again(work: Callable[[], Awaitable[None]]) -> None:
    """Do it, and once more where the disk fails: the agent has to live on to say so."""
    while True:
        try:
            await work()
        except* (OSError, sqlite3.Error) as errors:
            log.error("disk.failed", reason="; ".join(map(str, errors.exceptions)))  # noqa: TRY400 - they say all
        else:
            return
        await asyncio.sleep(AGAIN)


async def run(settings: Settings) -> None:
    """Be the agent until the process is told to end."""
    over, loop = asyncio.Event(), asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, over.set)
    while not over.is_set():
        agent = await asyncio.to_thread(Agent, settings)
        log.info("started", version=__version__, blobs=str(agent.folder.root), core=settings.core)
        try:
            await agent.run(over)
        except Lost:
            log.error("folder.lost", blobs=str(agent.folder.root))  # noqa: TRY400 - what it says is all there is
