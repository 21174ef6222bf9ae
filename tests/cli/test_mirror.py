"""`soup mirror`: at the machine, and heard of by whoever runs."""

import re
import tomllib

import httpx
import pytest
from click.testing import CliRunner

from soup.cli.root import soup as command
from tests.beside import beside, rows
from tests.command import refusal, soup
from tests.conftest import Server, Servers, bearer
from tests.wire import until

HEAD = ["id", "address", "status", "online", "chosen", "synced to", "today", "joined"]


def added(server: Server, *arguments: str) -> tuple[int, str]:
    """The id and the token of a new mirror."""
    ended = beside(server, "mirror", "add", *arguments)
    assert (0, "") == (ended.returncode, ended.stderr), ended
    id, token = ended.stdout.split()
    return int(id), token


def row(server: Server, id: int) -> list[str]:
    """What is listed of a mirror."""
    table = rows(beside(server, "mirror", "ls"))
    assert HEAD == table[0]
    return next(row for row in table[1:] if row[0] == str(id))


def report(server: Server, id: int, token: str, **says: object) -> int:
    url = f"{server.url}/api/cdn/{id}"
    return httpx.patch(url, json={"status": 1, **says}, headers=bearer(token), timeout=5).status_code


def done(server: Server, verb: str, id: int) -> str:
    ended = beside(server, "mirror", verb, str(id))
    assert (0, "") == (ended.returncode, ended.stderr), ended
    return ended.stdout.strip()


def places(server: Server, digest: str) -> set[str]:
    """Where requests on connections of their own are sent, or their status."""
    answers = [httpx.get(f"{server.url}/{digest}", timeout=5) for _ in range(8)]
    return {answer.headers.get("location", str(answer.status_code)) for answer in answers}


def test_a_mirror_from_beginning_to_end(serve: Servers) -> None:
    """
    It is added, reports with its token, is drained, chosen again, and removed; each is heard of at once.
    """
    server = serve()
    digest = server.keep(b"leek")
    id, token = added(server, "a.example", "--scheme", "http", "--port", "8000", "--weight", "3")
    there = f"http://a.example:8000/{digest}"

    assert re.fullmatch(r"soup_[\w-]{43}", token)
    assert [
        str(id),
        "http://a.example:8000",
        "-",
        "no",
        "no: it has never reported",
        "-",
        "0 B",
        "no",
    ] == row(server, id)
    told = {"boot_id": "a", "totals": {"bytes": 3 << 20, "requests": 7}}
    assert 200 == report(server, id, token, **told, epoch="x", synced_to=0)
    assert 200 == report(server, id, token)
    until(lambda: {there} == places(server, digest))
    assert [str(id), "http://a.example:8000", "ok", "yes", "yes", "-", "3 MiB", "no"] == row(server, id)

    assert f"mirror {id} is drained" == done(server, "drain", id)
    until(lambda: {"200"} == places(server, digest))
    assert "no: an administrator has drained it" == row(server, id)[4]
    assert f"mirror {id} is drained no more" == done(server, "undrain", id)
    until(lambda: {there} == places(server, digest))

    assert f"mirror {id} is removed" == done(server, "rm", id)
    until(lambda: {"200"} == places(server, digest))
    assert [HEAD] == rows(beside(server, "mirror", "ls"))
    assert report(server, id, token) in {401, 404}


def test_a_new_token_for_a_mirror(server: Server) -> None:
    """
    Both work until the new one is used, and from then on the new one alone.
    """
    id, old = added(server, "b.example")

    new = done(server, "token", id)

    assert [200, 200] == [report(server, id, old), report(server, id, new)]
    until(lambda: 401 == report(server, id, old))
    assert 200 == report(server, id, new)


def test_what_was_not_said(server: Server) -> None:
    """
    A mirror speaks HTTPS on its usual port and is full, where nothing else is said.
    """
    id, _ = added(server, "c.example")
    seen = server.client.get(f"/api/cdn/{id}", headers=server.admin).json()

    assert ["https", 443, "full", 1] == [seen[name] for name in ("scheme", "port", "mode", "weight")]


def test_what_an_agent_needs(server: Server) -> None:
    """
    With the URL of soup what is printed is the agent's file of settings.
    """
    cores = ["https://one.example", "https://two.example"]
    ended = beside(server, "mirror", "add", "f.example", "--core", cores[0], "--core", cores[1])

    settings = tomllib.loads(ended.stdout)
    assert {"core", "id", "token"} == settings.keys()
    assert cores == settings["core"]
    assert 200 == report(server, settings["id"], settings["token"])


def test_an_address_that_is_taken(server: Server) -> None:
    """
    It is said in one line, with exit status 1; so is an address that none can be, and an id that nobody has.
    """
    added(server, "d.example")

    assert "there is a mirror at d.example port 443 already" == refusal(
        beside(server, "mirror", "add", "d.example")
    )
    assert refusal(beside(server, "mirror", "add", "https://e.example")).startswith("not a host name")
    for verb in ("drain", "undrain", "rm", "token"):
        assert "no mirror 4711" == refusal(beside(server, "mirror", verb, "4711"))


@pytest.mark.parametrize(
    "arguments",
    [
        ("add",),
        ("add", "a.example", "--scheme", "ftp"),
        ("add", "a.example", "--port", "0"),
        ("add", "a.example", "--weight", "0"),
        ("rm", "leek"),
        ("drain", "0"),
        ("token",),
    ],
)
def test_what_cannot_be_meant(arguments: tuple[str, ...]) -> None:
    """
    Exit status 2, and nothing on standard output.
    """
    ended = CliRunner().invoke(command, ["mirror", *arguments])

    assert (2, "") == (ended.exit_code, ended.stdout)


@pytest.mark.sqlite
def test_where_no_soup_has_run(tmp_path) -> None:
    """
    That is said, whether there are tables or not.
    """
    nothing = soup("mirror", "ls", cwd=tmp_path, SOUP_DATA="data")
    assert refusal(nothing).startswith("no soup has run here yet")
    (tmp_path / "data").mkdir()
    assert 0 == soup("migrate", cwd=tmp_path, SOUP_DATA="data").returncode

    assert "no soup has run on this database yet" == refusal(
        soup("mirror", "add", "a.example", cwd=tmp_path, SOUP_DATA="data")
    )
