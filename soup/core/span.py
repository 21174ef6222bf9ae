"""Part of a blob, and how a `Range` header asks for it (RFC 9110, 14)."""

import re
from dataclasses import dataclass
from itertools import pairwise

from soup.core.errors import BadRange

_SPEC = re.compile("([0-9]{0,20})-([0-9]{0,20})")


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
    a server send the whole. Of several, those that lie outside do not count. Raises BadRange where none is
    left, where they overlap, and for what is no range at all.
    """
    unit, _, specs = header.partition("=")
    if unit.strip().lower() != "bytes":
        return None
    found = [_one(spec.strip(), size) for spec in specs.split(",") if spec.strip()]
    spans = sorted((span for span in found if span), key=lambda span: span.first)
    if not spans:
        raise BadRange(f"no such bytes: {header[:100]!r} of {size}", size=size)
    if any(left.last >= right.first for left, right in pairwise(spans)):
        raise BadRange(f"the ranges overlap: {header[:100]!r}", size=size)
    return spans[0] if len(spans) == 1 else None


def _one(spec: str, size: int) -> Span | None:
    """One range; None where it lies outside. Raises BadRange for what is none."""
    match = _SPEC.fullmatch(spec)
    if not match or spec == "-" or (match[1] and match[2] and int(match[2]) < int(match[1])):
        raise BadRange(f"not a range: {spec[:100]!r}", size=size)
    if match[1]:
        span = Span(int(match[1]), min(int(match[2]), size - 1) if match[2] else size - 1)
    else:
        span = Span(max(0, size - int(match[2])), size - 1)
    return span if span.first <= span.last else None
