"""Conditions on a tag that never changes (RFC 9110, 13.1)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soup.core.conditional import listed, range_applies, strongly_listed
from soup.core.digest import Digest

OURS = Digest.of(b"leek").etag
OTHER = Digest.of(b"turnip").etag


@pytest.mark.row("S35")
@pytest.mark.parametrize(
    ("header", "weakly", "strongly"),
    [
        (OURS, True, True),
        (f"W/{OURS}", True, False),
        ("*", True, True),
        (" * ", True, True),
        (f"{OTHER}, {OURS}", True, True),
        (f"{OTHER},W/{OURS}", True, False),
        (f' "",{OURS} ,', True, True),
        (OTHER, False, False),
        ("", False, False),
        (OURS.strip('"'), False, False),
        (OURS.upper(), False, False),
        (f"w/{OURS}", False, False),
        (f'"{OURS}', False, False),
        ("Thu, 01 Jan 2026 12:00:00 GMT", False, False),
    ],
)
def test_a_list_of_tags(header: str, weakly: bool, strongly: bool) -> None:  # noqa: FBT001 - a table
    """
    If-None-Match compares weakly, If-Match strongly, and a star is every tag.
    """
    assert weakly == listed(header, OURS)
    assert strongly == strongly_listed(header, OURS)


tags = st.sampled_from([OURS, OTHER, f"W/{OURS}", f"W/{OTHER}", '""', '"x"'])


@given(st.lists(tags, max_size=6), st.sampled_from([",", ", ", " , ", ",,"]))
def test_any_list(several: list[str], comma: str) -> None:
    """
    One tag that fits is enough, wherever it stands.
    """
    header = comma.join(several)

    assert (OURS in several or f"W/{OURS}" in several) == listed(header, OURS)
    assert (OURS in several) == strongly_listed(header, OURS)


@pytest.mark.row("S37")
@pytest.mark.parametrize(
    ("if_range", "expected"),
    [
        (None, True),
        (OURS, True),
        (f" {OURS} ", True),
        (f"W/{OURS}", False),
        (OTHER, False),
        ("*", False),
        (f"{OTHER}, {OURS}", False),
        ("Thu, 01 Jan 2026 12:00:00 GMT", False),
    ],
)
def test_if_range(if_range: str | None, expected: bool) -> None:  # noqa: FBT001 - a table
    """
    A range is obeyed without If-Range or with exactly this tag, for a date or a weak tag the whole is sent.
    """
    assert expected == range_applies(if_range, OURS)
