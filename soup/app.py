"""The composition root: settings to parts to application, by hand, top to bottom."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from random import Random

import structlog
from litestar import Litestar

from soup import logs
from soup.access.service import Access
from soup.blobs.index import Index, PostgresIndex, SqliteIndex
from soup.blobs.reading import Reading
from soup.blobs.service import Blobs
from soup.core.beat import beat, beating
from soup.core.bell import Bell
from soup.core.clock import Clock, Steady, steady, utc_now
from soup.core.errors import SoupError
from soup.db.lease import Lease
from soup.db.work import Database
from soup.faces.auth import Doors
from soup.faces.core import Face, Manners
from soup.jobs.service import Runs
from soup.mirrors.picture import Live
from soup.mirrors.policy import Rules
from soup.mirrors.service import Mirrors, loader
from soup.prepare import STORE
from soup.runner.clock import Runner
from soup.runner.table import jobs
from soup.settings import PARENT, RUNTIME, Settings
from soup.stores import identity
from soup.stores.disk import Disk
from soup.stores.local import SPOOL, LocalStore
from soup.stores.spool import Spool

REMEMBERED = 100_000  # blobs a worker keeps in mind, at 300 bytes each, where a lookup is a round trip
STOPS = {signal.SIGTERM, signal.SIGINT}
TICK = 1.0  # seconds between looks at what other machines have changed

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Soup:
    """Everything, built. `face` is the ASGI application; its lifespan starts and ends the rest."""

    face: Face
    blobs: Blobs
    mirrors: Mirrors
    access: Access
    runner: Runner


def build(
    settings: Settings, *, clock: Clock | None = None, monotonic: Steady = steady, dice: Random | None = None
) -> Soup:
    """Put soup together. The data folder is prepared already: see `prepare`."""
    runtime = Path(os.environ[RUNTIME]) if RUNTIME in os.environ else None
    bell, gong = Bell(runtime), Bell(runtime, "blobs")
    disk, database = Disk(), Database(settings.database_url, clock=clock)
    index = _index(database, gong)
    store = LocalStore(disk, settings.blobs_folder)
    spool = Spool(
        disk, store.folder / SPOOL, keep_free=settings.store.keep_free, largest=settings.upload.largest
    )
    blobs = Blobs(
        database,
        index,
        store,
        STORE,
        spool,
        Reading(store, disk, verify_up_to=settings.serve.verify_up_to),
        swept_after=timedelta(seconds=settings.blobs.swept_seconds),
        kept=timedelta(days=settings.feed.keep_days),
    )
    access = Access(database, bell, clock=clock or utc_now)
    rules = Rules(settings.cdn.silence_seconds, settings.cdn.error_mirrors)
    live = Live(loader(database), bell, rules, lambda: blobs.epoch, monotonic=monotonic)
    mirrors = Mirrors(database, live, bell, access.for_mirror, dice=dice or Random())  # noqa: S311 - a draw among mirrors
    doors = Doors(
        access, open_mode=settings.auth.mode == "open", open_reports=settings.cdn.report_auth == "none"
    )
    runner = Runner(
        Lease(database, "jobs", seconds=settings.jobs.lease_seconds, monotonic=monotonic),
        jobs(
            blobs,
            mirrors,
            mirrors_sweep=settings.jobs.mirrors_sweep_seconds,
            blobs_sweep=settings.jobs.blobs_sweep_seconds,
            feed_trim=settings.jobs.feed_trim_seconds,
        ),
        Runs(database).record,
        seconds=settings.jobs.lease_seconds,
    )

    looked = _look(database.file, store.folder)

    async def ready() -> str | None:
        try:
            await blobs.feed()
            same = looked == await disk.run(_look, database.file, store.folder)
        except SoupError as error:
            return str(error)
        return None if same else "the database file or the store is not the one that was opened"

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        await blobs.start()
        await mirrors.refresh()
        await access.refresh()
        loops = [_ticking(act) for act in (blobs.refresh, mirrors.refresh, access.refresh, _with_parent)]
        asyncio.get_running_loop().call_later(0.1, signal.pthread_sigmask, signal.SIG_UNBLOCK, STOPS)
        async with beating(*loops, runner.run):
            yield
        await blobs.idle()
        await mirrors.idle()
        await runner.close()
        await database.close()
        await index.close()
        disk.close()
        bell.close()
        gong.close()

    face = Face(blobs, mirrors, doors, ready, _manners(settings), [lifespan])
    return Soup(face, blobs, mirrors, access, runner)


def _look(database: Path | None, store: Path) -> tuple[int, int, str | None]:
    """Which file and which store are there now: a disk that is unmounted leaves open handles behind."""
    (store / SPOOL).stat()
    file = database.stat() if database is not None else None
    return file.st_dev if file else 0, file.st_ino if file else 0, identity.read(store)


def _index(database: Database, bell: Bell) -> Index:
    if database.file is not None:
        return SqliteIndex(database.file)
    return PostgresIndex(database.plain_url, bell, seconds=database.seconds, remembered=REMEMBERED)


def _manners(settings: Settings) -> Manners:
    return Manners(
        redirects=settings.cdn.redirects,
        closed=settings.auth.read == "token",
        direct_slots=settings.serve.direct_slots,
        serve_idle=settings.serve.idle_seconds,
        upload_idle=settings.upload.idle_seconds,
        accel=settings.serve.accel == "nginx",
        report_seconds=settings.cdn.report_seconds,
        public_list=settings.cdn.public_list,
        url=settings.server.url.rstrip("/"),
        log_requests=settings.log.requests,
    )


def worker() -> Face:
    """The application of one worker process, from the environment its parent has set."""
    # Granian forgets a signal that comes while a worker is starting, and its parent waits until it kills it:
    # let the signal wait here, until there is somebody who listens.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    settings = Settings.load(os.environ)
    logs.set_up(settings.log.format, settings.log.level)
    return build(settings).face


def _ticking(act: Callable[[], Awaitable[None]]) -> Callable[[asyncio.Event], Awaitable[None]]:
    async def tick() -> None:
        try:
            await act()
        except SoupError as error:
            log.warning("refresh.failed", reason=str(error))

    return lambda over: beat(tick, TICK, over)


async def _with_parent() -> None:
    """A worker ends with its parent: one that is left over would go on serving on the parent's port."""
    parent = os.environ.get(PARENT)  # by name: it may be gone before this worker looks
    if parent is not None and os.getppid() != int(parent):
        log.error("parent.gone")
        os.kill(os.getpid(), signal.SIGTERM)
