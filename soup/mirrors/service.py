"""What can be done with mirrors."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from random import Random

import structlog
from sqlalchemy.exc import DataError
from sqlalchemy.ext.asyncio import AsyncSession

from soup import metrics
from soup.core.bell import Bell
from soup.core.digest import Digest
from soup.core.errors import DatabaseDown, MirrorUnknown
from soup.core.gather import Gather
from soup.db import bell
from soup.db.lease import Held
from soup.db.work import Database, Work
from soup.mirrors import queries
from soup.mirrors.doubt import Ruling, claims, rule
from soup.mirrors.model import HEARTBEAT, Bar, Delivered, Delivery, Mirror, Report, Status, Terms, Verdict
from soup.mirrors.picture import Live
from soup.mirrors.policy import Member, Rules, holders, links

log = structlog.get_logger(__name__)

REPORTS = 1000  # in one transaction at most
DAYS = 30  # of deliveries that are shown one by one

Issue = Callable[[Work, int], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class View:
    """A mirror as lists show it: `why` it would not be chosen, None where it would be."""

    mirror: Mirror
    online: bool
    why: str | None
    delivered: Delivered


@dataclass(frozen=True, slots=True)
class _Heard:
    id: int
    report: Report
    at: float  # on the event loop's clock


class Reports:
    """What a picture is drawn from (`Source`)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def every(self, known: Mapping[int, Mirror]) -> tuple[Sequence[Mirror], datetime]:
        """See Source."""
        async with self._database.reading() as session:
            return await queries.anew(session, known), await self._database.now(session)

    async def some(self, ids: Collection[int]) -> tuple[Sequence[Mirror], datetime]:
        """See Source."""
        async with self._database.reading() as session:
            return await queries.every(session, ids), await self._database.now(session)

    async def seen(self, seconds: float) -> Mapping[int, datetime]:
        """See Source."""
        async with self._database.reading() as session:
            now = await self._database.now(session)
            return await queries.seen(session, now - timedelta(seconds=seconds))


class Mirrors:
    """Who else serves. `issue` makes a token for a mirror inside a transaction of ours."""

    def __init__(self, database: Database, live: Live, near: Bell, issue: Issue, *, dice: Random) -> None:
        self._database, self._live, self._issue = database, live, issue
        self._bell = near
        self._dice = dice.random
        self._reports: Gather[_Heard, bool] = Gather(
            self._write, pause=0.1, most=REPORTS, limit=database.seconds
        )
        self._verdicts: Gather[tuple[Held, Verdict], None] = Gather(
            self._judge, pause=0.25, most=REPORTS, limit=database.seconds
        )

    def play_by(self, rules: Rules) -> None:
        """Choose by other rules from now on."""
        self._live.play_by(rules)

    @property
    def stale(self) -> bool:
        """Whether `catch_up` has something to do."""
        return self._live.stale

    async def catch_up(self) -> None:
        """Hear of what another process of this machine has changed."""
        await self._live.catch_up()

    async def refresh(self) -> None:
        """Hear of what anybody has changed. Raises DatabaseDown."""
        await self._live.refresh()

    async def look(self) -> None:
        """Hear of new reports. Raises DatabaseDown."""
        await self._live.look()

    def links(
        self, raw: bytes, seq: int, size: int, most: int, *, trusted: bool, asker: int
    ) -> Sequence[bytes]:
        """The starts of links to this blob, up to the digest: to the mirror that is chosen, then to others.

        At most `most`, and none where nobody has it. `asker` is the mirror that asks, 0 for anybody else.
        """
        live = self._live
        return links(live.picture, raw, seq, size, live.now(), self._dice, most, trusted=trusted, asker=asker)

    def full(self, id: int) -> bool:
        """Whether this mirror fetches its blobs beforehand, as far as this process has heard."""
        mirror = self._live.mirrors.get(id)
        return mirror is not None and mirror.terms.mode == "full"

    async def holders(self, digest: Digest, seq: int, size: int) -> list[Mirror]:
        """Mirrors that would be sent requests for this blob now."""
        await self.catch_up()
        live = self._live
        found = {member.id for member in holders(live.picture, digest.raw, seq, size, live.now())}
        return [mirror for id, mirror in live.mirrors.items() if id in found]

    async def create(self, terms: Terms) -> tuple[View, str]:
        """A new mirror and its token, which is shown this once. Raises MirrorExists.

        An administrator who adds it has nothing against its address any more.
        """
        async with self._database.begin() as work:
            id = await queries.add(work.session, terms, await self._database.now(work.session))
            await queries.lift_bar(work.session, terms)
            token = await self._issue(work, id)
            await bell.ring(work, self.changed)
        return await self.one(id), token

    async def every(self) -> list[View]:
        """All mirrors, in order of id."""
        await self._live.refresh()
        async with self._database.reading() as session:
            delivered = await queries.delivered(session, await self._today(session))
        return [self._view(mirror, delivered) for mirror in self._live.mirrors.values()]

    async def one(self, id: int) -> View:
        """Raises MirrorUnknown."""
        await self._live.refresh([id])
        async with self._database.reading() as session:
            delivered = await queries.delivered(session, await self._today(session), id)
            return self._view(await queries.one(session, id), delivered)

    def _view(self, mirror: Mirror, delivered: Mapping[int, Delivered]) -> View:
        id = mirror.id
        return View(mirror, self._live.online(id), self._live.explain(id), delivered.get(id, Delivered()))

    async def days(self, id: int) -> list[tuple[date, Delivery]]:
        """What a mirror has delivered on each of the last days, as far as it has delivered anything."""
        async with self._database.reading() as session:
            since = await self._today(session) - timedelta(days=DAYS - 1)
            return await queries.days(session, id, since)

    async def _today(self, session: AsyncSession) -> date:
        return (await self._database.now(session)).astimezone(UTC).date()

    async def change(self, id: int, change: Callable[[Terms], Terms]) -> View:
        """Give a mirror other terms. Raises MirrorUnknown, MirrorExists."""
        async with self._database.begin() as work:
            mirror = await queries.one(work.session, id)
            changed = change(mirror.terms)
            await queries.change(work.session, id, changed)
            if changed.address != mirror.terms.address:
                await queries.unaudit(work.session, id)
                await queries.lift_bar(work.session, changed)
            await bell.ring(work, self.changed)
        return await self.one(id)

    async def remove(self, id: int, *, bar: bool = False) -> None:
        """Forget a mirror; `bar`: and let none join at its address. Raises MirrorUnknown."""
        async with self._database.begin() as work:
            mirror = await queries.one(work.session, id)
            await queries.remove(work.session, id)
            if bar:
                await queries.set_bar(work.session, mirror.terms, await self._database.now(work.session))
            await bell.ring(work, self.changed)
        if bar:
            log.info("mirror.barred", id=id, fqdn=mirror.terms.fqdn, port=mirror.terms.port)

    async def barred(self) -> list[Bar]:
        """Where no mirror may join."""
        async with self._database.reading() as session:
            return await queries.barred(session)

    async def rotate(self, id: int) -> str:
        """A new token, shown this once (D11).

        The old one works until the new one is first used, or for a day.
        """
        async with self._database.begin() as work:
            await queries.one(work.session, id)
            token = await self._issue(work, id)
            await bell.ring(work, self.changed)
        return token

    async def changed(self) -> None:
        """Tell this machine that who is a mirror has changed, and hear of it here."""
        self._bell.ring()
        await self._live.catch_up()

    async def exists(self, id: int) -> bool:
        """Whether there is such a mirror, as far as this process has heard."""
        await self.catch_up()
        return id in self._live.mirrors

    async def report(self, id: int, report: Report) -> None:
        """Write down what a mirror says, at the moment it says it. Raises MirrorUnknown."""
        if not await self._reports.ask(_Heard(id, report, asyncio.get_running_loop().time())):
            raise MirrorUnknown(f"no mirror {id}")
        metrics.REPORTS.inc()

    async def _write(self, heard: Sequence[_Heard]) -> Sequence[bool | BaseException]:
        """Whether each mirror exists, or why what it says cannot be written.

        A database that is busy for longer than it makes one wait is asked once more: an agent whose report is
        refused may be silent until its next (S19). Where it refuses a value, halves are written until that
        stands alone: one report must not cost those that came with it.
        """
        try:
            return await self._write_once(heard)
        except (DatabaseDown, OverflowError) as error:
            if not _refused(error):
                return await self._write_once(heard)
            if len(heard) == 1:
                return [error]
        half = len(heard) // 2
        return [*await self._write(heard[:half]), *await self._write(heard[half:])]

    async def _write_once(self, heard: Sequence[_Heard]) -> Sequence[bool]:
        """One transaction for all that came together."""
        latest: dict[int, queries.Heard] = {}
        last = self._live.remember(one.id for one in heard)
        delivered: dict[int, Delivery] = {}
        async with self._database.begin() as work:
            known = await queries.before(work.session, {one.id for one in heard})
            now, loop = await self._database.now(work.session), asyncio.get_running_loop().time()
            for one in heard:
                if one.id not in known:
                    continue
                said, before = one.report, known[one.id]
                if said == HEARTBEAT and one.id in latest:
                    said = latest[one.id].said
                status = before.status or Status.OK if one.report.status is None else one.report.status
                more, counted = before.counted.grown(said)
                if more != Delivery():
                    delivered[one.id] = delivered.get(one.id, Delivery()) + more
                known[one.id] = queries.Before(status, counted)
                at = now - timedelta(seconds=loop - one.at)
                latest[one.id] = queries.Heard(one.id, said, status, counted, at)
            await queries.write(work.session, latest.values())
            await queries.deliver(work.session, delivered, now.astimezone(UTC).date())
        for id, more in delivered.items():
            metrics.MIRROR_BYTES.labels(id).inc(more.bytes)
            metrics.MIRROR_REQUESTS.labels(id).inc(more.requests)
        news = {id: (one.said, one.status, one.at) for id, one in latest.items()}
        moment = now + timedelta(seconds=asyncio.get_running_loop().time() - loop)
        if await self._live.hear(news, moment, last):
            # The others of this machine and of all others hear of it now; of anything else in a second.
            async with self._database.begin() as work:
                await bell.ring(work, self.changed)
        return [one.id in latest for one in heard]

    def standing(self) -> list[tuple[Mirror, Member]]:
        """Mirrors that may be chosen, or might be but for a doubt, and what each claims to have."""
        return self._live.standing()

    async def claims(self, asked: Mirror, raw: bytes, seq: int, size: int) -> bool:
        """Whether a mirror may be chosen for this blob, but for a doubt, by what is written of it now."""
        await self._live.refresh([asked.id])
        return any(
            mirror.terms.address == asked.terms.address and claims(member, raw, seq, size)
            for mirror, member in self._live.standing([asked.id])
        )

    async def judge(self, held: Held, verdict: Verdict) -> None:
        """Doubt a mirror, or stop doubting it; every worker of every machine hears of it (D20).

        A verdict on an address that the mirror no longer has is none. Raises LeaseLost.
        """
        await self._verdicts.ask((held, verdict))

    async def _judge(self, verdicts: Sequence[tuple[Held, Verdict]]) -> Sequence[None]:
        """One transaction for all that came together; the bell only where the choice is another by it."""
        by_id = {verdict.mirror.id: verdict for _, verdict in verdicts}
        ruled: dict[Ruling, list[Mirror]] = defaultdict(list)
        async with self._database.begin() as work:
            for held in {held for held, _ in verdicts}:
                await held.check(work.session)
            now = await self._database.now(work.session)
            for mirror in await queries.every(work.session, by_id, locked=True):
                ruled[rule(mirror, by_id[mirror.id], now)].append(mirror)
            for mirror in ruled[Ruling.DOUBTED] + ruled[Ruling.STILL]:
                since, reason = mirror.doubt_since or now, str(by_id[mirror.id].fault)
                await queries.doubt(work.session, mirror.id, reason, since)
            await queries.passed(
                work.session, (one.id for one in ruled[Ruling.PASSED] + ruled[Ruling.CLEARED]), now
            )
            first = [one for one in ruled[Ruling.PASSED] if one.unproven]
            if ruled[Ruling.DOUBTED] or ruled[Ruling.CLEARED] or first:
                await bell.ring(work, self.changed)
        for mirror in ruled[Ruling.DOUBTED]:
            fault = by_id[mirror.id].fault
            log.warning("mirror.doubted", id=mirror.id, fqdn=mirror.terms.fqdn, reason=fault)
        for mirror in ruled[Ruling.CLEARED]:
            log.info("mirror.cleared", id=mirror.id, fqdn=mirror.terms.fqdn, reason=mirror.doubt_reason)
        return [None] * len(verdicts)

    async def sweep(self, held: Held) -> int:
        """Write status 0 for mirrors that have fallen silent; how many. Raises LeaseLost.

        Silent by the steady clock as well: one that jumps ahead puts nobody out of the pool (D18).
        """
        await self._live.refresh()
        silent = [id for id in self._live.mirrors if not self._live.online(id)]
        async with self._database.begin() as work:
            await held.check(work.session)
            now = await self._database.now(work.session)
            return len(await queries.silence(work.session, silent, now, self._live.rules.silence))

    async def idle(self) -> None:
        """Wait for what is being written."""
        await self._reports.idle()
        await self._verdicts.idle()


def _refused(error: Exception) -> bool:
    """Whether the database does not take a value; the library of SQLite says so in an error of Python's."""
    return isinstance(error, OverflowError) or isinstance(error.__cause__, DataError)
