"""A request for a blob whose size is known: which status, which headers, which bytes. Pure (RFC 9110).

As the web server beside the agent answers for files that are here: one range is obeyed, several are answered
with the whole, and the entity tag is the digest.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

CORS = {
    "access-control-allow-origin": "*",
    "access-control-expose-headers": "Accept-Ranges, Content-Range, ETag",
}
FOREVER = {"cache-control": "public, max-age=31536000, immutable"}
NEVER = {"cache-control": "no-store"}
BYTES = {
    "content-type": "application/octet-stream",
    "x-content-type-options": "nosniff",
    "accept-ranges": "bytes",
}
_ONE = re.compile(
    r"bytes\s*=\s*(?:([0-9]{1,20})\s*-\s*([0-9]{0,20})|-\s*([0-9]{1,20}))\s*", re.IGNORECASE
).fullmatch
_BYTES = re.compile(r"bytes\s*=", re.IGNORECASE).match

Headers = dict[str, str]


@dataclass(frozen=True, slots=True)
class Reply:
    """What the answer is. Its body are the bytes from `first` to before `stop`; None where it has none."""

    status: int
    headers: Headers
    first: int = 0
    stop: int = 0


def names(header: str, digest: str) -> bool:
    """Whether a list of entity tags, or `*`, has this blob's, weak or strong."""
    tags = (tag.strip().removeprefix("W/") for tag in header.split(","))
    return header.strip() == "*" or f'"{digest}"' in tags


def unsatisfied(asked: Mapping[str, str], digest: str) -> bool:
    """Whether If-Match asks for other content than this: 412."""
    header = asked.get("if-match")
    if header is None or header.strip() == "*":
        return False
    return f'"{digest}"' not in (tag.strip() for tag in header.split(","))


def decide(method: str, asked: Mapping[str, str], digest: str, size: int) -> Reply:
    """200, 206, 304, 412 or 416, of a blob of this size. `asked` are headers, their names in lower case."""
    etag = f'"{digest}"'
    if unsatisfied(asked, digest):
        return Reply(412, {"content-length": "0"} | NEVER | CORS)
    if "if-none-match" in asked and names(asked["if-none-match"], digest):
        return Reply(304, {"etag": etag} | FOREVER | CORS)
    common = {"etag": etag} | FOREVER | BYTES | CORS
    wanted: tuple[int, int] | None = None
    if method == "GET" and "range" in asked and asked.get("if-range", etag).strip() == etag:
        wanted = span(asked["range"], size)
        if wanted is not None and wanted[0] >= wanted[1]:
            return Reply(416, {"content-range": f"bytes */{size}", "content-length": "0"} | NEVER | CORS)
    first, stop = wanted or (0, size)
    common["content-length"] = str(stop - first)
    if wanted is None:
        return Reply(200, common, 0, size if method == "GET" else 0)
    return Reply(206, common | {"content-range": f"bytes {first}-{stop - 1}/{size}"}, first, stop)


def span(header: str, size: int) -> tuple[int, int] | None:
    """First byte, and the one behind the last; None where the whole is the answer, (0, 0) where none fits."""
    if not _BYTES(header) or "," in header:
        return None
    match = _ONE(header)
    if match is None:
        return 0, 0
    if match[3] is not None:
        return max(0, size - int(match[3])), size
    first, last = int(match[1]), int(match[2]) if match[2] else size - 1
    if match[2] and last < first:
        return 0, 0
    return (first, min(last + 1, size)) if first < size else (0, 0)
