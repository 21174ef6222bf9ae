"""The name that cannot lie."""

import hashlib
import re
from base64 import b64encode
from typing import Self

from soup.core.errors import BadDigest

_DIGITS = re.compile("[0-9a-f]{64}")


class Digest(str):
    """The SHA-256 of a blob: 64 lower-case hex digits. If it exists, it is valid.

    Raises BadDigest for anything else.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        if not _DIGITS.fullmatch(text):
            raise BadDigest(f"not a SHA-256 in 64 lower-case hex digits: {text[:70]!r}")
        return super().__new__(cls, text)

    @classmethod
    def of(cls, data: bytes) -> Self:
        """The digest of these bytes."""
        return cls(hashlib.sha256(data).hexdigest())

    @classmethod
    def from_raw(cls, raw: bytes) -> Self:
        """The digest whose 32 bytes a table holds."""
        return cls(raw.hex())

    @property
    def raw(self) -> bytes:
        """The 32 bytes that tables keep."""
        return bytes.fromhex(self)

    @property
    def folder(self) -> str:
        """The three digits that name its folder on every mirror (S21)."""
        return self[:3]

    @property
    def etag(self) -> str:
        """The entity tag of the blob, the same on every mirror (C14b)."""
        return f'"{self}"'

    @property
    def base64(self) -> str:
        """The form that `Digest` (RFC 3230) and `Repr-Digest` (RFC 9530) carry."""
        return b64encode(self.raw).decode()
