"""The picture of this process, kept fresh (D9, D18)."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime

import structlog

from soup import metrics
from soup.core.bell import Bell
from soup.core.clock import Steady
from soup.core.errors import DatabaseDown
from soup.mirrors import policy
from soup.mirrors.model import Mirror
from soup.mirrors.policy import NOBODY, Member, Picture, Rules

log = structlog.get_logger(__name__)

History = tuple[str, int]  # epoch and head of the feed
Load = Callable[[Iterable[int] | None], Awaitable[tuple[Sequence[Mirror], datetime]]]


class Live:
    """Who is online, as this process knows it.

    The age of a report is taken from the clock that wrote it, once, when the report is first seen here; from
    then on it grows by the steady clock of this process. So a clock that jumps neither silences nor revives
    anybody. `load` reads mirrors of some ids, or all, and that clock; `history` says how far the feed goes.
    """

    def __init__(
        self,
        load: Load,
        bell: Bell,
        rules: Rules,
        history: Callable[[], Awaitable[History]],
        *,
        monotonic: Steady,
    ) -> None:
        self._read, self._bell, self.rules, self._ask = load, bell, rules, history
        self.now = monotonic
        self._history: History = "", 0
        self._alone = asyncio.Lock()
        self._heard = -1
        self._seen: dict[int, datetime] = {}
        self._deadlines: dict[int, float] = {}
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
                await self._load(None)
            except DatabaseDown as error:
                self._heard = self._bell.rung
                log.warning("mirrors.stale", reason=str(error))

    async def refresh(self, only: Iterable[int] | None = None) -> None:
        """Read all mirrors, or some, and draw the picture anew. Raises DatabaseDown."""
        async with self._alone:
            await self._load(only)

    async def _load(self, only: Iterable[int] | None) -> None:
        rung = self._bell.rung
        found, moment = await self._read(only)
        self._history = await self._ask()  # after the reports: what they have synced is in it by then
        self._take(found, moment, self.now())
        if only is None:
            self._heard = rung
            self.mirrors = {mirror.id: mirror for mirror in found}
        else:
            self.mirrors |= {mirror.id: mirror for mirror in found}
        self._draw()

    def _take(self, mirrors: Iterable[Mirror], moment: datetime, now: float) -> None:
        for mirror in mirrors:
            if mirror.last_seen is None or self._seen.get(mirror.id) == mirror.last_seen:
                continue
            age = max(0.0, (moment - mirror.last_seen).total_seconds())
            self._seen[mirror.id] = mirror.last_seen
            self._deadlines[mirror.id] = now + self.rules.silence - age

    def _draw(self) -> None:
        self.picture = self._drawn(self.mirrors.values(), self.rules)
        metrics.MIRRORS.labels("online").set(sum(self.online(mirror.id) for mirror in self.mirrors.values()))
        metrics.MIRRORS.labels("all").set(len(self.mirrors))
        doubted = sum(mirror.doubt_reason is not None for mirror in self.mirrors.values())
        metrics.MIRRORS.labels("doubted").set(doubted)

    def _drawn(self, mirrors: Iterable[Mirror], rules: Rules) -> Picture:
        return policy.picture(mirrors, self._deadlines, self.now(), rules, self._history)

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
        return self._deadlines.get(id, 0.0) - self.now() < self.rules.silence / 4

    def explain(self, id: int) -> str | None:
        """Why a mirror would not be chosen now; None where it would be."""
        return policy.explain(self.picture, id, self.now(), self.rules)
