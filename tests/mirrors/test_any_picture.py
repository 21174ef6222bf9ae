"""Who is chosen, whatever the mirrors say: against the letter of the promises."""

from collections import Counter
from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soup.core.digest import Digest
from soup.mirrors.model import Mirror, Status
from soup.mirrors.policy import Member, Picture, Rules, Tier, choose, explain, holders, links, pick, picture
from tests.mirrors.test_policy import DIGESTS, HEAD, HISTORY, LEEK, chosen, mirror


@dataclass(frozen=True)
class World:
    """Mirrors, when each falls silent, and the rules."""

    mirrors: list[Mirror]
    deadlines: dict[int, float]
    rules: Rules

    def drawn(self) -> Picture:
        return picture(self.mirrors, self.deadlines, 0.0, self.rules, (HISTORY, HEAD))


RARELY = st.sampled_from([False] * 9 + [True])


@st.composite
def worlds(draw: st.DrawFn) -> World:
    mirrors = []
    for id in range(1, draw(st.integers(0, 6)) + 1):
        smallest = draw(st.none() | st.integers(0, 5))
        said = {
            "leaving": draw(RARELY),
            "epoch": draw(st.sampled_from([HISTORY, HISTORY, "another", None])),
            "synced_to": draw(st.none() | st.integers(0, HEAD + 2)),
            "smallest": smallest,
            "largest": draw(st.none() | st.integers(smallest or 0, 9)),
            "lacking": draw(st.frozensets(st.sampled_from(DIGESTS[1:]), max_size=2)),
        }
        terms = {
            "weight": draw(st.integers(1, 3)),
            "trusted": draw(st.booleans()),
            "drained": draw(RARELY),
            "mode": draw(st.sampled_from(["full", "full", "pull"])),
        }
        status = draw(st.sampled_from([1, 2, 3, 1, 2, 3, 0, None]))
        doubt = "wrong bytes" if draw(RARELY) else None
        one = mirror(id, status, doubt=doubt, **terms, **said)
        mirrors.append(one)
    deadlines = {
        one.id: draw(st.sampled_from([40.0, 10.0, 40.0, 40.0, 0.0, -1.0])) for one in mirrors if one.said
    }
    rule = draw(st.sampled_from(["last_resort", "never", "always"]))
    return World(mirrors, deadlines, Rules(error_mirrors=rule))


def able(world: World, now: float) -> list[Mirror]:
    """Who is in the pool by the letter of the promises, worked out from the mirrors alone."""
    online = [
        one
        for one in world.mirrors
        if one.said is not None
        and now <= world.deadlines[one.id]
        and one.said.status is not Status.OFFLINE
        and not one.said.leaving
        and not one.terms.drained
        and one.doubt_reason is None
    ]
    good = [one for one in online if one.said and one.said.status is not Status.ERROR]
    if world.rules.error_mirrors == "always":
        return online
    return good if good or world.rules.error_mirrors == "never" else online


def has(one: Mirror, digest: Digest, seq: int, size: int) -> bool:
    said = one.said
    assert said is not None
    reached = said.synced_to is None or one.terms.mode == "pull"
    reached = reached or (
        said.epoch == HISTORY and said.synced_to is not None and seq <= said.synced_to <= HEAD
    )
    small = said.smallest is not None and size < said.smallest
    large = said.largest is not None and size > said.largest
    return reached and not small and not large and digest not in said.lacking


NOW = st.sampled_from([0.0, 0.001, 10.0, 10.001, 40.0, 40.001])


@dataclass(frozen=True)
class Asked:
    """A request: for which blob, with credentials or not, and by which mirror if by one."""

    now: float
    digest: Digest
    seq: int
    size: int
    trusted: bool
    asker: int

    def expected(self, world: World) -> set[int]:
        """Who may be sent it, by the letter of the promises."""
        return {
            one.id
            for one in able(world, self.now)
            if has(one, self.digest, self.seq, self.size)
            and (one.terms.trusted or not self.trusted)
            and (not self.asker or (one.terms.mode == "full" and one.id != self.asker))
        }


ASKED = st.builds(
    Asked,
    NOW,
    st.sampled_from(DIGESTS),
    st.integers(1, HEAD + 1),
    st.integers(0, 10),
    st.booleans(),
    st.sampled_from([0, 0, 1, 2]),
)


@given(worlds(), ASKED)
def test_who_is_chosen(world: World, asked: Asked) -> None:
    """
    Whoever is online and has the blob can be chosen, and nobody else ever is.
    """
    expected, seen = asked.expected(world), world.drawn()
    blob = {"seq": asked.seq, "size": asked.size}
    also = {"now": asked.now, "trusted": asked.trusted, "asker": asked.asker}

    assert (expected or {None}) == chosen(seen, asked.digest, **blob, **also)
    assert expected == {m.id for m in holders(seen, asked.digest.raw, **blob, **also)}


@given(worlds(), ASKED, st.integers(1, 8), st.integers())
def test_who_is_named_beside(world: World, asked: Asked, most: int, seed: int) -> None:
    """
    Of those that may be chosen as many as are wanted, each once; the first is the one that is picked.
    """
    expected, seen = asked.expected(world), world.drawn()
    blob = (asked.digest.raw, asked.seq, asked.size, asked.now)
    also = {"trusted": asked.trusted, "asker": asked.asker}

    found = choose(seen, *blob, Random(seed).random, most, **also)

    names = {one.id for one in found}
    assert names <= expected
    assert min(most, len(expected)) == len(names) == len(found)
    assert list(found[:1]) == [one for one in [pick(seen, *blob, Random(seed).random, **also)] if one]
    told = links(seen, *blob, Random(seed).random, most, **also)
    assert len(told) == len(set(told)) == len(found)
    assert set(told) <= {seen.standing[id][1].link for id in expected}


@given(st.lists(st.integers(0, HEAD), min_size=1, max_size=20), st.integers(1, HEAD))
def test_who_has_it(covers: list[int], seq: int) -> None:
    """
    Those that cover a number are counted right, old or new.
    """
    tier = Tier.of(member(id, covers) for id, covers in enumerate(covers))

    assert sum(seq <= one for one in covers) == tier.having(seq)


@settings(max_examples=300)
@given(worlds(), NOW)
def test_why_agrees_with_the_choice(world: World, now: float) -> None:
    """
    A mirror has a reason exactly when no request for any blob would go to it.
    """
    seen = world.drawn()
    for one in world.mirrors:
        size = one.said.smallest or 0 if one.said else 0  # of all blobs the one it is most likely to have

        assert (explain(seen, one.id, now, world.rules) is None) == (
            one.id in chosen(seen, LEEK, seq=1, size=size, now=now)
        )


@given(worlds())
def test_everybody_is_in_the_picture_once(world: World) -> None:
    """
    A mirror is a member of one tier or has been refused, never both and never neither.
    """
    seen = world.drawn()

    placed = [member.id for tier in seen.tiers for member in tier.members] + list(seen.refused)
    assert [one.id for one in world.mirrors] == sorted(placed)


def member(id: int, covers: int, weight: int = 1) -> Member:
    return Member(
        id,
        40.0,
        trusted=True,
        picky=False,
        lacking=frozenset(),
        full=True,
        link=b"",
        covers=covers,
        weight=weight,
        smallest=0,
        largest=9,
    )


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 4)), min_size=1, max_size=8), st.data())
def test_a_tier(shapes: list[tuple[int, int]], data: st.DataObject) -> None:
    """
    Those that cover a blob are a prefix, and a draw among them gives each as many of the throws as it weighs.
    """
    tier = Tier.of(member(id, covers, weight) for id, (covers, weight) in enumerate(shapes))
    among = data.draw(st.integers(1, len(shapes)))
    total = sum(one.weight for one in tier.members[:among])

    counts = Counter(tier.draw(among, lambda step=step: (step + 0.5) / total).id for step in range(total))

    assert sorted((one.covers for one in tier.members), reverse=True) == [one.covers for one in tier.members]
    assert {one.id: one.weight for one in tier.members[:among]} == counts


@pytest.mark.parametrize("roll", [0.0, 1.0 - 2**-53])
@pytest.mark.parametrize("weights", [(1, 1, 1), (1000, 1, 999)])
def test_the_ends_of_the_dice(weights: tuple[int, ...], roll: float) -> None:
    """
    The least and the greatest throw are the first and the last mirror.
    """
    tier = Tier.of(member(id, 1, weight) for id, weight in enumerate(weights))

    assert (2 if roll else 0) == tier.draw(3, lambda: roll).id
