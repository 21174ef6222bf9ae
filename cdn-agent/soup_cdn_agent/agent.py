"""The composition root: settings to parts to one process, top to bottom."""

import asyncio
import signal
import sqlite3
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

import structlog

from soup_cdn_agent import __version__
from soup_cdn_agent.beside import WebServer
from soup_cdn_agent.core import Core
from soup_cdn_agent.ending import Ending
from soup_cdn_agent.feed import Feed, Holds
from soup_cdn_agent.fetch import Fetch
from soup_cdn_agent.folder import Folder
from soup_cdn_agent.index import Corrupt, Index
from soup_cdn_agent.joining import Joining, Terms
from soup_cdn_agent.known import Known, Threads
from soup_cdn_agent.page import Page
from soup_cdn_agent.probe import Probe
from soup_cdn_agent.pulling import Pulling
from soup_cdn_agent.reporter import Reporter
from soup_cdn_agent.scan import Scan
from soup_cdn_agent.scrub import Scrub
from soup_cdn_agent.settings import Settings
from soup_cdn_agent.standing import Status, standing
from soup_cdn_agent.traffic import Traffic
from soup_cdn_agent.who import Added

log = structlog.get_logger(__name__)

AGAIN = 5.0  # seconds until a work that has failed is begun again
CALM = 30.0  # seconds after that until it is said to go on
INDEX = "index.db"
COUNTED = (
    "fetched", "fetched_bytes", "fetch_failures", "adopted", "removed", "damaged", "scrubbed_bytes",
    "pulls", "pulled_bytes", "pull_passed", "pull_wrong", "pull_refused", "evicted", "evicted_bytes",
)  # fmt: skip


class Lost(Exception):
    """The folder was emptied under us, or its index is damaged: all that was known of it is void."""


class Agent:
    """The parts of one agent, over one folder."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.known, self.threads = Known(), Threads()
        self._looked = asyncio.Event()
        self.folder = Folder(settings.blobs, settings.reserve)
        self.folder.open()
        try:
            self.index = Index(self.folder.own / INDEX)
        except BaseException:
            self.folder.close()
            raise
        verify = ssl.create_default_context()
        if settings.ca_file is not None:
            verify.load_verify_locations(settings.ca_file)
        parts = self.index, self.folder, self.threads, self.known
        holds = Holds(settings.smallest or 0, settings.largest)
        self.who = _who(settings, self.folder)
        self.core = Core(settings.core, self.who, verify, settings.control)
        pull = settings.mode == "pull"
        self.traffic = Traffic(settings.access_log, self.index, self.threads, digests=pull)
        self.pulling = Pulling(settings, self.core, *parts, self.traffic, holds) if pull else None
        self.feed = self.pulling.feed if self.pulling else Feed(self.core, *parts, holds)
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
        self.probe = Probe(settings.web, verify, *parts, self.scrub, may_be_empty=pull)
        self.reporter = Reporter(
            self.core,
            self.feed,
            *parts,
            self.traffic,
            holds=holds,
            behind=settings.behind,
            interval=settings.interval,
            claims=not pull,
        )
        self.feed.open()

    async def run(self, ending: Ending) -> None:
        """Be the agent until it is over; those who are given a blob on its way get all of it. Raises Lost."""
        works: dict[str, Callable[[], Awaitable[None]]] = {
            "feed": self.feed.run,
            "fetching": self._fetch,
            "scan": self.scan.run,
            "scrub": self.scrub.run,
            "reading of the access log": self.traffic.run,
            "probe": self._look,
            "reporting": self._report,
        }
        if self.pulling:
            del works["fetching"]
            works |= self.pulling.works()
        if isinstance(self.who, Joining):
            works["joining"] = partial(self.who.run, self.core)
        page = Page(self._settings.listen, self.status) if self._settings.listen else None
        if page:
            page.start()
        try:
            tasks = {name: asyncio.create_task(self._again(name, work)) for name, work in works.items()}
            ended = asyncio.create_task(ending.over.wait())
            done, _ = await asyncio.wait([ended, *tasks.values()], return_when=asyncio.FIRST_COMPLETED)
            if ending.over.is_set():
                leaving = asyncio.create_task(self.reporter.leave())
                await _cancelled(task for name, task in tasks.items() if name != "pulling")
                await leaving
                await ending.last(self.pulling)
            await _cancelled([ended, *tasks.values()])
            for task in done:
                task.result()
        finally:
            if page:
                await asyncio.to_thread(page.close)
            if self.pulling:
                await self.pulling.close()
            await self.core.close()
            await self.probe.close()
            self.threads.close()
            self.index.close()
            self.folder.close()

    async def _again(self, work: str, do: Callable[[], Awaitable[None]]) -> None:
        """Do it, and once more where it fails: the agent has to live on to say so. Raises Lost."""
        loop, failed = asyncio.get_running_loop(), self.known.failed
        calm: asyncio.TimerHandle | None = None
        while True:
            try:
                await do()
            except Exception as error:
                causes = _causes(error)
                if any(isinstance(one, Lost) for one in causes):
                    raise Lost from error
                if any(isinstance(one, Corrupt) for one in causes):
                    log.error("index.damaged", reason=str(causes[0]))  # noqa: TRY400 - it says all
                    await self.threads.ledger(self.index.discard)
                    raise Lost from error
                failed[work] = "; ".join(str(one) or type(one).__name__ for one in causes)[:300]
                known = all(isinstance(one, (OSError, sqlite3.Error)) for one in causes)
                log.error("work.failed", work=work, reason=failed[work], exc_info=not known)  # noqa: TRY400 - a trace only where it helps
            if calm:
                calm.cancel()
            await asyncio.sleep(AGAIN)
            calm = loop.call_later(CALM, failed.pop, work, None)

    async def _report(self) -> None:
        """Report, for ever; the first look comes before the first word."""
        await self.who.found()
        await self._looked.wait()
        await self.reporter.run()

    async def _fetch(self) -> None:
        """Fetch, for ever; as whom is to be known first."""
        await self.who.found()
        await self.fetch.run()

    async def _look(self) -> None:
        """See now and then that all is well, and say at once when it is not."""
        try:
            await self.probe.look()
        finally:
            self._looked.set()
        while True:
            before = standing(self.known.facts, self._settings.behind)
            await self.known.look.heard(self._settings.check_seconds)
            if await self.threads.ledger(lambda: self.index.lost):
                self.known.unwritable = await self.threads.run(self.folder.unwritable)
                if self.known.unwritable is None:
                    raise Lost
            await self.probe.look()
            if standing(self.known.facts, self._settings.behind) != before:
                self.known.report.ring()

    def status(self) -> dict[str, Any]:
        """What is known now, for the person at the machine."""
        known = self.known
        status, message = standing(known.facts, self._settings.behind)
        age = None if known.reported_at is None else round(time.monotonic() - known.reported_at, 1)
        mirror = self.who.shown
        if mirror.fault and status <= Status.WARNING:
            status, message = Status.WARNING, mirror.fault
        return {
            "version": __version__,
            "mode": self._settings.mode,
            "mirror": {"id": mirror.id, "joined_as": mirror.url, "fault": mirror.fault},
            "status": int(status),
            "message": message,
            "refused": known.refused,
            "access_log": self.traffic.fault,
            "lacking": len(known.claim.lacking),
            "metrics": {
                "status": int(status),
                "joined": mirror.joined,
                "joins_total": mirror.joins,
                "joins_failed_total": mirror.failed,
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
                "pull_clients": self.pulling.pulls.clients if self.pulling else None,
                "delivered_bytes_total": self.traffic.totals["bytes"],
                "delivered_requests_total": self.traffic.totals["requests"],
                "disk_free_bytes": known.room.free if known.room else None,
                "disk_total_bytes": known.room.total if known.room else None,
            },
        }


async def _cancelled(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """End them, however they end."""
    ended = [*tasks]
    for task in ended:
        task.cancel()
    await asyncio.gather(*ended, return_exceptions=True)


def _who(settings: Settings, folder: Folder) -> Added | Joining:
    """The mirror of the settings, or the one that it joins as."""
    if settings.id is not None:
        return Added(settings.id, lambda: settings.secret)
    terms = Terms(settings.fqdn, settings.scheme, settings.port, settings.mode)
    return Joining(settings.core, terms, lambda: settings.secret, folder.own)


def _causes(error: BaseException) -> list[BaseException]:
    """What a group of exceptions is made of."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [cause for one in error.exceptions for cause in _causes(one)]


async def run(settings: Settings) -> int:
    """Be the agent until the process is told to end, or its web server has ended; what to exit with.

    Raises OSError, sqlite3.Error.
    """
    ending, loop = Ending(settings.stop_seconds), asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, ending.begin)
    if not settings.beside:
        await _live(settings, ending)
        return ending.code
    loop.add_signal_handler(signal.SIGQUIT, ending.begin)  # by which an image of nginx is told to end
    web = WebServer(settings.beside, settings.beside_stop, settings.beside_reload, ending.fell)
    ending.web = web
    try:
        await web.listens(settings.web, ending.over)
        await _live(settings, ending)
    except Exception as error:
        ending.start_clock()
        log.error("agent.ended", reason=str(error) or type(error).__name__)  # noqa: TRY400 - it is raised on
        raise
    finally:
        ending.over.set()
        await ending.last(None)
    return ending.code


async def _live(settings: Settings, ending: Ending) -> None:
    """An agent, and a new one over the same folder where that was lost."""
    while not ending.over.is_set():
        agent = await asyncio.to_thread(Agent, settings)
        log.info("started", version=__version__, blobs=str(agent.folder.root), core=settings.core)
        try:
            await agent.run(ending)
        except Lost:
            log.error("folder.lost", blobs=str(agent.folder.root))  # noqa: TRY400 - what it says is all there is
            with suppress(TimeoutError):  # who loses it again and again is not to be asked without a pause
                await asyncio.wait_for(ending.over.wait(), 1)
