"""Part of a blob, and how a `Range` header asks for it (RFC 9110, 14)."""

import re
from dataclasses import dataclass
from itertools import pairwise

from soup.core.errors import BadRange

_SPEC = re.compile(r"(\d{0,20})-(\d{0,20})")


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes `first` to `last`, both included, counted from 0."""

    first: int
    last: int

    @property
    def length(self) -> int:
        """How many bytes."""
        return self.last - self.first + 1


def asked(header: str, size: int) -> Span | None:
    """The span of a blob of `size` bytes that a Range header asks for; None where the whole is the answer.

    Another unit than bytes is ignored, and so are several ranges apart from each other: RFC 9110 (14.2) lets
    a server send the whole. Raises BadRange for what lies outside, overlaps, or is no range at all.
    """
    unit, _, specs = header.partition("=")
    if unit.strip().lower() != "bytes":
        return None
    spans = [_one(spec.strip(), size) for spec in specs.split(",") if spec.strip()]
    if not spans:
        raise BadRange(f"not a range: {header[:100]!r}", size=size)
    if len(spans) == 1:
        return spans[0]
    ordered = sorted(spans, key=lambda span: span.first)
    if any(left.last >= right.first for left, right in pairwise(ordered)):
        raise BadRange(f"the ranges overlap: {header[:100]!r}", size=size)
    return None


def _one(spec: str, size: int) -> Span:
    found = _SPEC.fullmatch(spec)
    if not found or spec == "-":
        raise BadRange(f"not a range: {spec[:100]!r}", size=size)
    first, last = found.groups()
    if not first:
        span = Span(max(0, size - int(last)), size - 1)
    else:
        span = Span(int(first), min(int(last), size - 1) if last else size - 1)
    if span.first > span.last or (first and last and int(last) < int(first)):
        raise BadRange(f"no such bytes: {spec[:100]!r} of {size}", size=size)
    return span
