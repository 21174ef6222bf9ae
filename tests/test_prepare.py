"""The first start, the next one, and the starts that must not be."""

import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from soup.core.errors import Refused, WrongStore
from soup.prepare import prepare
from soup.settings import Settings, Store
from tests.command import Ended, refusal, soup
from tests.conftest import bearer, program
from tests.databases import free_port


@pytest.fixture
def settings(tmp_path):
    return Settings(data=tmp_path / "data")


@pytest.fixture
def prepared(settings) -> Path:
    """A data folder that was started once."""
    prepare(settings)
    return settings.data


def started(data: Path, **given) -> Ended:
    """`soup serve` on this folder, where it is certain to be refused."""
    return soup("serve", cwd=data.parent, SOUP_DATA=str(data), SOUP_SERVER__PORT=str(free_port()), **given)


def refused(settings: Settings) -> str:
    """What preparing says, where it is refused."""
    with pytest.raises(Refused) as raised:
        prepare(settings)
    return str(raised.value)


def listed(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_the_first_start(settings) -> None:
    """
    It makes a database, a store that knows who it is, and a token only its owner may read.
    """
    first = prepare(settings)

    assert (settings.data / "admin-token", True) == (first.token, first.new)
    assert 0o600 == first.token.stat().st_mode & 0o7777
    store = json.loads((settings.data / "blobs/soup-store.json").read_text())
    assert {"uuid", "layout"} == set(store)
    names = {"admin-token", "soup.db", "soup.db.lock", "blobs", "blobs/.spool", "blobs/soup-store.json"}
    assert names == listed(settings.data)


def test_the_token_is_not_in_the_database(prepared) -> None:
    """
    What is kept of a token is its hash: whoever reads the database has no token.
    """
    token = (prepared / "admin-token").read_bytes().strip()

    assert 40 < len(token)
    assert token not in b"".join(file.read_bytes() for file in prepared.glob("soup.db*"))


def test_a_loose_umask(tmp_path) -> None:
    """
    The token's file is its owner's alone, whatever the umask.
    """
    before = os.umask(0)
    try:
        prepare(Settings(data=tmp_path / "data"))
    finally:
        os.umask(before)

    assert 0o600 == (tmp_path / "data/admin-token").stat().st_mode & 0o7777


def test_the_second_start(settings, prepared) -> None:
    """
    It keeps token, store and everything else.
    """
    token, store = (prepared / "admin-token").read_text(), (prepared / "blobs/soup-store.json").read_text()

    second = prepare(settings)

    assert not second.new
    assert token == (prepared / "admin-token").read_text()
    assert store == (prepared / "blobs/soup-store.json").read_text()


def test_a_token_that_was_put_away(settings, prepared) -> None:
    """
    Its file is named no more, and no other is made.
    """
    (prepared / "admin-token").unlink()

    second = prepare(settings)

    assert (None, False) == (second.token, second.new)
    assert not (prepared / "admin-token").exists()


def test_the_token_works_after_the_second_start(serve) -> None:
    """
    Real processes: the token of the first start is good after the second, which takes less than five seconds.
    """
    first = serve()
    token = first.token
    digest = first.keep(b"stock")
    first.stop()
    began = time.monotonic()

    second = serve(data=first.data)

    assert 5 > time.monotonic() - began
    assert "(as before)" in second.log.read_text()
    assert 200 == httpx.get(f"{second.url}/api/blob/{digest}", headers=bearer(token)).status_code


def test_two_first_starts_at_once(tmp_path) -> None:
    """
    One makes the token and the store, the other finds them.
    """
    code = f"from soup.prepare import *; print(prepare(Settings(data={str(tmp_path / 'data')!r})).new)"
    both = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]

    said = sorted(one.communicate(timeout=30)[0].strip() for one in both)

    assert ["False", "True"] == said


@pytest.mark.parametrize("place", ["data", "data/blobs", "data/admin-token.new", "data/soup.db"])
def test_something_else_is_in_the_way(tmp_path, place) -> None:
    """
    A file where a folder is wanted, or a folder where a file is: one line that names it.
    """
    there = tmp_path / place
    if place in {"data", "data/blobs"}:
        there.parent.mkdir(exist_ok=True)
        there.write_text("not soup's")
    else:
        there.mkdir(parents=True)

    assert place in refused(Settings(data=tmp_path / "data"))


def test_a_folder_that_cannot_be_made(tmp_path) -> None:
    """
    Where nobody, root included, can make a folder.
    """
    ended = soup("serve", cwd=tmp_path, SOUP_DATA="/proc/soup", SOUP_SERVER__PORT=str(free_port()))

    assert "cannot make the folder /proc/soup: No such file or directory" == refusal(ended)


def test_a_read_only_folder_at_the_first_start(tmp_path) -> None:
    """
    A data folder that may not be written to is refused by name.
    """
    (tmp_path / "data").mkdir(mode=0o500)

    said = refusal(started(tmp_path / "data", bound=True))

    assert f"cannot make the folder {tmp_path}/data/blobs: Permission denied" == said


@pytest.mark.parametrize("folder", ["data", "data/blobs/.spool"])
def test_a_read_only_folder_later(prepared, folder) -> None:
    """
    A folder that has become read-only since, the database's or the store's.
    """
    (prepared.parent / folder).chmod(0o500)

    said = refusal(started(prepared, bound=True))

    assert str(prepared) in said
    assert "ermission denied" in said or "readonly" in said


@pytest.mark.parametrize("kibibytes", [8, 90])
def test_a_full_disk(tmp_path, kibibytes) -> None:
    """
    However much still fits, one line says that it does not: a limit of file sizes binds root as well.
    """
    command = [sys.executable, "-m", "soup", "serve"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SOUP_")}
    given = {"SOUP_DATA": str(tmp_path / "data"), "SOUP_SERVER__PORT": str(free_port())}

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (kibibytes * 1024, kibibytes * 1024))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    ended = subprocess.run(
        command,
        env=clean | given | {"TMPDIR": str(tmp_path)},
        preexec_fn=limit,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert "cannot" in refusal(ended)


def test_another_stores_folder(tmp_path, prepared) -> None:
    """
    The database says which store it belongs to; a folder of another one is refused with both ids.
    """
    prepare(Settings(data=tmp_path / "other"))
    ours = json.loads((prepared / "blobs/soup-store.json").read_text())["uuid"]
    other = json.loads((tmp_path / "other/blobs/soup-store.json").read_text())["uuid"]

    said = refused(Settings(data=prepared, store=Store(folder=tmp_path / "other/blobs")))

    assert f"the database belongs to store {ours}, but {tmp_path}/other/blobs is store {other}." in said
    assert "store.folder" in said


def test_an_unmounted_store(settings, prepared) -> None:
    """
    An empty folder where the store was is not a new store: somebody forgot to mount it. It stays empty.
    """
    shutil.rmtree(prepared / "blobs")
    (prepared / "blobs").mkdir()

    said = refused(settings)

    assert f"{prepared}/blobs has no store in it" in said
    assert set() == listed(prepared / "blobs")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "cannot be read"),
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"uuid": "leek", "layout": 1}', "cannot be read"),
        ('{"uuid": "5ad39c5c-1c67-4f1b-8b9b-2a1fe8b0a2aa", "layout": 2}', "layout 2"),
    ],
)
def test_a_store_that_cannot_be_known(settings, prepared, text, word) -> None:
    """
    An identity that is damaged, or of a later layout, is refused and left as it is.
    """
    file = prepared / "blobs/soup-store.json"
    file.write_text(text)

    with pytest.raises(WrongStore, match=word):
        prepare(settings)

    assert text == file.read_text()


def test_a_database_of_a_newer_release(prepared) -> None:
    """
    A revision this release does not know: nothing is touched, and it says which soup to run.
    """
    with sqlite3.connect(prepared / "soup.db") as database:
        database.execute("update alembic_version set version_num = '9999'")
    database.close()

    said = refusal(started(prepared))

    assert "the database is at revision 9999, which this release does not know. Run the newer soup" == said


def test_a_database_that_is_damaged(settings, prepared) -> None:
    """
    A file that is no database: one line with what to do, and the file is left as it is.
    """
    (prepared / "soup.db").write_bytes(b"minestrone" * 1000)
    for left in prepared.glob("soup.db-*"):
        left.unlink()

    said = refused(settings)

    assert f"the database {prepared}/soup.db cannot be opened: file is not a database" in said
    assert "estore it from a backup" in said
    assert b"minestrone" * 1000 == (prepared / "soup.db").read_bytes()


def test_a_database_that_is_locked(prepared) -> None:
    """
    A database that another program holds for longer than soup waits: one line, no trace.
    """
    database = sqlite3.connect(prepared / "soup.db", isolation_level=None)
    database.execute("begin immediate")
    try:
        said = refusal(started(prepared))
    finally:
        database.close()

    assert "database is locked" in said


def test_nothing_is_left_when_soup_is_refused(prepared) -> None:
    """
    A start that is refused takes its temporary folder with it.
    """
    room = prepared.parent / "tmp"
    room.mkdir()
    (prepared / "blobs/soup-store.json").unlink()

    refusal(started(prepared, TMPDIR=str(room)))

    assert [] == list(room.iterdir())


def test_leftovers_of_a_crash_are_swept(settings, prepared) -> None:
    """
    Spool files that no process holds are removed at the next start; one that is being written stays.
    """
    dead, alive = prepared / "blobs/.spool/dead", prepared / "blobs/.spool/alive"
    for file in (dead, alive):
        file.write_bytes(b"half a blob")

    with subprocess.Popen([program("flock"), str(alive), "cat"], stdin=subprocess.PIPE) as holder:
        while str(alive.stat().st_ino) not in Path("/proc/locks").read_text():
            assert holder.poll() is None
        prepare(settings)
        assert holder.stdin
        holder.stdin.close()

    assert (False, True) == (dead.exists(), alive.exists())
