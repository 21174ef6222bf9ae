"""What every store promises. A store is accepted when it passes; wrappers pass it too."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from random import Random

import pytest

from soup.core.blob import Blob
from soup.core.digest import Digest
from soup.core.errors import BlobUnknown, DigestMismatch, StoreDown
from soup.core.span import Span
from soup.stores.base import Source, Store
from soup.stores.disk import Disk
from soup.stores.spool import PIECE, Spool

TURNIP = Digest.of(b"turnip")  # nobody ever keeps one
BROTH = Random(7).randbytes(2 * PIECE + 10)  # more than two pieces, and no two of them alike


def blob_of(data: bytes) -> Blob:
    return Blob(Digest.of(data), len(data))


async def body(data: bytes, piece: int = PIECE) -> AsyncIterator[bytes]:
    for start in range(0, len(data), piece):
        yield data[start : start + piece]


def source(data: bytes, piece: int = PIECE) -> Source:
    """Bytes that can be read again."""
    return lambda: body(data, piece)


def breaking(data: bytes) -> Source:
    """These bytes, and then not the rest."""

    async def pieces() -> AsyncIterator[bytes]:
        yield data
        raise StoreDown("the other store went away")

    return pieces


async def read(pieces: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])


async def walked(store: Store) -> list[Blob]:
    return [blob async for blob in store.walk()]


def neighbours() -> list[bytes]:
    """Ten bodies, of which two share a folder."""
    folders: dict[str, bytes] = {}
    for number in range(1000):
        data = b"%d" % number
        digest = Digest.of(data)
        if digest.folder in folders:
            others: Iterable[bytes] = [other for other in folders.values() if other != folders[digest.folder]]
            return [folders[digest.folder], data, *list(others)[:8]]
        folders[digest.folder] = data
    raise AssertionError("a thousand digests in a thousand folders")


class StoreContract(ABC):
    """A new store joins by a fixture and by saying how one of its blobs would rot."""

    @pytest.fixture
    def spool(self, disk: Disk, tmp_path: Path) -> Spool:
        """Where uploads to this store come from."""
        (tmp_path / "uploads").mkdir()
        return Spool(disk, tmp_path / "uploads", keep_free=0, largest=None)

    @abstractmethod
    def spoil(self, store: Store, digest: Digest) -> None:
        """Let a blob in this store become another."""

    @pytest.mark.parametrize("size", [0, 1, 4, PIECE - 1, PIECE, PIECE + 1, len(BROTH)])
    async def test_what_went_in_comes_out(self, store: Store, size: int) -> None:
        """
        A blob that was put is here and is opened with the same bytes, whatever its size.
        """
        data = BROTH[:size]
        blob = blob_of(data)

        await store.put(blob, source(data))

        assert await store.has(blob.digest)
        assert data == await read(store.open(blob.digest))
        assert [blob] == await walked(store)

    @pytest.mark.parametrize("piece", [1000, PIECE - 1, 10 * PIECE])
    async def test_pieces_of_any_size(self, store: Store, piece: int) -> None:
        """
        In which pieces bytes come makes no difference.
        """
        blob = blob_of(BROTH)

        await store.put(blob, source(BROTH, piece))

        assert BROTH == await read(store.open(blob.digest))

    async def test_not_here(self, store: Store) -> None:
        """
        Opening what is not here is BlobUnknown, never an empty body.
        """
        assert not await store.has(TURNIP)
        with pytest.raises(BlobUnknown) as caught:
            await read(store.open(TURNIP))
        with pytest.raises(BlobUnknown):
            await read(store.open(TURNIP, Span(0, 0)))

        assert TURNIP == caught.value.digest

    @pytest.mark.parametrize(
        ("first", "last"),
        [
            (0, 0),
            (0, 9),
            (5, 5),
            (0, len(BROTH) - 1),
            (len(BROTH) - 1, len(BROTH) - 1),
            (PIECE - 1, PIECE),
            (PIECE, PIECE),
            (PIECE, 2 * PIECE - 1),
            (PIECE - 1, 2 * PIECE),
            (1, len(BROTH) - 2),
        ],
    )
    async def test_span(self, store: Store, first: int, last: int) -> None:
        """
        A span is exactly its bytes, both ends included, wherever pieces begin.
        """
        blob = blob_of(BROTH)
        await store.put(blob, source(BROTH))

        assert BROTH[first : last + 1] == await read(store.open(blob.digest, Span(first, last)))

    async def test_put_twice(self, store: Store) -> None:
        """
        Keeping it twice is no error, and makes no second one.
        """
        leek = blob_of(b"leek")
        await store.put(leek, source(b"leek"))

        await store.put(leek, source(b"leek"))

        assert [leek] == await walked(store)

    async def test_put_repairs(self, store: Store) -> None:
        """
        Bytes that hash right replace what lies there: a second upload is a repair.
        """
        leek = blob_of(b"leek")
        await store.put(leek, source(b"leek"))
        self.spoil(store, leek.digest)
        assert b"leek" != await read(store.open(leek.digest))

        await store.put(leek, source(b"leek"))

        assert b"leek" == await read(store.open(leek.digest))

    async def test_dropped_twice(self, store: Store) -> None:
        """
        Forgetting is not an error, however often, and touches nothing else.
        """
        leek, kale = blob_of(b"leek"), blob_of(b"kale")
        await store.put(leek, source(b"leek"))
        await store.put(kale, source(b"kale"))

        await store.drop(leek.digest)
        await store.drop(leek.digest)
        await store.drop(TURNIP)

        assert not await store.has(leek.digest)
        with pytest.raises(BlobUnknown):
            await read(store.open(leek.digest))
        assert [kale] == await walked(store)

    async def test_dropped_and_put_again(self, store: Store) -> None:
        """
        What was forgotten can come back.
        """
        leek = blob_of(b"leek")
        await store.put(leek, source(b"leek"))
        await store.drop(leek.digest)

        await store.put(leek, source(b"leek"))

        assert b"leek" == await read(store.open(leek.digest))

    async def test_dropped_while_read(self, store: Store) -> None:
        """
        A reader who has begun gets all of it, whatever happens to the name meanwhile.
        """
        blob = blob_of(BROTH)
        await store.put(blob, source(BROTH))
        pieces = store.open(blob.digest)
        first = await anext(pieces)

        await store.drop(blob.digest)

        assert BROTH == first + await read(pieces)

    async def test_walk(self, store: Store) -> None:
        """
        A walk tells every blob with its size, in the order of digests, also where two share a folder.
        """
        bodies = neighbours()
        for data in bodies:
            await store.put(blob_of(data), source(data))

        assert sorted(map(blob_of, bodies), key=lambda blob: blob.digest) == await walked(store)

    async def test_walk_through_nothing(self, store: Store) -> None:
        """
        An empty store has no blobs, and that is no error.
        """
        assert [] == await walked(store)

    @pytest.mark.parametrize("given", [b"kale", b"", b"lee", b"leeks", b"leek" * 100_000])
    async def test_other_bytes(self, store: Store, given: bytes) -> None:
        """
        A source that gives other bytes than the name says is refused, and nothing of it is kept.
        """
        leek = blob_of(b"leek")

        with pytest.raises(DigestMismatch):
            await store.put(leek, source(given))

        assert not await store.has(leek.digest)
        assert [] == await walked(store)

    async def test_another_size(self, store: Store) -> None:
        """
        The size is part of what a blob is: right bytes under a wrong size are refused.
        """
        with pytest.raises(DigestMismatch):
            await store.put(Blob(Digest.of(b"leek"), 5), source(b"leek"))

        assert [] == await walked(store)

    async def test_the_source_breaks_off(self, store: Store) -> None:
        """
        A blob is kept whole or not at all.
        """
        with pytest.raises(StoreDown):
            await store.put(blob_of(BROTH), breaking(BROTH[: PIECE + 5]))

        assert [] == await walked(store)

    async def test_a_failed_put_leaves_what_was_here(self, store: Store) -> None:
        """
        A put that fails does no harm to the blob that lies there.
        """
        leek = blob_of(b"leek")
        await store.put(leek, source(b"leek"))

        with pytest.raises(StoreDown):
            await store.put(leek, breaking(b"le"))
        with pytest.raises(DigestMismatch):
            await store.put(leek, source(b"kale"))

        assert b"leek" == await read(store.open(leek.digest))

    async def test_the_same_blob_at_once(self, store: Store) -> None:
        """
        Many may put the same blob at once: all succeed, and it is here once and whole.
        """
        blob = blob_of(BROTH)

        await asyncio.gather(*(store.put(blob, source(BROTH, 50_000)) for _ in range(12)))

        assert BROTH == await read(store.open(blob.digest))
        assert [blob] == await walked(store)

    async def test_read_while_it_is_put(self, store: Store) -> None:
        """
        Whoever reads while the same blob is put again sees the whole blob, never a part of it.
        """
        blob = blob_of(BROTH)
        await store.put(blob, source(BROTH))

        puts = asyncio.gather(*(store.put(blob, source(BROTH)) for _ in range(5)))
        reads = [await read(store.open(blob.digest)) for _ in range(10)]
        await puts

        assert [BROTH] * 10 == reads

    async def test_from_the_spool(self, store: Store, spool: Spool) -> None:
        """
        An upload is put from the spool, into this store and, if need be, into the next: nothing is used up.
        """
        async with spool.receive(body(BROTH)) as upload:
            await store.put(upload.blob, upload)
            await store.put(upload.blob, upload)
            await store.drop(upload.blob.digest)
            await store.put(upload.blob, upload)

            assert BROTH == await read(upload())
        assert BROTH == await read(store.open(Digest.of(BROTH)))

    async def test_the_spool_repairs(self, store: Store, spool: Spool) -> None:
        """
        An upload replaces what lies there wrong.
        """
        leek = blob_of(b"leek")
        await store.put(leek, source(b"leek"))
        self.spoil(store, leek.digest)

        async with spool.receive(body(b"leek")) as upload:
            await store.put(leek, upload)

        assert b"leek" == await read(store.open(leek.digest))

    async def test_another_upload(self, store: Store, spool: Spool) -> None:
        """
        An upload is not put under the name of another.
        """
        async with spool.receive(body(b"kale")) as upload:
            with pytest.raises(DigestMismatch):
                await store.put(blob_of(b"leek"), upload)

        assert [] == await walked(store)
