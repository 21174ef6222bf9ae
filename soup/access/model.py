"""Tokens and who holds them."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Kind(StrEnum):
    """What a token may do."""

    ADMIN = "admin"
    WRITE = "write"
    READ = "read"
    MIRROR = "mirror"
    JOIN = "join"


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is known: never the token itself."""

    id: int
    kind: Kind
    mirror_id: int | None = None
    created_at: datetime | None = None
    expires_at: datetime | None = None
    last_used_at: datetime | None = None


ANYBODY = Token(0, Kind.ADMIN)  # who everybody is where `auth.mode` is open
JOINER = Token(0, Kind.JOIN)  # who has the secret of `cdn.join.token_file`
