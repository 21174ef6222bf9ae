"""Who carries a request. Pure: clock and dice are arguments (D9)."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from operator import attrgetter
from typing import Literal

from soup.mirrors.model import Mirror, Report, Status

ErrorMirrors = Literal["last_resort", "never", "always"]
EVERYTHING = 1 << 62
DRAWS = 16  # before all are looked at one by one: a fifth that lacks a blob must not cost a scan
FEW = 8  # so many are looked at one by one at once


@dataclass(frozen=True, slots=True)
class Rules:
    """How mirrors are judged: seconds of silence that put one out, and what an error means (C43).

    `audit`: whether what the core has found out itself counts (D20).
    """

    silence: float = 40.0
    error_mirrors: ErrorMirrors = "last_resort"
    audit: bool = True


@dataclass(slots=True, eq=False)
class Member:
    """A mirror that may be chosen, until the steady clock passes `silent_at`.

    Only that moment changes in it: a report that says nothing new needs no other picture. It is equal to
    itself alone: to compare what is in two costs more than to draw them.
    """

    # What a draw looks at stands first, in one line of the cache: among thousands that is what a draw costs.
    id: int
    silent_at: float
    trusted: bool
    picky: bool
    lacking: frozenset[bytes]
    full: bool
    link: bytes
    covers: int
    weight: int
    smallest: int
    largest: int
    mirror: Mirror | None = field(default=None, repr=False)

    def fits(self, raw: bytes, size: int, now: float, trusted: bool, asker: int) -> bool:  # noqa: FBT001 - by place it is faster
        """Whether it is heard of, has the blob, may be shown credentials, and is of use to the `asker`."""
        if now > self.silent_at or (trusted and not self.trusted):
            return False
        if self.picky and (raw in self.lacking or not self.smallest <= size <= self.largest):
            return False
        return not asker or (asker != self.id and self.full)


@dataclass(frozen=True, slots=True)
class Tier:
    """Members of equal standing, those that cover most first, so that who has a blob is a prefix."""

    members: tuple[Member, ...]
    lacks: tuple[int, ...]  # the negative of what each covers: ascending, for bisect
    sums: tuple[int, ...]  # of the weights, from the first; none where all are the same
    even: bool  # all weights are the same
    leaders: int  # how many cover most
    # Where they differ in nothing but what they cover: until when nobody of them is silent, and their links,
    # which are all that a draw looks at until then. Minus infinity and none where they differ in more.
    until: float
    links: tuple[bytes, ...]
    turns: tuple[tuple[bytes, ...], ...]  # every choice there is among few

    @classmethod
    def of(cls, members: Iterable[Member]) -> "Tier":
        """These, in order."""
        ordered = tuple(sorted(members, key=attrgetter("covers"), reverse=True))
        even = len({member.weight for member in ordered}) <= 1
        sums = () if even else tuple(accumulate(member.weight for member in ordered))
        lacks = tuple(-member.covers for member in ordered)
        alike = even and not any(member.picky for member in ordered)
        until = min(member.silent_at for member in ordered) if alike else float("-inf")
        links = tuple(member.link for member in ordered) if alike else ()
        turns = tuple(_turns(links)) if len(links) <= FEW else ()
        return cls(ordered, lacks, sums, even, bisect_right(lacks, lacks[0]), until, links, turns)

    def having(self, seq: int) -> int:
        """How many have a blob of this number: the first so many.

        Nearly every blob is old, and all have it, or new, and those that cover most have it: then nothing is
        searched for.
        """
        wanted = -seq
        if self.lacks[-1] <= wanted:
            return len(self.lacks)
        if self.lacks[0] <= wanted < self.lacks[self.leaders]:
            return self.leaders
        return bisect_right(self.lacks, wanted)

    def draw(self, among: int, dice: Callable[[], float]) -> Member:
        """One of the first `among`, each by its weight."""
        if self.even:
            return self.members[int(dice() * among)]
        place = bisect_right(self.sums, dice() * self.sums[among - 1], 0, among - 1)
        return self.members[place]

    def drawn(self, seq: int, most: int, dice: Callable[[], float]) -> tuple[bytes, ...]:
        """Links to `most` of them that have a blob of this number, where all are alike.

        None of them where it takes a closer look.
        """
        among = self.having(seq)
        if self.turns:
            return self.turns[int(dice() * len(self.turns))][:most] if among == len(self.links) else ()
        if among <= most:
            return ()
        found: list[int] = []
        while len(found) < most:
            place = int(dice() * among)
            if place not in found:
                found.append(place)
        return tuple([self.links[place] for place in found])


def _turns(links: tuple[bytes, ...]) -> Iterator[tuple[bytes, ...]]:
    """Each of them first, with the others behind it in each of their rotations."""
    for place, link in enumerate(links):
        others = links[:place] + links[place + 1 :]
        for turn in range(max(1, len(others))):
            yield link, *others[turn:], *others[:turn]


@dataclass(frozen=True, slots=True)
class Picture:
    """Who could be chosen at a moment, best tier first, and for each of the others why not."""

    tiers: tuple[Tier, ...]
    standing: Mapping[int, tuple[int, Member]]  # by id: the tier each is in
    refused: Mapping[int, str]


NOBODY = Picture((), {}, {})


def picture(
    mirrors: Iterable[Mirror],
    deadlines: Mapping[int, float],
    now: float,
    rules: Rules,
    history: tuple[str, int],
    before: Picture = NOBODY,
) -> Picture:
    """Draw the picture. What stands in it as in the one `before` is taken from there.

    `deadlines` says for each mirror that has reported when it falls silent, on the steady clock `now` is of.

    `history` is that of the feed, and how far it goes: what a mirror has synced of another, or beyond its
    end, counts for nothing (D7).
    """
    usual: list[Member] = []
    resort: list[Member] = []
    refused: dict[int, str] = {}
    for mirror in mirrors:
        silent_at = deadlines.get(mirror.id)
        reason = _refusal(mirror, silent_at, now, rules)
        if reason is not None or silent_at is None:
            refused[mirror.id] = reason or NEVER
            continue
        troubled = mirror.said is not None and mirror.said.status is Status.ERROR
        tier = resort if troubled and rules.error_mirrors == "last_resort" else usual
        tier.append(_member(mirror, silent_at, history, before.standing.get(mirror.id)))
    tiers = [Tier.of(tier) for tier in (usual, resort) if tier]
    standing = {member.id: (place, member) for place, tier in enumerate(tiers) for member in tier.members}
    return Picture(tuple(tiers), standing, refused)


NEVER = "it has never reported"
UNPROVEN = "it joined by itself and has not passed an audit yet"


def _refusal(mirror: Mirror, silent_at: float | None, now: float, rules: Rules) -> str | None:
    said = mirror.said
    if silent_at is None or said is None:
        return NEVER
    # Thousands are asked each time and nearly all have none: the words are written when there is one.
    if rules.audit and mirror.doubt_reason is not None:
        return f"it is doubted: {mirror.doubt_reason}"
    if mirror.terms.drained:
        return "an administrator has drained it"
    reason = silence(silent_at, now, rules) if now > silent_at else _own_word(said, rules)
    return UNPROVEN if reason is None and rules.audit and mirror.unproven else reason


def _own_word(said: Report, rules: Rules) -> str | None:
    if said.status is Status.OFFLINE:
        return "it says it is offline"
    if said.leaving:
        return "it says it is leaving"
    if said.status is Status.ERROR and rules.error_mirrors == "never":
        return "it reports an error"
    return None


def silence(silent_at: float, now: float, rules: Rules) -> str:
    """The reason in words."""
    return f"silent for {now - silent_at + rules.silence:.0f} s, more than {rules.silence:g}"


def _member(
    mirror: Mirror, silent_at: float, history: tuple[str, int], before: tuple[int, Member] | None
) -> Member:
    said, terms = mirror.said, mirror.terms
    assert said is not None  # noqa: S101 - _refusal has turned away who never reported
    epoch, head = history
    full = terms.mode == "full"
    if said.synced_to is None or not full:
        covers = EVERYTHING
    else:
        covers = said.synced_to if said.epoch == epoch and said.synced_to <= head else 0
    if before is not None and before[1].covers == covers and _alike(before[1].mirror, mirror):
        before[1].silent_at, before[1].mirror = silent_at, mirror
        return before[1]
    smallest, largest = said.smallest or 0, EVERYTHING if said.largest is None else said.largest
    lacking = frozenset(digest.raw for digest in said.lacking)
    picky = bool(lacking) or smallest > 0 or largest < EVERYTHING
    return Member(
        mirror.id,
        silent_at,
        terms.trusted,
        picky,
        lacking,
        full,
        f"{mirror.origin}/".encode(),
        covers,
        terms.weight,
        smallest,
        largest,
        mirror,
    )


def _alike(one: Mirror | None, other: Mirror) -> bool:
    """Whether the choice is the same with either."""
    if one is None or one.said is None or other.said is None:
        return False
    return one is other or (one.terms == other.terms and one.said.decides == other.said.decides)


def pick(
    picture: Picture,
    raw: bytes,
    seq: int,
    size: int,
    now: float,
    dice: Callable[[], float],
    *,
    trusted: bool = False,
    asker: int = 0,
) -> Member | None:
    """A mirror for this blob, at random by weight among those that have it; None where nobody does.

    `trusted` asks for one that may be shown credentials (C14a); `asker` is the mirror that asks, if one does:
    it is sent to another, and to none that would have to ask in its turn (D8). O(log n) as a rule: draw, and
    draw again if the drawn one is silent or lacks it.
    """
    found = choose(picture, raw, seq, size, now, dice, 1, trusted=trusted, asker=asker)
    return found[0] if found else None


def choose(
    picture: Picture,
    raw: bytes,
    seq: int,
    size: int,
    now: float,
    dice: Callable[[], float],
    most: int,
    *,
    trusted: bool = False,
    asker: int = 0,
) -> tuple[Member, ...]:
    """As `pick`, and behind the one it picks others that might have been, at most `most` in all (D9).

    The others are drawn without regard to weight. Of many mirrors they may be fewer than there are.
    """
    if not picture.tiers:
        return ()
    tier = picture.tiers[0]
    asked = raw, size, now, trusted, asker
    among = tier.having(seq)
    for _ in range(DRAWS if among else 0):
        member = tier.draw(among, dice)
        if member.fits(*asked):
            break
    else:
        left = holders(picture, raw, seq, size, now, trusted=trusted, asker=asker)
        if not left:
            return ()
        tier, among = Tier.of(left), len(left)
        member = tier.draw(among, dice)
    return (member,) if most == 1 else tuple(_with_others(member, tier.members, among, asked, dice, most))


def links(
    picture: Picture,
    raw: bytes,
    seq: int,
    size: int,
    now: float,
    dice: Callable[[], float],
    most: int,
    *,
    trusted: bool = False,
    asker: int = 0,
) -> Sequence[bytes]:
    """As `choose`, but the starts of links to them, up to the digest: what a redirect is made of."""
    if picture.tiers:
        tier = picture.tiers[0]
        if now <= tier.until and not trusted and not asker and (found := tier.drawn(seq, most, dice)):
            return found
    chosen = choose(picture, raw, seq, size, now, dice, most, trusted=trusted, asker=asker)
    return [member.link for member in chosen]


def _with_others(
    member: Member,
    members: tuple[Member, ...],
    among: int,
    asked: tuple[bytes, int, float, bool, int],
    dice: Callable[[], float],
    most: int,
) -> list[Member]:
    if among <= FEW:
        able = [other for other in members[:among] if other is not member and other.fits(*asked)]
        turn = int(dice() * len(able))
        return [member, *able[turn:], *able[:turn]][:most]
    found = [member]
    for _ in range(DRAWS):
        other = members[int(dice() * among)]
        if other not in found and other.fits(*asked):
            found.append(other)
            if len(found) == most:
                break
    return found


def holders(
    picture: Picture,
    raw: bytes,
    seq: int,
    size: int,
    now: float,
    *,
    trusted: bool = False,
    asker: int = 0,
) -> list[Member]:
    """Those that may be chosen for this blob.

    A tier is asked only when nobody of a better one is online: whether they have the blob is no matter (C43).
    """
    for tier in picture.tiers:
        among = tier.members[: tier.having(seq)]
        found = [member for member in among if member.fits(raw, size, now, trusted, asker)]
        if found or any(now <= member.silent_at for member in tier.members):
            return found
    return []


def explain(picture: Picture, mirror: int, now: float, rules: Rules) -> str | None:
    """Why a mirror would not be chosen now; None where it would be."""
    if mirror not in picture.standing:
        return picture.refused.get(mirror, NEVER)
    place, member = picture.standing[mirror]
    if now > member.silent_at:
        return silence(member.silent_at, now, rules)
    if place and any(now <= better.silent_at for better in picture.tiers[0].members):
        return "it reports an error, and others do not"
    return None if member.covers else "it has nothing of this history of the feed yet"
