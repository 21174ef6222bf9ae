"""Mirrors are asked from outside for blobs they claim to have (job `mirrors.audit`, C31, D20).

Who may be chosen is asked, and who might be but for a doubt: mirrors that are drained, silent, offline or
leaving are left alone, and asked again as soon as they are back. Each is asked for one blob at a time, drawn
by chance. Small ones are read whole and hashed. Of a large one a part is read and compared with our own, and
where they differ our own is read again before anything is held against the mirror. A mirror in mode pull is
asked for small blobs only: it would fetch a large one whole, for nobody.

A mirror that joined by itself is sent nobody before it has passed. While there is no blob that one like it
could be asked for, it is asked for one that nobody has: 404 is the right answer. Wherever its name points to
is judged each time, and where a core answers there is no mirror: clients would go in a circle.

A mirror that gives no answer is asked once more at once. What is wrong in the end is looked at again in the
light of what the database says by then: the blob may have been deleted, the mirror may have said that it
lacks it.
"""

import asyncio
from dataclasses import dataclass
from random import Random

import structlog

from soup import metrics
from soup.blobs.damage import wrong_with
from soup.blobs.model import Facts
from soup.blobs.samples import Samples
from soup.blobs.service import Blobs
from soup.core.blob import Blob
from soup.core.digest import Digest
from soup.core.errors import AddressRefused, BlobUnknown, MirrorSilent, SoupError
from soup.core.span import Span
from soup.db.lease import Held
from soup.mirrors.doubt import RENEWED, claims
from soup.mirrors.model import Mirror, Verdict
from soup.mirrors.policy import Member
from soup.mirrors.service import Mirrors
from soup.runner.aside import Aside
from soup.runner.outside import Answer, Outside
from soup.stores.base import Store
from soup.stores.disk import Disk

log = structlog.get_logger(__name__)

PARALLEL = 256  # mirrors that are asked at once: those that hang must not hold up the others
RATE = 90.0  # mirrors asked in a second of a run: a thousand in 15 s, at a seventh of a core
SHARE = 0.75  # of the interval that a run may take: one that is late would be in the way of the next
SAMPLE = 64  # blobs drawn for all mirrors of a run
WHOLE = 256 * 1024  # bytes up to which a blob is read whole
PART = 64 * 1024  # bytes that are read of a larger one
NEVER = float("-inf")
TRUSTED = 600.0  # seconds for which our own copy is not read again


@dataclass(frozen=True, slots=True)
class _Question:
    """A blob, and the part of it that is asked for; None for all of it."""

    facts: Facts
    span: Span | None

    @property
    def name(self) -> str:
        """The blob in a sentence."""
        return f"{self.facts.digest[:8]}..."


class Audit:
    """Asks mirrors. `seconds` is how often each is asked, `interval` how often it is run."""

    def __init__(
        self,
        mirrors: Mirrors,
        blobs: Blobs,
        samples: Samples,
        store: Store,
        disk: Disk,
        outside: Outside,
        dice: Random,
        *,
        on: bool,
        seconds: float,
        interval: float,
    ) -> None:
        self._mirrors, self._blobs, self._samples, self._store = mirrors, blobs, samples, store
        self._disk, self._outside, self._dice = disk, outside, dice
        self._on, self._seconds, self._share = on, seconds, SHARE * interval
        self._early = interval / 2  # a turn is taken by the run that is nearest to it
        self._asked: dict[int, float] = {}
        self._told: dict[int, float] = {}
        self._sound: dict[Digest, float] = {}
        self.under_way = Aside()

    def become(self, *, on: bool, seconds: float) -> None:
        """Go by other settings from the next run on."""
        self._on, self._seconds = on, seconds

    async def run(self, held: Held) -> int:
        """Ask the mirrors whose turn it is, those that were asked longest ago first; how many.

        One that takes longer than the run is judged when it has answered. Raises DatabaseDown.
        """
        if not self._on:
            return 0
        due = self._due()
        sample = await self._samples.some(SAMPLE) if due else []
        asked, until = 0, _now() + self._share
        for mirror, member in due:
            if held.over.is_set() or not await self.under_way.wait(until, fewer_than=PARALLEL):
                break
            self._asked[mirror.id] = _now()
            self.under_way.send(mirror.id, self._one(held, mirror, member, sample))
            asked += 1
            await asyncio.sleep(1 / RATE)
        await self.under_way.wait(until)
        return asked

    def _due(self) -> list[tuple[Mirror, Member]]:
        standing = {mirror.id: (mirror, member) for mirror, member in self._mirrors.standing()}
        asked = self._asked = {id: self._asked.get(id, NEVER) for id in standing}
        self._told = {id: told for id, told in self._told.items() if id in standing}
        before = _now() - self._seconds + self._early
        turn = [id for id in standing if asked[id] <= before and id not in self.under_way]
        return [standing[id] for id in sorted(turn, key=asked.__getitem__)]

    async def _one(self, held: Held, mirror: Mirror, member: Member, sample: list[Facts]) -> None:
        try:
            question = await self._question(mirror, member, sample)
            if question is None and not (mirror.unproven and self._has_nothing(mirror, sample)):
                return
            verdict = await self._verdict(mirror, question)
            if verdict is None:
                metrics.AUDITS.labels("void").inc()
                return
            result = "passed" if verdict.fault is None else "silent" if verdict.silent else "wrong"
            metrics.AUDITS.labels(result).inc()
            if verdict.fault is not None or self._news(mirror):
                await self._mirrors.judge(held, verdict)
        except SoupError as error:
            log.warning("mirror.not_audited", id=mirror.id, reason=str(error))

    def _news(self, mirror: Mirror) -> bool:
        """Whether it is to be written down that it has passed: not each time, for that is what most do."""
        known = mirror.audited_at is not None and mirror.doubt_reason is None
        now = _now()
        if known and now - self._told.get(mirror.id, NEVER) < RENEWED.total_seconds():
            return False
        self._told[mirror.id] = now
        return True

    def _has_nothing(self, mirror: Mirror, sample: list[Facts]) -> bool:
        """Whether there is nothing to ask a mirror for, whatever it says that it has."""
        return not any(facts.size <= WHOLE or mirror.terms.mode == "full" for facts in sample)

    async def _question(self, mirror: Mirror, member: Member, sample: list[Facts]) -> _Question | None:
        largest = WHOLE if mirror.terms.mode == "pull" else member.largest
        turn = self._dice.randrange(len(sample)) if sample else 0
        for facts in sample[turn:] + sample[:turn]:
            if facts.size <= largest and claims(member, facts.digest.raw, facts.seq, facts.size):
                return self._about(facts)
        early = await self._samples.early(member.covers, member.smallest, largest)
        if early is None or not claims(member, early.digest.raw, early.seq, early.size):
            return None
        return self._about(early)

    def _about(self, facts: Facts) -> _Question:
        if facts.size <= WHOLE:
            return _Question(facts, None)
        first = self._dice.randrange(facts.size - PART + 1)
        return _Question(facts, Span(first, first + PART - 1))

    async def _verdict(self, mirror: Mirror, question: _Question | None) -> Verdict | None:
        """What is to be held against a mirror; None where this asking says nothing of it."""
        silent = False
        try:
            fault = await (self._stray(mirror) if question is None else self._fault(mirror, question))
        except MirrorSilent as error:
            fault, silent = str(error), True
        except AddressRefused as error:
            return Verdict(mirror, str(error))
        except BlobUnknown:
            if question is not None:
                self._blobs.suspect(question.facts.blob)
            return None
        if fault is not None and question is not None:
            facts = question.facts
            now = await self._samples.now(facts.digest)
            if now is None or now.seq != facts.seq:
                return None
            if not await self._mirrors.claims(mirror, facts.digest.raw, facts.seq, facts.size):
                return None
        return Verdict(mirror, fault, silent)

    async def _stray(self, mirror: Mirror) -> str | None:
        """What is wrong with its answer to a question for a blob that nobody has. Raises MirrorSilent."""
        digest = Digest.from_raw(self._dice.randbytes(32))
        answer = await self._answer(mirror, digest, None, 1)
        if answer.status == 404:  # noqa: PLR2004
            return None
        return f"it answered {answer.status} for a blob that nobody has ({digest[:8]}...)"

    async def _fault(self, mirror: Mirror, question: _Question) -> str | None:
        """What is wrong with its answer. Raises MirrorSilent, and BlobUnknown where we cannot know."""
        facts, span = question.facts, question.span
        answer = await self._answer(mirror, facts.digest, span, PART if span else facts.size + 1)
        fault = _misfit(answer, question)
        if fault is not None:
            return fault
        if span is None:
            return None if Digest.of(answer.body) == facts.digest else f"wrong bytes of {question.name}"
        if answer.status == 200:  # noqa: PLR2004 - it knows no ranges: its first bytes are as good
            span = Span(0, PART - 1)
        ours = b"".join([piece async for piece in self._store.open(facts.digest, span)])
        if answer.body == ours:
            return None
        await self._prove(facts.blob)
        return f"wrong bytes of {question.name}"

    async def _answer(self, mirror: Mirror, digest: Digest, span: Span | None, most: int) -> Answer:
        url = f"{mirror.origin}/{digest}"
        try:
            answer = await self._outside.ask(url, span, most, joined=mirror.joined)
        except MirrorSilent:
            if mirror.doubt_reason is not None:
                raise
            answer = await self._outside.ask(url, span, most, turn=1, joined=mirror.joined)
        if answer.soup and mirror.joined:
            raise AddressRefused("a core of soup answers there, and no mirror")
        return answer

    async def _prove(self, blob: Blob) -> None:
        """Raise BlobUnknown where our own copy is not what it should be: then nobody can be blamed by it."""
        if self._sound.get(blob.digest, 0.0) > _now():
            return
        if (ours := await wrong_with(self._store, self._disk, blob)) is not None:
            raise BlobUnknown(ours, digest=blob.digest)
        self._sound = {digest: end for digest, end in self._sound.items() if end > _now()}
        self._sound[blob.digest] = _now() + TRUSTED


def _misfit(answer: Answer, question: _Question) -> str | None:
    """What is wrong with an answer whatever its bytes are."""
    size, span = question.facts.size, question.span
    if answer.status not in ({200} if span is None else {200, 206}):
        return f"it answered {answer.status} for a blob it claims ({question.name})"
    if answer.status == 206 and span is not None:  # noqa: PLR2004
        wanted = f"bytes {span.first}-{span.last}/{size}"
        if answer.content_range != wanted:
            return f"it answered {answer.content_range[:100]!r} and not {wanted!r} of {question.name}"
    length = size if span is None else span.length
    if len(answer.body) < length:
        return f"it sent {len(answer.body)} bytes of {question.name} and not {length}"
    if len(answer.body) > length:
        return f"it sent more than the {length} bytes of {question.name}"
    return None


def _now() -> float:
    return asyncio.get_running_loop().time()
