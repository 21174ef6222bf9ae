"""Blobs that were asked for lately: what a table of fixed size says, and what it never says."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soup.blobs.known import DIGEST, PRESENT, Known

DICE = Random(7)


def digests(many: int) -> list[bytes]:
    return [DICE.randbytes(DIGEST) for _ in range(many)]


@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from(["put", "drop"])), max_size=200))
def test_what_it_says_is_true(steps: list[tuple[int, str]]) -> None:
    """
    Of a blob it says what it was last told, or nothing; never what was dropped.
    """
    names, truth, known = digests(31), {}, Known(16)
    for place, step in steps:
        raw = names[place]
        if step == "put" and known.get(raw) is None:
            truth[raw] = (place + 1, place * 1000, PRESENT)
            known.put(raw, place + 1, place * 1000)
        elif step == "drop":
            truth.pop(raw, None)
            known.drop(raw)

        assert known.get(raw) == truth.get(raw)
        assert all(known.get(name) in {None, truth.get(name)} for name in names)


def test_as_many_as_it_has_places_for() -> None:
    """
    It never says more than it has places for, and of so many asked for again and again it knows most.
    """
    known, names = Known(1024), digests(4096)
    for seq, raw in enumerate(names, 1):
        known.put(raw, seq, 0)

    found = [raw for raw in names if known.get(raw)]

    assert 900 < len(found) <= 1024
    assert set(names[-64:]) & set(found)


def test_what_was_never_put() -> None:
    """
    A digest of zeros looks like an empty place, and the end of one and the beginning of the next like one.
    """
    known = Known(4)
    assert known.get(bytes(DIGEST)) is None
    a, b, c, d = digests(4)
    for seq, raw in enumerate((a, b, c, d), 1):
        known.put(raw, seq, 0)
    neighbours = [one[16:] + other[:16] for one in (a, b, c, d) for other in (a, b, c, d)]

    assert [None] * 16 == [known.get(raw) for raw in neighbours]
    known.drop(a)
    assert known.get(bytes(DIGEST)) is None


@pytest.mark.parametrize("most", [0, 1, 4])
def test_the_smallest(most: int) -> None:
    """
    Even the smallest has one row.
    """
    known, (raw,) = Known(most), digests(1)
    known.put(raw, 1 << 62, 1 << 62)

    assert (1 << 62, 1 << 62, PRESENT) == known.get(raw)
    known.clear()
    assert known.get(raw) is None
