"""Copies that are damaged or missing are fetched again from a mirror that has them (job `blobs.repair`).

Every mirror that would be sent a request for the blob is asked in turn, those in mode pull last: they would
ask us. What arrives is spooled and has to have the digest, as any upload; then it takes the place of what was
there, and the row says that the copy is good. The feed does not hear of it: nothing has changed for anybody.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from random import Random

import httpx
import structlog

from soup import metrics
from soup.blobs.damage import Damage
from soup.blobs.model import Copy, Facts
from soup.core.blob import Blob
from soup.core.digest import Digest
from soup.core.errors import AddressRefused, MirrorSilent, MirrorWrong, SoupError
from soup.db.lease import Held
from soup.mirrors.model import Mirror
from soup.mirrors.service import Mirrors
from soup.runner.aside import Aside
from soup.runner.outside import Outside
from soup.stores.spool import Spool, Spooled

log = structlog.get_logger(__name__)

LOOKED = 1000  # damaged copies that a run looks at
PARALLEL = 4  # that are fetched at once
SHARE = 0.9  # of the interval that a run may take: one that is late would be in the way of the next
LONGEST = 3600.0  # seconds for one blob from one mirror
PAUSES = (10.0, 3600.0)  # seconds until a blob that could not be had is tried again: first, and at most


@dataclass(frozen=True, slots=True)
class _Rest:
    """A blob that could not be had, for how long it is left alone, and until when."""

    pause: float
    until: float


class Repair:
    """Puts damaged copies right. `interval` is how often it is run, in seconds."""

    def __init__(
        self,
        damage: Damage,
        mirrors: Mirrors,
        outside: Outside,
        spool: Spool,
        dice: Random,
        *,
        interval: float,
    ) -> None:
        self._damage, self._mirrors, self._outside, self._spool = damage, mirrors, outside, spool
        self._dice, self._share = dice, SHARE * interval
        self._after = 0
        self._resting: dict[Digest, _Rest] = {}
        self.under_way = Aside()
        self._mended = 0

    async def run(self, held: Held) -> int:
        """Go on with what is damaged, for a while; how many copies were put right since the last run.

        A large blob may take longer than the run. Those that cannot be had are tried again later and later.
        Raises DatabaseDown.
        """
        known = await self._damage.known(self._after, LOOKED)
        until = _now() + self._share
        self._forget()
        self._after = known[-1][0].row if len(known) == LOOKED else 0
        for copy, facts in known:
            digest = facts.digest
            if digest in self.under_way or self._rests(digest):
                continue
            if held.over.is_set() or not await self.under_way.wait(until, fewer_than=PARALLEL):
                self._after = copy.row - 1
                break
            self.under_way.send(digest, self._one(held, copy, facts))
        await self.under_way.wait(until)
        mended, self._mended = self._mended, 0
        return mended

    def _forget(self) -> None:
        """Those that nobody has tried again for long after their rest: they are good by now, or gone."""
        over = _now() - PAUSES[1]
        self._resting = {digest: rest for digest, rest in self._resting.items() if rest.until > over}

    def _rests(self, digest: Digest) -> bool:
        rest = self._resting.get(digest)
        return rest is not None and rest.until > _now()

    async def _one(self, held: Held, copy: Copy, facts: Facts) -> None:
        try:
            for mirror in await self._holders(facts):
                if await self._from(held, copy, mirror):
                    self._resting.pop(facts.digest, None)
                    return
        except SoupError as error:
            log.warning("blob.not_repaired", digest=facts.digest, reason=str(error))
        before = self._resting.get(facts.digest)
        pause = PAUSES[0] if before is None else min(2 * before.pause, PAUSES[1])
        self._resting[facts.digest] = _Rest(pause, _now() + pause)

    async def _holders(self, facts: Facts) -> list[Mirror]:
        found = await self._mirrors.holders(facts.digest, facts.seq, facts.size)
        self._dice.shuffle(found)
        return sorted(found, key=lambda mirror: mirror.terms.mode == "pull")

    async def _from(self, held: Held, copy: Copy, mirror: Mirror) -> bool:
        """Whether this mirror's bytes are kept, or nobody needs them any more."""
        blob = copy.blob
        try:
            async with (
                asyncio.timeout(LONGEST),
                self._outside.open(f"{mirror.origin}/{blob.digest}", joined=mirror.joined) as answer,
                self._spool.receive(_body(answer, blob)) as spooled,
            ):
                mended = await self._damage.mend(held, copy, _verified(spooled, blob))
        except (MirrorSilent, MirrorWrong, AddressRefused, TimeoutError) as error:
            reason = str(error) or f"it took longer than {LONGEST:g} s"
            log.warning("blob.not_repaired", digest=blob.digest, mirror=mirror.id, reason=reason)
            return False
        if mended:
            self._mended += 1
            metrics.BLOBS_REPAIRED.inc()
            log.info("blob.repaired", digest=blob.digest, mirror=mirror.id, fqdn=mirror.terms.fqdn)
        return True


def _verified(spooled: Spooled, blob: Blob) -> Spooled:
    if spooled.blob != blob:
        raise MirrorWrong(f"its bytes are {spooled.blob.digest}", digest=blob.digest)
    return spooled


async def _body(answer: httpx.Response, blob: Blob) -> AsyncIterator[bytes]:
    """What a mirror sends, up to one piece more than the blob has."""
    if answer.status_code != httpx.codes.OK:
        raise MirrorWrong(f"it answered {answer.status_code}", digest=blob.digest)
    got = 0
    async for piece in answer.aiter_raw():
        yield piece
        got += len(piece)
        if got > blob.size:
            raise MirrorWrong(f"it sent more than {blob.size} bytes", digest=blob.digest)


def _now() -> float:
    return asyncio.get_running_loop().time()
