"""What a request for a blob on its way is answered, and how much of it anybody may have."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from soup_cdn_agent.conditions import decide, span
from soup_cdn_agent.pull import HELD, Pull

D, OTHER = "d" * 64, "e" * 64


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("bytes=0-9", (0, 10)),
        ("bytes=5-", (5, 100)),
        ("bytes=90-1000", (90, 100)),
        ("bytes=-10", (90, 100)),
        ("bytes=-1000", (0, 100)),
        ("Bytes = 1 - 2", (1, 3)),
        ("bytes=0-1,5-6", None),
        ("lines=0-1", None),
        ("bytes=100-", (0, 0)),
        ("bytes=9-5", (0, 0)),
        ("bytes=x", (0, 0)),
        ("bytes=-", (0, 0)),
        ("bytes=" + "9" * 30 + "-", (0, 0)),
        ("bytes=0-9223372036854775807", (0, 100)),
        ("bytes=0-" + "9" * 20, (0, 100)),
        ("bytes=-" + "9" * 20, (0, 100)),
        ("bytes=" + "9" * 20 + "-", (0, 0)),
    ],
)
def test_a_range(header: str, found: tuple[int, int] | None) -> None:
    """
    One is obeyed, of several the whole is sent, and what lies outside or is none is no range.
    """
    assert found == span(header, 100)


@given(st.text(alphabet="bytes=-, 0123456789", max_size=30), st.integers(0, 50))
def test_any_range_lies_inside(header: str, size: int) -> None:
    """
    Whatever is asked for, nothing is read that is not there.
    """
    found = span(header, size)

    assert found is None or 0 <= found[0] <= found[1] <= size


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({}, 200),
        ({"if-none-match": f'"{D}"'}, 304),
        ({"if-none-match": f'"{OTHER}", W/"{D}"'}, 304),
        ({"if-none-match": "*"}, 304),
        ({"if-none-match": f'"{OTHER}"'}, 200),
        ({"if-match": f'"{D}"'}, 200),
        ({"if-match": f'W/"{D}"'}, 412),
        ({"if-match": f'"{OTHER}"'}, 412),
        ({"range": "bytes=0-1"}, 206),
        ({"range": "bytes=0-1", "if-range": f'"{D}"'}, 206),
        ({"range": "bytes=0-1", "if-range": f'"{OTHER}"'}, 200),
        ({"range": "bytes=0-1", "if-range": "Sun, 22 Nov 2026 00:00:00 GMT"}, 200),
        ({"range": "bytes=500-"}, 416),
        ({"range": "bytes=500-", "if-none-match": f'"{D}"'}, 304),
    ],
)
def test_conditions(asked: dict[str, str], status: int) -> None:
    """
    As the core judges them: If-Match strongly, If-None-Match weakly, If-Range exactly.
    """
    assert status == decide("GET", asked, D, 100).status


def test_a_head_has_no_body_and_no_part() -> None:
    """
    It says how long the whole is.
    """
    reply = decide("HEAD", {"range": "bytes=0-1"}, D, 100)

    assert (200, "100", 0, 0) == (reply.status, reply.headers["content-length"], reply.first, reply.stop)


@pytest.mark.parametrize(
    ("written", "right", "released"),
    [(0, False, 0), (HELD, False, HELD), (9 * HELD, False, 9 * HELD), (10 * HELD, False, 9 * HELD),
     (10 * HELD, True, 10 * HELD)],
)  # fmt: skip
async def test_the_last_64_kib_are_nobodys(written: int, released: int, *, right: bool) -> None:
    """
    Before the whole is right; what is smaller is not given at all.
    """
    pull, small = Pull(D), Pull(D)
    pull.size, pull.written, pull.right = 10 * HELD, written, right
    small.size = small.written = HELD

    assert (released, 0) == (pull.released, small.released)
