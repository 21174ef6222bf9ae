"""The composition root: settings to parts to application, by hand, top to bottom."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import TypeAlias

import structlog

from soup.access.joining import Secret
from soup.access.service import Access
from soup.blobs.bundle import Bundles
from soup.blobs.damage import Damage
from soup.blobs.index import Index, SqliteIndex
from soup.blobs.postgres import PostgresIndex
from soup.blobs.reading import Reading
from soup.blobs.samples import Samples
from soup.blobs.scrub import Scrub
from soup.blobs.service import Blobs
from soup.blobs.suspects import Suspects
from soup.core.beat import beat, beating
from soup.core.bell import Bell
from soup.core.clock import Clock, Steady, steady, utc_now
from soup.core.errors import SoupError
from soup.db import bell
from soup.db.lease import Lease
from soup.db.work import Database
from soup.faces.auth import Doors
from soup.faces.core import Face
from soup.faces.manners import Manners
from soup.jobs.service import Runs
from soup.mirrors.joins import Conditions, Joins
from soup.mirrors.picture import Live
from soup.mirrors.policy import Rules
from soup.mirrors.service import Mirrors, Reports
from soup.prepare import STORE
from soup.runner.audit import Audit
from soup.runner.clock import Runner
from soup.runner.outside import Outside
from soup.runner.repair import Repair
from soup.runner.table import jobs
from soup.settings import RUNTIME, Settings
from soup.stores import identity
from soup.stores.disk import Disk
from soup.stores.local import SPOOL, LocalStore
from soup.stores.spool import Spool

REMEMBERED = 1 << 18  # blobs that a worker knows without asking its database: 12 MiB
WAITING = "waiting for the database to be prepared"
SOON = 0.25  # seconds between tries to start
LISTEN = 0.5  # seconds between looks at whether other machines have changed something
TICK = 1.0  # between looks at who is still heard of
RARELY = 5.0  # between looks at the secret for joining, and at whether to read all tokens

log = structlog.get_logger(__name__)

Look: TypeAlias = tuple[int, int, str | None]  # device and inode of the database file, uuid of the store


@dataclass(slots=True)
class Soup:
    """Everything, built. `face` is the ASGI application; it answers while the rest is `running`."""

    face: Face
    blobs: Blobs
    mirrors: Mirrors
    joins: Joins
    access: Access
    runner: Runner
    audit: Audit
    outside: Outside
    doors: Doors
    spool: Spool
    reading: Reading
    store: LocalStore
    disk: Disk
    database: Database
    index: Index
    bells: tuple[Bell, ...]
    prepared: asyncio.Event | None
    stopping: bool = False
    opened: Look | None = None
    rung: int = -1

    async def ready(self) -> str | None:
        """Why this process cannot do its work; None where it can."""
        if self.stopping:
            return "it is stopping"
        if self.face.closed is not None:
            return self.face.closed
        try:
            await self.blobs.feed()
            same = self.opened == await self._look()
        except SoupError as error:
            return str(error)
        return None if same else "the database file or the store is not the one that was opened"

    async def _look(self) -> Look:
        return await self.disk.run(_look, self.database.file, self.store.folder)

    async def _start(self) -> None:
        """Open to requests, or say why not yet."""
        if self.prepared is not None and not self.prepared.is_set():
            return
        try:
            self.opened = await self._look()
            await self.blobs.start()
            self.rung = await self._rung()  # before both: what changes from here on is heard
            await self.mirrors.refresh()
            await self.access.refresh()
        except SoupError as error:
            if self.face.closed != str(error):
                log.warning("start.waiting", reason=str(error))
            self.face.closed = str(error)
        else:
            self.face.closed = None

    async def _live(self, over: asyncio.Event) -> None:
        while self.face.closed is not None and not over.is_set():
            await asyncio.sleep(SOON)
            await self._start()
        looks = [_ticking(act, LISTEN) for act in (self.blobs.refresh, self._listen)]
        looks += [_ticking(act, TICK) for act in (self.mirrors.look, self.blobs.measure)]
        async with beating(*looks, _ticking(self.access.look, RARELY), self.runner.run):
            await over.wait()

    async def _listen(self) -> None:
        """Look again at who is a mirror and who may, when another machine has changed it."""
        rung = await self._rung()
        if rung != self.rung:
            await self.mirrors.refresh()
            await self.access.refresh()
            self.rung = rung

    async def _rung(self) -> int:
        async with self.database.reading() as session:
            return await bell.rung(session)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Started, as soon as the database lets it, and ended with the block."""
        await self._start()
        try:
            async with beating(self._live):
                yield
        finally:
            await self.blobs.idle()
            await self.mirrors.idle()
            await self.runner.close()
            await self.index.close()
            await self.database.close()  # after the index: who closes SQLite's file last takes in its log
            self.disk.close()
            for one in self.bells:
                one.close()

    def adopt(self, settings: Settings) -> None:
        """Go by other settings from the next request on, as far as they can be changed in place (D10)."""
        self.face.manners.become(_manners(settings))
        self.doors.become(settings.auth.mode, settings.cdn.report_auth)
        self.spool.largest, self.reading.verify_up_to = settings.upload.largest, settings.serve.verify_up_to
        self.mirrors.play_by(rules(settings))
        self.audit.become(on=settings.cdn.audit == "on", seconds=settings.cdn.audit_seconds)
        self.outside.become(settings.cdn.ca_file, private=settings.cdn.join.allow_private)
        self.joins.become(conditions(settings))
        self.access.joining.become(settings.cdn.join.token_file)

    def drain(self) -> None:
        """Say to everybody that this process is about to end."""
        self.stopping = True
        self.runner.leave()
        self.blobs.stop_waiting()
        self.face.part()


def build(
    settings: Settings,
    *,
    prepared: asyncio.Event | None = None,
    control: bool = False,
    clock: Clock | None = None,
    monotonic: Steady = steady,
    dice: Random | None = None,
) -> Soup:
    """Put soup together. Nothing is answered but health before `prepared` (see `prepare`); None: it is."""
    runtime = Path(os.environ[RUNTIME]) if RUNTIME in os.environ else None
    near, gong = Bell(runtime), Bell(runtime, "blobs")
    disk, database = Disk(), Database(settings.database_url, clock=clock)
    index = _index(database, gong)
    store = LocalStore(disk, settings.blobs_folder)
    spool = Spool(
        disk, store.folder / SPOOL, keep_free=settings.store.keep_free, largest=settings.upload.largest
    )
    reading = Reading(store, disk, verify_up_to=settings.serve.verify_up_to)
    damage = Damage(database, store, STORE)
    suspects = Suspects(damage, store, disk)
    blobs = Blobs(
        database,
        index,
        store,
        STORE,
        spool,
        reading,
        suspects,
        swept_after=timedelta(seconds=settings.blobs.swept_seconds),
        kept=timedelta(days=settings.feed.keep_days),
    )
    scrub = Scrub(
        database,
        store,
        STORE,
        disk,
        rate=settings.scrub.bytes_per_second,
        seconds=settings.jobs.blobs_scrub_seconds,
    )
    secret = Secret(settings.cdn.join.token_file)
    access = Access(database, near, clock=clock or utc_now, joining=secret)

    async def history() -> tuple[str, int]:
        feed = await blobs.feed()
        return feed.epoch, feed.head

    picture = Live(Reports(database), near, rules(settings), history, monotonic=monotonic)
    dice = dice or Random()  # noqa: S311 - a draw among mirrors
    mirrors = Mirrors(database, picture, near, access.for_mirror, dice=dice)
    joins = Joins(database, mirrors, access.for_mirror, conditions(settings))
    outside = Outside(disk, settings.cdn.ca_file, private=settings.cdn.join.allow_private)
    audit = Audit(
        mirrors,
        blobs,
        Samples(database, dice),
        store,
        disk,
        outside,
        dice,
        on=settings.cdn.audit == "on",
        seconds=settings.cdn.audit_seconds,
        interval=settings.jobs.mirrors_audit_seconds,
    )
    returns = Spool(disk, store.folder / SPOOL, keep_free=settings.store.keep_free, largest=None)
    repair = Repair(damage, mirrors, outside, returns, dice, interval=settings.jobs.blobs_repair_seconds)
    doors = Doors(access, settings.auth.mode, settings.cdn.report_auth)
    runner = Runner(
        Lease(database, "jobs", seconds=settings.jobs.lease_seconds, monotonic=monotonic),
        jobs(
            blobs,
            scrub,
            mirrors,
            access,
            audit,
            repair,
            mirrors_sweep=settings.jobs.mirrors_sweep_seconds,
            mirrors_audit=settings.jobs.mirrors_audit_seconds,
            blobs_repair=settings.jobs.blobs_repair_seconds,
            blobs_sweep=settings.jobs.blobs_sweep_seconds,
            blobs_scrub=settings.jobs.blobs_scrub_seconds,
            blobs_count=settings.jobs.blobs_count_seconds,
            feed_trim=settings.jobs.feed_trim_seconds,
            tokens_expire=settings.jobs.tokens_expire_seconds,
        ),
        Runs(database).record,
        seconds=settings.jobs.lease_seconds,
    )

    async def ready() -> str | None:
        return await soup.ready()

    bundles = Bundles(database, reading, suspects)
    face = Face(blobs, bundles, mirrors, joins, doors, ready, _manners(settings), control=control)
    face.closed = WAITING
    soup = Soup(
        face,
        blobs,
        mirrors,
        joins,
        access,
        runner,
        audit,
        outside,
        doors,
        spool,
        reading,
        store,
        disk,
        database,
        index,
        (near, gong),
        prepared,
    )
    return soup


def _look(database: Path | None, store: Path) -> Look:
    """Which file and which store are there now: a disk that is unmounted leaves open handles behind."""
    (store / SPOOL).stat()
    file = database.stat() if database is not None else None
    return file.st_dev if file else 0, file.st_ino if file else 0, identity.read(store)


def _index(database: Database, gong: Bell) -> Index:
    if database.file is not None:
        return SqliteIndex(database.file, gong, remembered=REMEMBERED)
    return PostgresIndex(database.plain_url, gong, seconds=database.seconds, remembered=REMEMBERED)


def rules(settings: Settings) -> Rules:
    return Rules(settings.cdn.silence_seconds, settings.cdn.error_mirrors, settings.cdn.audit == "on")


def conditions(settings: Settings) -> Conditions:
    return Conditions(settings.cdn.join.enabled, settings.cdn.join.allow_private, settings.cdn.join.most)


def _manners(settings: Settings) -> Manners:
    return Manners(
        redirects=settings.cdn.redirects,
        closed=settings.auth.read == "token",
        direct_slots=settings.serve.direct_slots,
        sync_slots=settings.cdn.sync_slots,
        alternates=settings.cdn.alternates,
        serve_idle=settings.serve.idle_seconds,
        upload_slots=settings.upload.slots,
        upload_idle=settings.upload.idle_seconds,
        accel=settings.serve.accel == "nginx",
        report_seconds=settings.cdn.report_seconds,
        public_list=settings.cdn.public_list,
        url=settings.server.url.rstrip("/"),
        log_requests=settings.log.requests,
    )


def _ticking(
    act: Callable[[], Awaitable[None]], seconds: float
) -> Callable[[asyncio.Event], Awaitable[None]]:
    async def tick() -> None:
        try:
            await act()
        except SoupError as error:
            log.warning("refresh.failed", reason=str(error))
        except Exception:  # a loop that ends is missed by nobody, and what it hears of is needed by all
            log.exception("refresh.failed")

    return lambda over: beat(tick, seconds, over)
