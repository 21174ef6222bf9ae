"""Every answer of a blob's path may be read by every page (C12)."""

import re

EXPOSED = "Accept-Ranges Content-Disposition Content-Range Digest ETag Link Location Repr-Digest X-Request-Id"
CORS: list[tuple[bytes, bytes]] = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", ", ".join(EXPOSED.split()).encode()),
]
LENGTH = 65  # of "/" and 64 digits

_is_blob = re.compile("/[0-9a-f]{64}").fullmatch


def is_blob(path: str) -> bool:
    """Whether a decoded path is that of a blob (D2)."""
    return len(path) == LENGTH and _is_blob(path) is not None
