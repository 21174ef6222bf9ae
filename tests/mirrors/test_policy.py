"""Who is chosen, by how often, and what is said of the others."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest

from soup.core.digest import Digest
from soup.mirrors.model import Fqdn, Mirror, Report, Status, Terms
from soup.mirrors.policy import FEW, Picture, Rules, choose, explain, holders, links, pick, picture

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HISTORY = "this-history"
HEAD = 9
LEEK = Digest.of(b"leek")
DIGESTS = [LEEK, *(Digest.of(bytes([n])) for n in range(3))]
GRID = [(step + 0.5) / 120 for step in range(120)]  # fine enough to meet every member, whatever its weight


def mirror(id: int = 1, status: int | None = 1, *, doubt: str | None = None, **given: Any) -> Mirror:
    """A mirror as usual but for what is given; status None for one that never reported."""
    of_terms = {name: given.pop(name) for name in ("weight", "trusted", "drained", "mode") if name in given}
    terms = Terms(Fqdn(f"m{id}.example"), "https", 443, **of_terms)
    said = None if status is None else Report(Status(status), **given)
    return Mirror(id, terms, NOON, doubt, said=said, last_seen=NOON if said else None)


def drawn(
    *mirrors: Mirror, rules: Rules | None = None, deadlines: Mapping[int, float] | None = None
) -> Picture:
    """A picture at moment 0, when all have 40 seconds left."""
    if deadlines is None:
        deadlines = {one.id: 40.0 for one in mirrors if one.said}
    return picture(mirrors, deadlines, 0.0, rules or Rules(), (HISTORY, HEAD))


def chosen(
    seen: Picture, digest: Digest = LEEK, *, seq: int = 1, size: int = 4, now: float = 0.0, **also: Any
):
    """Everybody that some throw of the dice chooses."""
    found = (pick(seen, digest.raw, seq, size, now, lambda roll=roll: roll, **also) for roll in GRID)
    return {member.id if member else None for member in found}


def counted(seen: Picture, draws: int, **blob: Any) -> Counter[int | None]:
    """How often each is chosen, with honest dice that fall the same each time."""
    asked = {"raw": LEEK.raw, "seq": 1, "size": 4, "now": 0.0, **blob}
    found = (pick(seen, dice=dice, **asked) for dice in [Random(7).random] for _ in range(draws))
    return Counter(member.id if member else None for member in found)


def spread(seen: Picture, draws: int, most: int, **blob: Any) -> Counter[tuple[int, ...]]:
    """How often each choice of several is made, by the links that clients are given."""
    asked = {"raw": LEEK.raw, "seq": 1, "size": 4, "now": 0.0, **blob}
    dice, ids = Random(7).random, {member.link: id for id, (_, member) in seen.standing.items()}
    return Counter(
        tuple(ids[link] for link in links(seen, dice=dice, most=most, **asked)) for _ in range(draws)
    )


def chi_square(counts: Mapping[Any, int], expected: Mapping[Any, float]) -> float:
    return sum((counts[key] - wanted) ** 2 / wanted for key, wanted in expected.items())


@pytest.mark.row("S7")
def test_three_mirrors_online() -> None:
    """
    Each of three mirrors gets a third of 3,000 requests, within four sigma.
    """
    counts = counted(drawn(mirror(1), mirror(2), mirror(3, 2), mirror(4, 0), mirror(5, None)), 3000)

    assert {1, 2, 3} == set(counts)
    assert all(abs(count - 1000) < 4 * 25.8 for count in counts.values())


@pytest.mark.row("S7")
@pytest.mark.parametrize("silent", [0, 1, 40])
def test_a_draw_is_even(silent: int) -> None:
    """
    Ten mirrors are drawn evenly, however many others have fallen silent since the picture was drawn.
    """
    mirrors = [mirror(id) for id in range(1, 11 + silent)]
    seen = drawn(*mirrors, deadlines={one.id: 40.0 if one.id <= 10 else 5.0 for one in mirrors})

    counts = counted(seen, 20_000, now=6.0)

    assert set(range(1, 11)) == set(counts)
    assert chi_square(counts, dict.fromkeys(range(1, 11), 2000.0)) < 27.88  # 9 degrees of freedom, 0.1 %


@pytest.mark.parametrize("silent", [0, 1, 40])
def test_a_draw_goes_by_weight(silent: int) -> None:
    """
    Who weighs five times as much is drawn five times as often.
    """
    weights = {1: 1, 2: 2, 3: 5}
    mirrors = [mirror(id, weight=weights.get(id, 3)) for id in range(1, 4 + silent)]
    seen = drawn(*mirrors, deadlines={one.id: 40.0 if one.id <= 3 else 5.0 for one in mirrors})

    counts = counted(seen, 16_000, now=6.0)

    assert set(weights) == set(counts)
    assert chi_square(counts, {id: 2000.0 * weight for id, weight in weights.items()}) < 13.82  # 2, 0.1 %


@pytest.mark.row("S15")
@pytest.mark.parametrize(
    ("now", "expected"), [(39.999, {1}), (40.0, {1}), (40.001, {None}), (4000.0, {None})]
)
def test_silence(now: float, expected: set[int | None]) -> None:
    """
    Exactly forty seconds are within forty seconds; a thousandth more is silence.
    """
    assert expected == chosen(drawn(mirror()), now=now)
    assert expected == chosen(picture([mirror()], {1: 40.0}, now, Rules(), (HISTORY, HEAD)), now=now)


ERRORS = [
    ("last_resort", [1, 3], {1}),
    ("last_resort", [2, 3], {1}),
    ("last_resort", [3, 3], {1, 2}),
    ("last_resort", [0, 3], {2}),
    ("never", [1, 3], {1}),
    ("never", [3, 3], {None}),
    ("always", [1, 3], {1, 2}),
    ("always", [2, 3], {1, 2}),
]


@pytest.mark.row("S7")
@pytest.mark.parametrize(("rule", "statuses", "expected"), ERRORS)
def test_a_mirror_that_reports_an_error(rule: Any, statuses: list[int], expected: set[int | None]) -> None:
    """
    A 3 is a last resort, or out, or as good as any, as the setting says.
    """
    mirrors = [mirror(place, status) for place, status in enumerate(statuses, 1)]

    assert expected == chosen(drawn(*mirrors, rules=Rules(error_mirrors=rule)))


def test_a_last_resort_while_the_others_lack_the_blob() -> None:
    """
    A 3 is used when no other is online, not when no other has the blob.
    """
    seen = drawn(mirror(1, lacking=frozenset([LEEK])), mirror(2, 3))

    assert {None} == chosen(seen)
    assert {2} == chosen(drawn(mirror(1, 0), mirror(2, 3)))


def test_a_last_resort_when_the_others_fall_silent() -> None:
    """
    The moment the last good mirror falls silent, a 3 takes over: no new picture is needed.
    """
    seen = drawn(mirror(1), mirror(2, 3), deadlines={1: 10.0, 2: 40.0})

    assert {1} == chosen(seen, now=10.0)
    assert {2} == chosen(seen, now=10.001)
    assert "it reports an error, and others do not" == explain(seen, 2, 10.0, Rules())
    assert explain(seen, 2, 10.001, Rules()) is None


COVERAGE = [
    ({}, 1 << 40, True),
    ({"epoch": HISTORY, "synced_to": 7}, 7, True),
    ({"epoch": HISTORY, "synced_to": 7}, 8, False),
    ({"epoch": "another", "synced_to": 7}, 1, False),
    ({"epoch": None, "synced_to": 7}, 1, False),
    ({"epoch": HISTORY, "synced_to": HEAD}, HEAD, True),
    ({"epoch": HISTORY, "synced_to": HEAD + 1}, 1, False),
    ({"mode": "pull", "epoch": HISTORY, "synced_to": HEAD + 1}, 1, True),
    ({"mode": "pull", "epoch": HISTORY, "synced_to": 0}, 8, True),
]


@pytest.mark.parametrize(("said", "seq", "expected"), COVERAGE)
def test_what_a_mirror_has_synced(said: dict[str, Any], seq: int, expected: bool) -> None:  # noqa: FBT001
    """
    A mirror that says how far it has synced gets no blob beyond; one that does not say has everything.

    One that has synced more than there is has synced something else (D7).
    """
    assert {1 if expected else None} == chosen(drawn(mirror(**said)), seq=seq)


@pytest.mark.parametrize(("size", "expected"), [(9, None), (10, 1), (20, 1), (21, None)])
def test_the_sizes_a_mirror_keeps_to(size: int, expected: int | None) -> None:
    """
    Its limits are sizes it still has.
    """
    assert {expected} == chosen(drawn(mirror(smallest=10, largest=20)), size=size)


def test_what_a_mirror_lacks() -> None:
    """
    A mirror is never sent a request for what it says it lacks, and is for everything else.
    """
    seen = drawn(mirror(lacking=frozenset([LEEK])))

    assert {None} == chosen(seen)
    assert {1} == chosen(seen, Digest.of(b"turnip"))


def test_a_client_that_shows_credentials() -> None:
    """
    Only a trusted mirror may see what the client sends (C14a).
    """
    assert {1, 2} == chosen(drawn(mirror(1), mirror(2, trusted=False)))
    assert {1} == chosen(drawn(mirror(1), mirror(2, trusted=False)), trusted=True)
    assert {None} == chosen(drawn(mirror(2, trusted=False)), trusted=True)


def test_a_mirror_that_asks() -> None:
    """
    It is sent to another one that is full, never to itself, and to none that might ask in its turn (D8).
    """
    seen = drawn(mirror(1), mirror(2), mirror(3, mode="pull"), mirror(4, 0), mirror(5, trusted=False))

    assert {2, 5} == chosen(seen, asker=1)
    assert {2} == chosen(seen, asker=1, trusted=True)
    assert {1, 2, 5} == chosen(seen, asker=3)
    assert {None} == chosen(drawn(mirror(1), mirror(2, mode="pull")), asker=1)


@pytest.mark.parametrize("mirrors", [3, FEW, 3 * FEW])
def test_others_are_even(mirrors: int) -> None:
    """
    Whoever is chosen, each of the others is as likely to stand first behind it, and second.
    """
    counts = spread(drawn(*map(mirror, range(1, mirrors + 1))), 6000 * mirrors, 3)

    assert {3} == {len(set(names)) for names in counts}
    for place in (1, 2):
        pairs: Counter[tuple[int, int]] = Counter()
        for names, count in counts.items():
            pairs[names[0], names[place]] += count
        assert mirrors * (mirrors - 1) == len(pairs)
        wanted = 6000 / (mirrors - 1)
        free = mirrors * (mirrors - 2)
        assert chi_square(pairs, dict.fromkeys(pairs, wanted)) < free + 4 * (2 * free) ** 0.5  # four sigma


@pytest.mark.parametrize("also", [{"silent": True}, {"lacking": frozenset([LEEK])}, {"trusted": False}])
def test_others_are_even_beside_one_that_is_not_able(also: dict[str, Any]) -> None:
    """
    The neighbour of a mirror that may not be chosen does not get its share as well.
    """
    silent = also.pop("silent", False)
    mirrors = [mirror(1), mirror(2), mirror(3, **also), mirror(4), mirror(5)]
    seen = drawn(*mirrors, deadlines={one.id: 5.0 if silent and one.id == 3 else 40.0 for one in mirrors})

    counts = spread(seen, 12_000, 2, now=6.0, trusted=True)

    assert {(a, b) for a in (1, 2, 4, 5) for b in (1, 2, 4, 5) if a != b} == set(counts)
    assert chi_square(counts, dict.fromkeys(counts, 1000.0)) < 31.26  # 11 degrees of freedom, 0.1 %


@pytest.mark.row("S7")
@pytest.mark.parametrize("mirrors", [3, 3 * FEW])
def test_others_change_nothing_for_the_first(mirrors: int) -> None:
    """
    Who is chosen is chosen by the same throw, whether others are named or not.
    """
    seen = drawn(*(mirror(id, weight=1 + id % 2) for id in range(1, mirrors + 1)))
    for seed in range(200):
        alone = pick(seen, LEEK.raw, 1, 4, 0.0, Random(seed).random)

        assert alone is choose(seen, LEEK.raw, 1, 4, 0.0, Random(seed).random, 3)[0]


def test_no_others() -> None:
    """
    As many as there are: alone it is named alone, and an error that is a last resort beside none that is not.
    """
    assert Counter({(1,): 10}) == spread(drawn(mirror(1), mirror(2, 0), mirror(3, 3)), 10, 3)
    assert {(2, 3), (3, 2)} == set(spread(drawn(mirror(1, 0), mirror(2, 3), mirror(3, 3)), 50, 3))
    assert {()} == set(spread(drawn(), 1, 3))


def test_one_in_thousands() -> None:
    """
    It is found although no throw of the dice falls on it, and so is the other.
    """
    thousands = [
        mirror(id, lacking=frozenset() if id in {500, 700} else frozenset([LEEK])) for id in range(1000)
    ]
    seen = drawn(*thousands)

    assert {500, 700} == chosen(seen)
    assert {(500, 700), (700, 500)} <= set(spread(seen, 20, 3))


REASONS = [
    (mirror(status=None), "it has never reported"),
    (mirror(doubt="wrong bytes"), "it is doubted: wrong bytes"),
    (mirror(drained=True), "an administrator has drained it"),
    (mirror(status=0), "it says it is offline"),
    (mirror(leaving=True), "it says it is leaving"),
    (mirror(epoch="another", synced_to=9), "it has nothing of this history of the feed yet"),
    (mirror(epoch=HISTORY, synced_to=HEAD + 1), "it has nothing of this history of the feed yet"),
    (mirror(), None),
    (mirror(status=2), None),
    (mirror(status=3), None),
]


@pytest.mark.parametrize(("one", "reason"), REASONS)
def test_why(one: Mirror, reason: str | None) -> None:
    """
    Who would not be chosen has a reason in words.
    """
    seen = drawn(one)

    assert reason == explain(seen, one.id, 0.0, Rules())
    assert {None if reason else one.id} == chosen(seen)


def test_why_a_silent_one() -> None:
    """
    Silence is counted in seconds, in the picture and after it.
    """
    assert "silent for 41 s, more than 40" == explain(drawn(mirror()), 1, 41.0, Rules())
    assert "silent for 41 s, more than 40" == explain(drawn(mirror(), deadlines={1: -1.0}), 1, 0.0, Rules())


def test_why_an_error() -> None:
    """
    A 3 that is not chosen says whether it never is or only not now.
    """
    never = Rules(error_mirrors="never")

    assert "it reports an error" == explain(drawn(mirror(1, 3), rules=never), 1, 0.0, never)
    assert "it reports an error, and others do not" == explain(
        drawn(mirror(1), mirror(2, 3)), 2, 0.0, Rules()
    )


def test_why_nobody_knows() -> None:
    """
    A mirror the picture does not have yet has not reported.
    """
    assert "it has never reported" == explain(drawn(), 1, 0.0, Rules())


def test_nobody() -> None:
    """
    Without mirrors there is nothing to choose from.
    """
    assert {None} == chosen(drawn())
    assert [] == holders(drawn(), LEEK.raw, 1, 4, 0.0)


def test_the_link_of_a_member() -> None:
    """
    A member's link is the mirror's origin: the scheme's own port is not written.
    """
    odd = mirror(2)
    odd = replace(odd, terms=replace(odd.terms, scheme="http", port=8081))

    links = {one.id: one.link for tier in drawn(mirror(1), odd).tiers for one in tier.members}

    assert {1: b"https://m1.example/", 2: b"http://m2.example:8081/"} == links
