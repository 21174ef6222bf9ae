"""Time as it is written down."""

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from soup.core.clock import steady, text, utc_now


def test_a_moment_as_text() -> None:
    """
    Faces write RFC 3339 in UTC with milliseconds and `Z`, whatever zone a moment is in.
    """
    there = timezone(timedelta(hours=2))

    assert "2026-01-01T12:00:00.000Z" == text(datetime(2026, 1, 1, 12, tzinfo=UTC))
    assert "2026-01-01T10:00:00.500Z" == text(datetime(2026, 1, 1, 12, 0, 0, 500_999, tzinfo=there))


def test_never() -> None:
    """
    A moment that never was is null.
    """
    assert text(None) is None


@given(st.datetimes(timezones=st.just(UTC)))
def test_it_can_be_read_again(moment: datetime) -> None:
    """
    The text is the moment, cut to the millisecond.
    """
    written = text(moment)

    assert written is not None
    assert timedelta(0) <= moment - datetime.fromisoformat(written) < timedelta(milliseconds=1)


def test_the_clocks() -> None:
    """
    What is written down is aware, what is measured never goes back.
    """
    before = steady()

    assert timedelta(0) == utc_now().utcoffset()
    assert before <= steady()
