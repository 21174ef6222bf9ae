"""Part of a blob, and how a `Range` header asks for it (RFC 9110, 14)."""

import re
from dataclasses import dataclass
from itertools import pairwise

from soup.core.errors import BadRange

_SPEC = re.compile("([0-9]*)-([0-9]*)")
_MOST = 20  # digits of a number that is read; one with more lies behind the end of everything


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
    left, where they overlap, and for what is no range at all. The end of an empty blob is the whole of it.
    """
    unit, _, specs = header.partition("=")
    if unit.strip().lower() != "bytes":
        return None
    found = [_one(spec.strip(), size) for spec in specs.split(",") if spec.strip()]
    spans = sorted((span for span in found if span), key=lambda span: span.first)
    if not spans:
        raise BadRange(f"no such bytes: {header[:100]!r} of {size}", size=size)
    if not size:
        return None
    if any(left.last >= right.first for left, right in pairwise(spans)):
        raise BadRange(f"the ranges overlap: {header[:100]!r}", size=size)
    return spans[0] if len(spans) == 1 else None


def _one(spec: str, size: int) -> Span | None:
    """One range; None where it lies outside. Raises BadRange for what is none."""
    match = _SPEC.fullmatch(spec)
    if not match or spec == "-":
        raise BadRange(f"not a range: {spec[:100]!r}", size=size)
    first, last = (_number(digits) for digits in match.groups())
    if not match[1]:
        return Span(max(0, size - last), size - 1) if last else None
    if match[2] and last < first:
        raise BadRange(f"not a range: {spec[:100]!r}", size=size)
    return Span(first, min(last, size - 1) if match[2] else size - 1) if first < size else None


def _number(digits: str) -> int:
    """What they say, as far as it matters. Python reads no more than some thousand digits."""
    figures = digits.lstrip("0")
    return int(figures or "0") if len(figures) <= _MOST else 10**_MOST
