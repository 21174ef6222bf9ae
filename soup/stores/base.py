"""What a store is."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol, runtime_checkable

from soup.core.blob import Blob
from soup.core.digest import Digest
from soup.core.span import Span

File = tuple[int, int, int, int]  # inode, size, moments of its last change: tells a file from its successor


class Source(Protocol):
    """Bytes that can be read again: a second store can be tried after a first has failed."""

    def __call__(self) -> AsyncIterator[bytes]: ...


class Store(Protocol):
    """Keeps bytes under their digest.

    Every verb raises StoreDown when the store does not answer; `put` raises NoRoom when it is full.
    """

    async def put(self, blob: Blob, source: Source) -> None:
        """Keep it, whole and durably, or not at all.

        Keeping it twice is no error: it replaces what lies there. Raises DigestMismatch, and keeps nothing,
        when the source gives other bytes.
        """

    def open(self, digest: Digest, span: Span | None = None) -> AsyncIterator[bytes]:
        """Its bytes, or a span of them. Raises BlobUnknown if it is not here."""

    async def has(self, digest: Digest) -> bool:
        """Whether it is here."""

    async def drop(self, digest: Digest, only: File | None = None) -> None:
        """Forget it, if it is `only` still this file. Forgetting what is not here is no error."""

    def walk(self) -> AsyncIterator[Blob]:
        """Every blob here, in digest order."""


@runtime_checkable
class OnDisk(Protocol):
    """An extra power: the bytes lie in a file that this machine, or a web server on it, may open."""

    def path(self, digest: Digest) -> Path:
        """Where the file of this blob is, if it is here."""


@runtime_checkable
class Quarantine(Protocol):
    """An extra power: bytes that are not what they should be can be set aside, for somebody to look at."""

    async def file(self, digest: Digest) -> File | None:
        """Which file this blob is now; None if it is not here. Raises StoreDown."""

    async def set_aside(self, digest: Digest, file: File) -> bool:
        """Take it out of the sight of the five verbs, durably, if it is still this file; whether it was.

        Raises StoreDown.
        """


class Wrapper:
    """A store around a store. Passes on the five verbs and, on purpose, nothing else.

    An extra power that leaked through a wrapper would go around it: a web server would send what an
    encrypting store keeps.
    """

    def __init__(self, inner: Store) -> None:
        self.inner = inner

    async def put(self, blob: Blob, source: Source) -> None:
        """See Store."""
        await self.inner.put(blob, source)

    def open(self, digest: Digest, span: Span | None = None) -> AsyncIterator[bytes]:
        """See Store."""
        return self.inner.open(digest, span)

    async def has(self, digest: Digest) -> bool:
        """See Store."""
        return await self.inner.has(digest)

    async def drop(self, digest: Digest, only: File | None = None) -> None:
        """See Store."""
        await self.inner.drop(digest, only)

    def walk(self) -> AsyncIterator[Blob]:
        """See Store."""
        return self.inner.walk()
