"""Conditional requests against an entity tag that never changes (RFC 9110, 13)."""


def listed(header: str, etag: str) -> bool:
    """Whether a list of entity tags, or `*`, has this one.

    Weak tags count: the bytes are the same either way.
    """
    if header.strip() == "*":
        return True
    return any(tag.strip().removeprefix("W/") == etag for tag in header.split(","))


def strongly_listed(header: str, etag: str) -> bool:
    """As `listed`, but a weak tag never matches (If-Match, 13.1.1)."""
    return header.strip() == "*" or any(tag.strip() == etag for tag in header.split(","))


def range_applies(if_range: str | None, etag: str) -> bool:
    """Whether a Range is to be obeyed: no If-Range, or exactly this tag.

    A date never matches: soup sends none.
    """
    return if_range is None or if_range.strip() == etag
