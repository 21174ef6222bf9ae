"""`soup feed`: another history."""

import shutil

import httpx
import pytest

from tests.command import Ended, refusal, soup
from tests.conftest import Server
from tests.databases import KIND
from tests.wire import until


def renew(server: Server) -> Ended:
    """With the settings that this server has."""
    more = {"SOUP_DATABASE": url} if (url := KIND.url(server.data)) else {}
    return soup("feed", "renew", cwd=server.data.parent, SOUP_DATA=str(server.data), **more)


def changes(server: Server, **query: object) -> dict[str, object]:
    answer = httpx.get(f"{server.url}/api/blob:changes", params=query, headers=server.admin, timeout=30)
    assert 200 == answer.status_code, answer.text
    return dict(answer.json())


def test_every_reader_begins_anew(serve) -> None:
    """
    A cursor of the history before counts as 0, in every worker within a second, for those who wait as well.
    """
    server = serve()
    for body in (b"carrots", b"leek"):
        server.keep(body)
    before = changes(server)
    assert [] == changes(server, after=2, epoch=before["epoch"])["changes"]

    ended = renew(server)

    assert 0 == ended.returncode, ended.stderr
    epoch = ended.stdout.strip()
    assert 16 == len(epoch)
    again = changes(server, after=2, epoch=before["epoch"], wait=5)
    assert (epoch, 2, 2) == (again["epoch"], len(again["changes"]), again["head"])
    until(lambda: {httpx.get(f"{server.url}/readyz").status_code for _ in range(8)} == {200})


@pytest.mark.sqlite
def test_a_backup_that_was_restored(serve, tmp_path) -> None:
    """
    Numbers of changes that were lost are given again to others: with the new epoch a reader misses none.
    """
    server = serve(server__workers=1)
    server.keep(b"carrots")
    server.stop()
    assert not (server.data / "soup.db-wal").exists()
    backup = tmp_path / "backup.db"
    shutil.copy(server.data / "soup.db", backup)
    server = serve(data=server.data, server__workers=1)
    for body in (b"leek", b"barley"):
        server.keep(body)
    seen = changes(server)
    assert 3 == seen["next"]
    server.stop()
    for left in server.data.glob("soup.db*"):
        left.unlink()
    shutil.copy(backup, server.data / "soup.db")

    assert 0 == renew(server).returncode
    server = serve(data=server.data, server__workers=1)
    others = {server.keep(body) for body in (b"onion", b"thyme")}

    found = changes(server, after=seen["next"], epoch=seen["epoch"])
    assert seen["epoch"] != found["epoch"]
    assert others < {change["digest"] for change in found["changes"]}


def test_where_no_soup_has_run(tmp_path) -> None:
    """
    There is nothing to renew, and nothing is made.
    """
    assert refusal(soup("feed", "renew", cwd=tmp_path)).startswith("no soup has run here yet")
    assert [] == list(tmp_path.iterdir())
