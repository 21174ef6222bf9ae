"""The picture of this process, kept fresh (D9, D18)."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from time import perf_counter
from typing import Protocol

import structlog

from soup import metrics
from soup.core.bell import Bell
from soup.core.clock import Steady
from soup.core.errors import DatabaseDown
from soup.mirrors import policy
from soup.mirrors.model import HEARTBEAT, Mirror, Report, Status
from soup.mirrors.policy import NOBODY, Member, Picture, Rules, Tier

log = structlog.get_logger(__name__)

History = tuple[str, int]  # epoch and head of the feed
OVERLAP = 2.0  # seconds: what is dated now may be committed so much later
THOROUGH = 10.0  # seconds after which a look goes back as far: a report that took its time to be written
EVERYBODY = 60.0  # seconds after which all mirrors are read, though nobody has rung
QUICK = 0.001  # seconds: a picture that is drawn as fast is drawn for every report
SHARE = 0.05  # of this process's time that pictures may take when nothing urgent has happened


class Source(Protocol):
    """Where reports are read, each time with the clock that dates them. Raises DatabaseDown."""

    async def every(self, known: Mapping[int, Mirror]) -> tuple[Sequence[Mirror], datetime]:
        """All mirrors; one that is as it is known to be is that very value."""

    async def some(self, ids: Collection[int]) -> tuple[Sequence[Mirror], datetime]:
        """Those of these ids that there are."""

    async def seen(self, seconds: float) -> Mapping[int, datetime]:
        """Who has reported in the last so many seconds, and when last."""


class Live:
    """Who is online, as this process knows it.

    The age of a report is taken from the clock that wrote it, once, when the report is first seen here; from
    then on it grows by the steady clock of this process. So a clock that jumps neither silences nor revives
    anybody. `history` says how far the feed goes.
    """

    def __init__(
        self,
        source: Source,
        bell: Bell,
        rules: Rules,
        history: Callable[[], Awaitable[History]],
        *,
        monotonic: Steady,
    ) -> None:
        self._source, self._bell, self.rules, self._ask = source, bell, rules, history
        self.now = monotonic
        self._history: History = "", 0
        self._alone = asyncio.Lock()
        self._heard = -1
        self._seen: dict[int, datetime] = {}
        self._deadlines: dict[int, float] = {}
        self._looked = 0.0  # when reports were looked at last
        self._thorough = self._everybody = 0.0  # when to look far back next, and when to read all
        self._rested = 0.0  # when to draw again at the earliest, where nothing is urgent
        self._whole = False  # whether the picture shows all that was heard
        self.mirrors: dict[int, Mirror] = {}
        self.picture: Picture = NOBODY

    def play_by(self, rules: Rules) -> None:
        """Draw the picture by other rules. Who was silent may not be any more, and the other way round."""
        longer = rules.silence - self.rules.silence
        self._deadlines = {id: deadline + longer for id, deadline in self._deadlines.items()}
        self.rules = rules
        self._draw()

    @property
    def stale(self) -> bool:
        """Whether somebody on this machine has changed who is a mirror since the last look."""
        return self._bell.rung != self._heard

    async def catch_up(self) -> None:
        """Look again if the bell has rung.

        A database that is down leaves the picture as it is: it ages by itself.
        """
        async with self._alone:
            if not self.stale:
                return
            try:
                await self._load_all()
                self._measure()
            except DatabaseDown as error:
                self._heard = self._bell.rung
                log.warning("mirrors.stale", reason=str(error))

    async def refresh(self, only: Collection[int] | None = None) -> None:
        """Read all mirrors, or some, and draw the picture anew. Raises DatabaseDown."""
        async with self._alone:
            if only is None:
                await self._load_all()
                self._measure()
            else:
                await self._load(only)

    async def look(self) -> None:
        """Hear of new reports. Who is a mirror, and what is held against one, changes with the bell.

        Raises DatabaseDown; who has fallen silent is seen all the same.
        """
        async with self._alone:
            try:
                await self._look()
            except DatabaseDown:
                if self._waning(self.now()):
                    self._draw()
                raise
            finally:
                self._measure()

    async def _look(self) -> None:
        now = self.now()
        if self.stale or now >= self._everybody:
            await self._load_all()
            return
        thorough = now >= self._thorough
        seen = await self._source.seen(now - self._looked + (2 * THOROUGH if thorough else OVERLAP))
        self._looked = now
        if thorough:
            self._thorough = now + THOROUGH
        changed = [id for id, at in seen.items() if self._seen.get(id) != at]
        if changed:
            await self._load(changed)
        elif (history := await self._ask()) != self._history or not self._whole or self._waning(now):
            self._history = history
            self._draw()

    async def _load_all(self) -> None:
        rung, now = self._bell.rung, self.now()
        found, moment = await self._source.every(self.mirrors)
        self._history = await self._ask()  # after the reports: what they have synced is in it by then
        self._take(found, moment)
        self.mirrors = {mirror.id: mirror for mirror in found}
        self._heard, self._looked = rung, now
        self._thorough, self._everybody = now + THOROUGH, now + EVERYBODY
        self._draw()

    async def _load(self, only: Collection[int]) -> None:
        found, moment = await self._source.some(only)
        self._history = await self._ask()
        self._take(found, moment)
        self.mirrors |= {mirror.id: mirror for mirror in found}
        self._draw()

    def _take(self, mirrors: Iterable[Mirror], moment: datetime) -> None:
        now = self.now()
        for mirror in mirrors:
            if mirror.last_seen is None or self._seen.get(mirror.id) == mirror.last_seen:
                continue
            age = max(0.0, (moment - mirror.last_seen).total_seconds())
            self._seen[mirror.id] = mirror.last_seen
            self._deadlines[mirror.id] = now + self.rules.silence - age

    def remember(self, ids: Iterable[int]) -> dict[int, Report | None]:
        """What these have said; None of those whose next report is news whatever it says.

        That is of who is unknown, silent by now, or so nearly that others must hear of it at once.
        """
        known = {id: self.mirrors.get(id) for id in ids}
        return {id: None if one is None or self.close_call(id) else one.said for id, one in known.items()}

    async def hear(
        self,
        heard: Mapping[int, tuple[Report, Status, datetime]],
        moment: datetime,
        before: Mapping[int, Report | None],
    ) -> bool:
        """Take in reports that were written down just now: each with its status and its date.

        `moment` is now, by the clock of these dates, and `before` what was remembered of these mirrors before
        anything was written: by now this process may have read it. Whether somebody is to be sent elsewhere
        by them, or to one who was silent: that is in the picture at once. What else they say is there in a
        second at the latest. Raises DatabaseDown.
        """
        async with self._alone:
            if unknown := heard.keys() - self.mirrors.keys():
                await self._load(unknown)
            ahead = max((report.synced_to or 0 for report, _, _ in heard.values()), default=0)
            if ahead > self._history[1]:
                self._history = await self._ask()
            urgent, news = False, False
            for id, (report, status, at) in heard.items():
                mirror, last = self.mirrors.get(id), before[id]
                if mirror is None:
                    continue  # it was removed meanwhile
                said = _said(mirror.said, report, status)
                urgent = urgent or last is None or said.less_than(last)
                news = news or last is None or said.decides != last.decides
                self.mirrors[id] = mirror = replace(mirror, said=said, last_seen=at)
                self._take([mirror], moment)
                if id in self.picture.standing:
                    self.picture.standing[id][1].silent_at = self._deadlines[id]
            if urgent or (news and perf_counter() >= self._rested):
                self._draw()
            else:
                self._whole = self._whole and not news
        return urgent

    def _draw(self) -> None:
        began = perf_counter()
        self.picture = self._drawn(self.mirrors.values(), self.rules, self.picture)
        ended = perf_counter()
        self._whole = True
        self._rested = ended + (ended - began) / SHARE if ended - began > QUICK else ended

    def _waning(self, now: float) -> bool:
        """Whether every choice looks at who is silent, or will in a moment.

        A report moves that moment in its member, and in the picture when it is drawn; who is silent by then
        is left out of it.
        """
        return any(
            tier.until < now + OVERLAP if tier.links else _mostly_silent(tier, now)
            for tier in self.picture.tiers
        )

    def _measure(self) -> None:
        metrics.MIRRORS.labels("online").set(sum(self.online(mirror.id) for mirror in self.mirrors.values()))
        metrics.MIRRORS.labels("all").set(len(self.mirrors))
        doubted = sum(mirror.doubt_reason is not None for mirror in self.mirrors.values())
        metrics.MIRRORS.labels("doubted").set(doubted)

    def _drawn(self, mirrors: Iterable[Mirror], rules: Rules, before: Picture = NOBODY) -> Picture:
        return policy.picture(mirrors, self._deadlines, self.now(), rules, self._history, before)

    def standing(self, only: Iterable[int] | None = None) -> list[tuple[Mirror, Member]]:
        """Those, or those of some ids, that may be chosen, or might be but for a doubt."""
        wanted = self.mirrors if only is None else self.mirrors.keys() & set(only)
        drawn = self._drawn((self.mirrors[id] for id in wanted), replace(self.rules, audit=False))
        return [(self.mirrors[member.id], member) for tier in drawn.tiers for member in tier.members]

    def online(self, id: int) -> bool:
        """Heard of in time, and not saying 0 (C43)."""
        mirror, deadline = self.mirrors.get(id), self._deadlines.get(id)
        if mirror is None or mirror.said is None or deadline is None:
            return False
        return self.now() <= deadline and bool(mirror.said.status)

    def close_call(self, id: int) -> bool:
        """Whether a mirror is silent by now, or so nearly that others must hear of its report at once."""
        return self._deadlines.get(id, 0.0) - self.now() < self.rules.silence / 8

    def explain(self, id: int) -> str | None:
        """Why a mirror would not be chosen now; None where it would be."""
        return policy.explain(self.picture, id, self.now(), self.rules)


def _mostly_silent(tier: Tier, now: float) -> bool:
    """Whether draws from it would be in vain until all are looked at one by one."""
    return 2 * sum(now > member.silent_at for member in tier.members) > len(tier.members)


def _said(before: Report | None, report: Report, status: Status) -> Report:
    """What a mirror says by this report: all of it, or the same as before where it is a heartbeat."""
    if before is None or report != HEARTBEAT:
        return replace(report, status=status)
    return replace(before, status=status, leaving=False)
