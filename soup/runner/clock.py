"""The clock of the jobs: APScheduler, under a lease."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC
from typing import Any

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from soup import metrics
from soup.core.beat import PATIENCE, beat
from soup.core.clock import utc_now
from soup.core.errors import SoupError
from soup.db.lease import Held, Lease
from soup.jobs.model import Run
from soup.runner.table import Job

log = structlog.get_logger(__name__)

Record = Callable[[Run], Awaitable[None]]

LONGEST = 3600.0  # seconds for one run of a job
JUMP = 1.0  # seconds between two looks at both clocks by which they may drift apart


class Runner:
    """Runs the jobs while this process holds the lease, and has each run written down."""

    def __init__(self, lease: Lease, jobs: Sequence[Job], record: Record, *, seconds: float) -> None:
        self.jobs = {job.name: job for job in jobs}
        self._lease, self._record, self._seconds = lease, record, seconds
        self._aside = self._leaving = False
        self._scheduler: Any = None
        self._apart = _apart()
        self._over = asyncio.Event()
        self._under_way: set[asyncio.Task[Run]] = set()

    async def run(self, over: asyncio.Event | None = None) -> None:
        """Try for the lease, for ever; three tries fit into one, so that a slow database does not cost it."""
        if self._aside:
            return
        try:
            await beat(self._try, self._seconds / 3, over or asyncio.Event())
        finally:
            self._stop()

    def leave(self) -> None:
        """Take the lease no more, for this process is to end; one that it has it keeps until then."""
        self._leaving = True

    def stand_aside(self) -> None:
        """Leave the lease to others: `run` is to do nothing."""
        self._aside = True

    async def once(self, name: str) -> Run:
        """Run one job now, all of it, under the lease of whoever has it.

        Raises LeaseLost where nobody ever had it.
        """
        job = self.jobs[name]
        done = await self._run(job, await self._lease.borrowed())
        if job.aside is not None:
            await job.aside.settle()
        return done

    async def _try(self) -> None:
        if self._leaving and self._lease.held is None:
            return
        try:
            held = await self._lease.renew()
        except SoupError as error:
            log.warning("lease.unknown", reason=str(error))
            held = self._lease.held
        except Exception:
            log.exception("lease.unknown")
            held = self._lease.held
        if abs(_apart() - self._apart) > JUMP:
            # The scheduler goes by the clock on the wall: set back, it would stop the jobs for as long.
            self._stop()
        if held is not None and self._scheduler is None:
            self._start()
        elif held is None and self._scheduler is not None:
            self._stop()

    def _start(self) -> None:
        log.info("jobs.here", jobs=[*self.jobs])
        metrics.LEASE_HELD.set(1)
        self._over = asyncio.Event()
        self._apart = _apart()
        self._scheduler = AsyncIOScheduler(timezone=UTC)
        for job in self.jobs.values():
            self._scheduler.add_job(
                self._once,
                "interval",
                args=[job],
                seconds=job.seconds,
                id=job.name,
                coalesce=True,
                max_instances=1,
                misfire_grace_time=None,  # the default drops a run that a busy second made late
            )
        self._scheduler.start()

    def _stop(self) -> None:
        self._over.set()
        metrics.LEASE_HELD.set(0)
        if self._scheduler is not None:
            self._scheduler.shutdown(wait=False)
            self._scheduler = None

    async def _once(self, job: Job) -> None:
        held = self._lease.held
        if held is None:
            return
        held = replace(held, over=self._over)
        run = asyncio.create_task(self._run(job, held))  # our own: the scheduler's end would cut it off
        self._under_way.add(run)
        run.add_done_callback(self._under_way.discard)
        with suppress(asyncio.CancelledError):  # which the scheduler would call an error of the job
            await asyncio.shield(run)

    async def _run(self, job: Job, held: Held) -> Run:
        began, started = time.monotonic(), utc_now()
        result = await self._result(job, held)
        seconds = time.monotonic() - began
        metrics.JOB_SECONDS.labels(job.name).observe(seconds)
        run = Run(job.name, started, round(seconds, 3), self._lease.me, result)
        try:
            await self._record(run)
        except SoupError as error:
            log.warning("job.unrecorded", job=job.name, result=result, reason=str(error))
        return run

    async def _result(self, job: Job, held: Held) -> str:
        try:
            async with asyncio.timeout(LONGEST):
                done = await job.run(held)
        except (SoupError, TimeoutError) as error:
            log.warning("job.failed", job=job.name, reason=str(error))
            metrics.JOB_RUNS.labels(job.name, "failed").inc()
            return f"failed: {_line(str(error))}"
        except Exception as error:
            log.exception("job.failed", job=job.name)
            metrics.JOB_RUNS.labels(job.name, "failed").inc()
            return f"failed: {_line(repr(error))}"
        metrics.JOB_RUNS.labels(job.name, "done").inc()
        metrics.JOB_SUCCESS.labels(job.name).set_to_current_time()
        if done:
            (log.debug if job.often else log.info)("job.done", job=job.name, count=done)
        return f"done: {done}"

    async def settle(self) -> None:
        """Wait for what is running."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=PATIENCE)

    async def close(self) -> None:
        """Let what runs come to its end, and another process have the lease at once."""
        self._stop()
        await self.settle()
        for job in self.jobs.values():
            if job.aside is not None:
                await job.aside.close()
        try:
            await self._lease.release()
        except SoupError as error:
            log.warning("lease.kept", reason=str(error))


def _apart() -> float:
    """How far the clock on the wall is from the steady one."""
    return time.time() - time.monotonic()


def _line(text: str) -> str:
    """On one line: databases say more than that."""
    return " ".join(text.split())
