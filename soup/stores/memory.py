"""A store in a dict."""

from collections.abc import AsyncIterator

from soup.core.blob import Blob
from soup.core.digest import Digest
from soup.core.errors import BlobUnknown, DigestMismatch
from soup.core.span import Span
from soup.stores.base import File, Source


class MemoryStore:
    """For tests, demonstrations and very small soups."""

    def __init__(self) -> None:
        self.kept: dict[Digest, bytes] = {}

    async def put(self, blob: Blob, source: Source) -> None:
        """See Store."""
        data = b"".join([piece async for piece in source()])
        given = Blob(Digest.of(data), len(data))
        if given != blob:
            raise DigestMismatch(f"the source gave {given}", digest=blob.digest)
        self.kept[blob.digest] = data

    async def open(self, digest: Digest, span: Span | None = None) -> AsyncIterator[bytes]:
        """See Store."""
        if digest not in self.kept:
            raise BlobUnknown("not here", digest=digest)
        data = self.kept[digest]
        yield data if span is None else data[span.first : span.last + 1]

    async def has(self, digest: Digest) -> bool:
        """See Store."""
        return digest in self.kept

    async def drop(self, digest: Digest, only: File | None = None) -> None:  # noqa: ARG002 - it has no files
        """See Store."""
        self.kept.pop(digest, None)

    async def walk(self) -> AsyncIterator[Blob]:
        """See Store."""
        for digest in sorted(self.kept):
            yield Blob(digest, len(self.kept[digest]))
