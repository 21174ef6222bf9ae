"""What `bench.scale` is made from, measured: `python -m bench.scale --measure 1000000 5000000`.

PostgreSQL is one of our own with the settings of tests/databases.py; its part is what its backends have used,
the client's what this process has, on the event loop that soup's workers use. Medians.
"""

import asyncio
import functools
import hashlib
import os
import struct
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import islice, pairwise
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import psycopg
import uvloop

from soup.access.service import Access
from soup.blobs import queries
from soup.blobs.known import Known
from soup.blobs.postgres import PostgresIndex
from soup.core.bell import Bell
from soup.db.work import Database, Work
from soup.mirrors.model import Report, Status
from soup.mirrors.picture import Live
from soup.mirrors.policy import Rules
from soup.mirrors.service import Mirrors, Reports
from tests.databases import cluster, free_port

BEGIN = """
insert into store (name, uuid, kind) values ('one', 'one', 'local');
insert into feed (id, epoch, head, floor) values (1, 'epoch', 0, 0);
"""
# Digests come in no order, as they do in life: what their indexes look like depends on it.
BLOBS = """
insert into blob (digest, size, state, seq, created_at, touched_at)
  select sha256(int8send(n)), 4096, 1, n, now(), now() from generate_series({first}, {last}) n;
insert into placement (blob_id, store_id, state) select id, 1, 1 from blob where seq >= {first};
update feed set head = {last};
"""
SIZES = """
select relname, pg_relation_size(oid) from pg_class
  where oid in ('blob'::regclass, 'placement'::regclass)
  or oid in (select indexrelid from pg_index where indrelid in ('blob'::regclass, 'placement'::regclass))
"""
FLEET = """
insert into mirror (fqdn, scheme, port, mode, weight, trusted, drained, created_at)
  select 'mirror-' || n || '.example', 'https', 443, 'full', 1, true, false, now()
  from generate_series(1, {mirrors}) n;
insert into token (kind, mirror_id, hash, created_at, last_used_at)
  select 'mirror', id, sha256(int8send(id)), now(), now() from mirror;
insert into report (mirror_id, status, last_seen, leaving, epoch, synced_to, agent, disk_free, disk_total,
    boot_id, totals)
  select mirror.id, 1, now() - interval '10 s', false, epoch, head, 'soup-cdn-agent/0.1.0', 1e9, 9e9,
    'b' || mirror.id, '{{"bytes": 1000, "requests": 1}}' from mirror, feed;
"""
TURN = "update report set last_seen = clock_timestamp() where mirror_id % 30 = {turn}"
HEARD = "update report set last_seen = clock_timestamp()"
MOVED = """
update blob set seq = head + blob.id from feed where blob.id <= 1000;
update feed set head = head + 1000;
"""
BACKENDS = "select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
LOOKUPS, ROUNDS = 4096, 9  # in a round
SOME = 1000  # changes

Plain = psycopg.Connection[tuple[Any, ...]]


def measure(sizes: Sequence[int], mirrors: int) -> None:
    """Print a line a figure: with so many blobs, one number after the other, and so many mirrors."""
    print(f"mind: {_mind(100_000):.0f} bytes a blob")
    with cluster(free_port()) as postgres:
        url = postgres.fresh()
        with psycopg.connect(url, autocommit=True) as plain:
            plain.execute(BEGIN)
            for before, size in pairwise((0, *sizes)):
                plain.execute(BLOBS.format(first=before + 1, last=size))
                plain.execute("vacuum analyze")
                each = {name: bytes / size for name, bytes in plain.execute(SIZES)}
                print(f"{size} rows: {sum(each.values()):.0f} bytes each:", end=" ")
                print(", ".join(f"{name} {bytes:.1f}" for name, bytes in sorted(each.items())), flush=True)
            plain.execute(FLEET.format(mirrors=mirrors))
            plain.execute("vacuum analyze")
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_costs(url, plain, sizes[-1], mirrors))


async def _costs(url: str, plain: Plain, blobs: int, mirrors: int) -> None:
    costs = Costs(url, plain, blobs, mirrors)
    try:
        await costs.run()
    finally:
        await costs.close()


def _mind(blobs: int) -> float:
    """Bytes a blob in the memory of a worker."""
    tracemalloc.start()
    known = Known(blobs)
    for number in range(blobs):
        known.put(os.urandom(32), number + 10**6, number + 4096)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return taken / blobs


class Costs:
    """The parts of a worker that ask the database, and what they use."""

    def __init__(self, url: str, plain: Plain, blobs: int, mirrors: int) -> None:
        self._plain, self._blobs, self._mirrors = plain, blobs, mirrors
        self._dice, self._base = Random(7), Database(url)  # noqa: S311 - the same ones each time
        self._index = PostgresIndex(url, Bell(), seconds=30, remembered=2)
        self._live = Live(Reports(self._base), Bell(), Rules(), self._history, monotonic=time.monotonic)
        self._access = Access(self._base, Bell())
        self._fleet = Mirrors(self._base, self._live, Bell(), self._issue, dice=self._dice)

    async def run(self) -> None:
        """Print all."""
        await self._index.start()
        for size in (1, 4, 16, 64, 256):
            numbers = [self._dice.randint(1, self._blobs) for _ in range((1 + ROUNDS) * LOOKUPS)]
            self._raws = iter([hashlib.sha256(struct.pack(">q", number)).digest() for number in numbers])
            act = functools.partial(self._lookups, size)
            await self._cost(f"a query of {size}", act, ROUNDS, each=LOOKUPS // size)
        await self._cost("every: all mirrors are read", self._live.refresh, 7)
        await self._cost("look: a thirtieth has reported", self._live.look, 7, TURN)
        await self._cost("tokens: all are read", self._access.refresh, 7)
        self._plain.execute(HEARD)  # one of a mirror that was nearly silent is news, and costs more
        await self._live.refresh()
        await self._cost("report: one alone", self._report, 30)
        await self._cost("poll: nothing has changed", self._index.refresh, 100)
        await self._cost("heard: a change", self._index.refresh, 7, MOVED, each=SOME)
        await self._cost("change: read by a mirror", self._changes, 7, each=SOME)

    async def close(self) -> None:
        """Give the connections back."""
        await self._index.close()
        await self._base.close()

    async def _history(self) -> tuple[str, int]:
        feed = await self._index.feed()
        return feed.epoch, feed.head

    async def _issue(self, _: Work, id: int) -> str:
        return str(id)

    async def _cost(
        self, what: str, act: Callable[[], Awaitable[object]], times: int, before: str = "", *, each: int = 1
    ) -> None:
        """Print medians of so many times, after one to get warm; a second `before` each this is done."""
        ours, theirs, took = list[float](), list[float](), list[float]()
        for turn in range(times + 1):
            if before:
                self._plain.execute(before.format(turn=turn))
                await asyncio.sleep(1)
            began, used, served = time.perf_counter(), time.process_time(), self._served()
            await act()
            took.append(time.perf_counter() - began)
            ours.append(time.process_time() - used)
            theirs.append(self._served() - served)
        figures = [1e6 * median(seconds[1:]) / each for seconds in (ours, theirs, took)]
        print(
            f"{what}: {figures[0]:.1f} us here, {figures[1]:.1f} us of PostgreSQL, took {figures[2]:.1f} us"
        )

    def _served(self) -> float:
        """Seconds that backends have used."""
        files: Iterable[Path] = [Path(f"/proc/{pid}/schedstat") for (pid,) in self._plain.execute(BACKENDS)]
        return sum(int(file.read_text().split()[0]) for file in files) / 1e9

    async def _lookups(self, size: int) -> None:
        for _ in range(LOOKUPS // size):
            found = await asyncio.gather(*map(self._index.ask, islice(self._raws, size)))
            assert None not in found  # noqa: S101 - a bench of wrong answers is none

    async def _report(self) -> None:
        said = self._live.mirrors[self._dice.randint(1, self._mirrors)]
        assert said.said is not None  # noqa: S101 - it was read
        more = Report(Status.OK, epoch=said.said.epoch, synced_to=said.said.synced_to, boot_id="b")
        await self._fleet.report(said.id, more)

    async def _changes(self) -> None:
        async with self._base.reading() as session:
            await queries.changes(session, self._dice.randint(SOME, self._blobs - SOME), SOME)
