"""Every answer of a blob's path may be read by every page (C12)."""

EXPOSED = (
    "Accept-Ranges Content-Disposition Content-Range Digest ETag Link Location Repr-Digest Retry-After "
    "X-Request-Id"
)
CORS: list[tuple[bytes, bytes]] = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", ", ".join(EXPOSED.split()).encode()),
]
LENGTH = 65  # of "/" and 64 digits


def digest_of(path: str) -> bytes | None:
    """The 32 bytes of the digest a decoded path names; None where it is not that of a blob (D2)."""
    if len(path) != LENGTH:
        return None
    try:
        raw = bytes.fromhex(path[1:])
    except ValueError:
        return None
    return raw if "/" + raw.hex() == path else None  # neither capitals nor spaces


def is_blob(path: str) -> bool:
    """Whether a decoded path is that of a blob (D2)."""
    return digest_of(path) is not None
