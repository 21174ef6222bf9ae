"""The picture of this process, kept fresh (D9, D18)."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime

import structlog

from soup import metrics
from soup.core.bell import Bell
from soup.core.clock import Steady
from soup.core.errors import DatabaseDown
from soup.mirrors import policy
from soup.mirrors.model import Mirror
from soup.mirrors.policy import NOBODY, Picture, Rules

log = structlog.get_logger(__name__)

Load = Callable[[Iterable[int] | None], Awaitable[tuple[Sequence[Mirror], datetime]]]


class Live:
    """Who is online, as this process knows it.

    The age of a report is taken from the clock that wrote it, once, when the report is first seen here; from
    then on it grows by the steady clock of this process. So a clock that jumps neither silences nor revives
    anybody. `load` reads mirrors of some ids, or all, and that clock.
    """

    def __init__(
        self,
        load: Load,
        bell: Bell,
        rules: Rules,
        epoch: Callable[[], str],
        *,
        monotonic: Steady,
    ) -> None:
        self._read, self._bell, self.rules, self._epoch = load, bell, rules, epoch
        self.now = monotonic
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
        self.picture = policy.picture(
            self.mirrors.values(), self._deadlines, self.now(), self.rules, self._epoch()
        )
        metrics.MIRRORS.labels("online").set(sum(self.online(mirror.id) for mirror in self.mirrors.values()))
        metrics.MIRRORS.labels("all").set(len(self.mirrors))

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
