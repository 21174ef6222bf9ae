"""`soup token`: at the machine, and heard of by whoever runs."""

import re
import time
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from soup.cli.root import soup as command
from tests.beside import beside, rows
from tests.command import refusal, soup
from tests.conftest import Server, Servers, bearer
from tests.wire import until

SECOND = 1.5  # and what a busy machine adds to it


def made(server: Server, *arguments: str) -> str:
    ended = beside(server, "token", "new", *arguments)
    assert (0, "") == (ended.returncode, ended.stderr), ended
    return ended.stdout.strip()


def newest(server: Server) -> list[str]:
    """The row of the token that was made last."""
    return rows(beside(server, "token", "ls"))[-1]


def statuses(server: Server, token: str) -> set[int]:
    """What a token is answered on connections of their own, so that each worker is asked."""
    return {
        httpx.get(f"{server.url}/api/blob:list", headers=bearer(token), timeout=5).status_code
        for _ in range(8)
    }


def test_a_new_token(server: Server) -> None:
    """
    It is all that is printed, and a running soup knows it at once.
    """
    token = made(server, "read")

    assert re.fullmatch(r"soup_[\w-]{43}", token)
    assert {200} == statuses(server, token)


def test_a_token_is_of_its_kind(server: Server) -> None:
    """
    What a token may do is what was asked for, and no more.
    """
    token = made(server, "write")

    assert {403} == statuses(server, token)
    answer = httpx.post(f"{server.url}/api/blob", content=b"chive", headers=bearer(token))
    assert 201 == answer.status_code
    assert "write" == newest(server)[1]


def test_a_token_that_is_revoked(serve: Servers) -> None:
    """
    It stops within a second in each worker, though all have known it since they started.
    """
    first = serve()
    token, id = made(first, "read"), newest(first)[0]
    first.stop()
    server = serve(data=first.data)
    assert {200} == statuses(server, token)

    ended = beside(server, "token", "revoke", id)

    assert (0, f"token {id} is revoked\n") == (ended.returncode, ended.stdout)
    assert SECOND > until(lambda: {401} == statuses(server, token))
    assert {401} == statuses(server, token)
    assert id not in [row[0] for row in rows(beside(server, "token", "ls"))]


def test_a_token_with_an_end(server: Server) -> None:
    """
    It works for as long as was said, and is listed for as long.
    """
    lasting = 8  # seconds: a command takes two of them on a busy machine
    token = made(server, "read", "--days", str(lasting / 86_400))
    began, id = time.monotonic(), newest(server)[0]
    listed = newest(server)

    assert {200} == statuses(server, token)
    assert "Z" == listed[4][-1]
    until(lambda: {401} == statuses(server, token))
    assert lasting + SECOND > time.monotonic() - began
    assert id not in [row[0] for row in rows(beside(server, "token", "ls"))]


def test_a_token_without_an_end(server: Server) -> None:
    """
    Said nothing, it works until it is revoked.
    """
    made(server, "join")

    assert ["join", "-", "never", "never"] == [*newest(server)[1:3], *newest(server)[4:]]


def test_the_list_keeps_secrets(server: Server) -> None:
    """
    A token is shown when it is made and never again, its hash not at all.
    """
    mirror = server.mirror("leek.example")
    made_now = [made(server, kind) for kind in ("admin", "write", "read", "join")]

    listed = beside(server, "token", "ls")

    assert ["id", "kind", "mirror", "created", "expires", "last used"] == rows(listed)[0]
    assert {"admin", "write", "read", "join", "mirror"} <= {row[1] for row in rows(listed)[1:]}
    assert "soup_" not in listed.stdout
    for token in (*made_now, mirror["token"], server.token):
        assert token.removeprefix("soup_")[:12] not in listed.stdout
    assert not re.search("[0-9a-f]{16}", listed.stdout)


def test_a_token_of_a_mirror(server: Server) -> None:
    """
    It reports for its mirror, and is listed with it.
    """
    mirror = server.mirror("chard.example")
    token = made(server, "mirror", "--mirror", str(mirror["id"]))

    answer = httpx.patch(f"{server.url}/api/cdn/{mirror['id']}?status=1", headers=bearer(token))

    assert 200 == answer.status_code
    assert ["mirror", str(mirror["id"])] == newest(server)[1:3]


def test_a_mirror_that_is_not_there(server: Server) -> None:
    """
    No token is made for it, and the line says which one it is.
    """
    before = rows(beside(server, "token", "ls"))

    ended = beside(server, "token", "new", "mirror", "--mirror", "4711")

    assert "no mirror 4711" == refusal(ended)
    assert before == rows(beside(server, "token", "ls"))


@pytest.mark.parametrize(
    "arguments",
    [
        ("new", "mirror"),
        ("new", "read", "--mirror", "1"),
        ("new", "mirror", "--mirror", "x"),
        ("new", "mirror", "--mirror", str(2**70)),
        ("new", "cook"),
        ("new", "read", "--days", "0"),
        ("new", "read", "--days", "nan"),
        ("new", "read", "--days", "1e9"),
        ("revoke", "leek"),
        ("revoke", "0"),
        ("revoke", str(2**70)),
        ("revoke",),
    ],
)
def test_what_cannot_be_meant(arguments: tuple[str, ...]) -> None:
    """
    Exit status 2, what is wrong on standard error, and nothing on standard output.
    """
    ended = CliRunner().invoke(command, ["token", *arguments])

    assert (2, "") == (ended.exit_code, ended.stdout)
    assert "Error" in ended.stderr


def test_an_id_that_nobody_has(server: Server) -> None:
    """
    Revoking what is not there is said, with exit status 1.
    """
    assert "no token 4711" == refusal(beside(server, "token", "revoke", "4711"))


@pytest.mark.sqlite
@pytest.mark.parametrize("arguments", [("ls",), ("new", "read"), ("revoke", "1")])
def test_where_no_soup_has_run(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """
    That is said, and no database is made, though there is a folder for it.
    """
    (tmp_path / "soup-data").mkdir()

    ended = soup("token", *arguments, cwd=tmp_path)

    assert refusal(ended).startswith("no soup has run here yet")
    assert [] == list((tmp_path / "soup-data").iterdir())


@pytest.mark.sqlite
def test_a_database_without_tables(tmp_path: Path) -> None:
    """
    No soup has run on it, and that is said, not what the database makes of it.
    """
    (tmp_path / "soup-data").mkdir()
    (tmp_path / "soup-data/soup.db").touch()

    assert refusal(soup("token", "ls", cwd=tmp_path)).startswith("no soup has run here yet")
