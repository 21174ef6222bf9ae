"""Range headers against a slow model of RFC 9110, 14.1 and 14.2."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from soup.core.errors import BadRange
from soup.core.span import Span, asked

WHOLE, REFUSED = "whole", "refused"


def model(header: str, size: int) -> Span | str:
    """What a blob of `size` bytes answers, counted byte by byte."""
    unit, _, specs = header.partition("=")
    if unit.strip().lower() != "bytes":
        return WHOLE
    wanted: list[list[int]] = []
    nothing_of_nothing = False
    for spec in (spec.strip() for spec in specs.split(",")):
        if not spec:
            continue  # a list may have empty elements (5.6.1)
        first, dash, last = spec.partition("-")
        if not dash or any(c not in "0123456789" for c in first + last) or not first + last:
            return REFUSED
        if first and last and int(last) < int(first):
            return REFUSED
        if first:
            wanted.append([place for place in range(size) if int(first) <= place <= int(last or size)])
        else:
            wanted.append([place for place in range(size) if size - place <= int(last)])
            nothing_of_nothing |= size == 0 and int(last) > 0
    some = [places for places in wanted if places]
    if not some:  # not one of them is satisfiable; but any end of an empty blob is (14.1.2)
        return WHOLE if nothing_of_nothing else REFUSED
    every = [place for places in some for place in places]
    if len(every) != len(set(every)):
        return REFUSED  # they overlap
    return Span(some[0][0], some[0][-1]) if len(some) == 1 else WHOLE


def answer(header: str, size: int) -> Span | str:
    try:
        return asked(header, size) or WHOLE
    except BadRange as error:
        return REFUSED if size == error.size else "refused, with another size"


numbers = st.one_of(
    st.just(""), st.integers(0, 40).map(str), st.sampled_from(["007", "99999999999999", "9" * 30])
)
spec = st.one_of(
    st.tuples(numbers, numbers).map("-".join),
    st.tuples(numbers, numbers).map("-".join).map(lambda text: f" {text} "),
    st.sampled_from(["", "-", "--", "1", "a-b", "-1-", "1--2", "0x1-", "+1-2", "1-2-3", "1.5-2", "-"]),
)
headers = st.one_of(
    st.lists(spec, max_size=4).map(",".join).map(lambda specs: f"bytes={specs}"),
    st.lists(spec, max_size=2).map(",".join).map(lambda specs: f"Bytes={specs}"),
    st.text(alphabet="bytes=0123456789-, xX", max_size=20),
    st.text(max_size=20).map(lambda text: f"bytes={text}"),
)


@pytest.mark.row("S37")
@given(headers, st.integers(0, 40))
@example("bytes=0-0", 1)
@example("bytes=-0", 10)
@example("bytes=-1", 0)
@example("bytes=-0", 0)
@example("bytes=-1,a", 0)
@example("bytes=-1,-2", 0)
@example("bytes=0-", 0)
@example("bytes=5-4", 10)
@example("bytes=0-0,20-30", 10)
@example("bytes=20-30,40-", 10)
@example("bytes=0-4,4-9", 10)
@example("bytes=0-3,5-9", 10)
@example("bytes=,0-3,", 10)
@example("bytes=\N{ARABIC-INDIC DIGIT ONE}-", 10)
@example("lines=0-1", 10)
@example("bytes", 10)
def test_as_the_model_says(header: str, size: int) -> None:
    """
    A range is answered with its bytes, a set of ranges apart with the whole, and anything else is refused.
    """
    assert model(header, size) == answer(header, size)


@given(st.integers(1, 10**12), st.integers(0, 10**13), st.integers(0, 10**13))
def test_what_is_given_lies_inside(size: int, first: int, last: int) -> None:
    """
    No span reaches over the end of a blob, whatever is asked of a blob of whatever size.
    """
    for header in (f"bytes={first}-{last}", f"bytes={first}-", f"bytes=-{last}"):
        found = answer(header, size)

        if isinstance(found, Span):
            assert 0 <= found.first <= found.last < size
            assert found.last - found.first + 1 == found.length


@pytest.mark.parametrize(
    "header",
    ["bytes=" + "9" * 30 + "-", "bytes=" + "9" * 5000 + "-" + "9" * 5000, "bytes=" + "0-0," * 2000],
)
def test_absurd_figures(header: str) -> None:
    """
    What begins where no file has anything is refused and costs nothing.
    """
    assert REFUSED == answer(header, 10)


@pytest.mark.parametrize("digits", [21, 5000])
def test_an_end_behind_everything(digits: int) -> None:
    """
    A last byte or a length may have as many digits as it likes: it means the end.
    """
    assert Span(3, 9) == answer("bytes=3-" + "9" * digits, 10)
    assert Span(0, 9) == answer("bytes=-" + "9" * digits, 10)
    assert Span(3, 7) == answer("bytes=" + "0" * digits + "3-" + "0" * digits + "7", 10)
