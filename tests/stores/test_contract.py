"""Every store passes the contract."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from soup.core.digest import Digest
from soup.stores.base import OnDisk, Store, Wrapper
from soup.stores.disk import Disk
from soup.stores.local import SPOOL, LocalStore
from soup.stores.memory import MemoryStore
from soup.stores.spool import Spool
from tests.contract import StoreContract
from tests.folders import handles

MEMORY = Path("/dev/shm")  # noqa: S108 - on Linux always a file system of its own


def local(disk: Disk, folder: Path) -> Iterator[LocalStore]:
    """A LocalStore that must leave nothing beside its blobs."""
    (folder / SPOOL).mkdir(parents=True)
    before = handles()
    yield LocalStore(disk, folder)
    assert [] == list((folder / SPOOL).iterdir()), "something is left in the spool"
    assert before == handles(), "a file is still open"


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> Store:
        return MemoryStore()

    def spoil(self, store: Store, digest: Digest) -> None:
        assert isinstance(store, MemoryStore)
        store.kept[digest] = b"rot"


class TestLocalStore(StoreContract):
    @pytest.fixture
    def store(self, disk: Disk, tmp_path: Path) -> Iterator[Store]:
        yield from local(disk, tmp_path / "blobs")

    def spoil(self, store: Store, digest: Digest) -> None:
        assert isinstance(store, LocalStore)
        store.path(digest).write_bytes(b"rot")


class TestLocalStoreWithItsOwnSpool(TestLocalStore):
    """As soup runs: uploads lie in the store's own folder."""

    @pytest.fixture
    def spool(self, store: Store, disk: Disk, tmp_path: Path) -> Spool:
        assert store
        return Spool(disk, tmp_path / "blobs" / SPOOL, keep_free=0, largest=None)


@pytest.mark.usefixtures("only_named_files")
class TestLocalStoreWithNamedFiles(TestLocalStoreWithItsOwnSpool):
    """On a file system that has no unnamed files, such as NFS."""


class TestLocalStoreAcrossFileSystems(TestLocalStore):
    """Uploads lie on another file system than the store: nothing can be linked or renamed."""

    @pytest.fixture
    def spool(self, disk: Disk, tmp_path: Path) -> Iterator[Spool]:
        folder = Path(tempfile.mkdtemp(dir=MEMORY, prefix="soup-spool-"))
        assert folder.stat().st_dev != tmp_path.stat().st_dev
        yield Spool(disk, folder, keep_free=0, largest=None)
        left = list(folder.iterdir())
        shutil.rmtree(folder)
        assert [] == left, "something is left in the spool"


@pytest.mark.usefixtures("only_named_files")
class TestLocalStoreAcrossFileSystemsWithNamedFiles(TestLocalStoreAcrossFileSystems):
    """Both at once."""


class TestWrappedMemoryStore(TestMemoryStore):
    @pytest.fixture
    def store(self) -> Store:
        return Wrapper(MemoryStore())

    def spoil(self, store: Store, digest: Digest) -> None:
        assert isinstance(store, Wrapper)
        super().spoil(store.inner, digest)


class TestWrappedLocalStore(TestLocalStore):
    @pytest.fixture
    def store(self, disk: Disk, tmp_path: Path) -> Iterator[Store]:
        for inner in local(disk, tmp_path / "blobs"):
            yield Wrapper(inner)

    def spoil(self, store: Store, digest: Digest) -> None:
        assert isinstance(store, Wrapper)
        super().spoil(store.inner, digest)


def test_no_power_leaks_through_a_wrapper(disk: Disk, tmp_path: Path) -> None:
    """
    A wrapper has the five verbs alone: a web server may not go around it to the file.
    """
    inner = LocalStore(disk, tmp_path)

    assert isinstance(inner, OnDisk)
    assert not isinstance(Wrapper(inner), OnDisk)
    assert not isinstance(MemoryStore(), OnDisk)
    assert not hasattr(Wrapper(inner), "path")
