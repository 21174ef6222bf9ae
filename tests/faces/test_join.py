"""Mirrors that join by themselves: who may, what is asked, and where they may be."""

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from soup.access.model import Kind
from soup.core import names
from soup.mirrors import joins
from soup.settings import Settings
from tests.conftest import Cook, Kitchen, bearer
from tests.databases import KIND
from tests.faces.joining import SECRET, adopt, count, join, joined, reports

pytestmark = pytest.mark.usefixtures("asked")


@pytest.fixture
async def kitchen(joinable: Kitchen) -> Kitchen:
    """Mirrors may join it."""
    return joinable


@pytest.mark.row("S33")
async def test_a_mirror_that_joins(kitchen: Kitchen) -> None:
    """
    It is a mirror like others, with an id and a token, not trusted, and not chosen yet.
    """
    before = count("new")
    with capture_logs() as logs:
        answer = await join(kitchen, "A.example", scheme="http", port=8000, mode="pull")
    mirror = answer.json()

    assert (201, f"/api/cdn/{mirror['id']}") == (answer.status_code, answer.headers["location"])
    expected = {
        "id": 1, "fqdn": "a.example", "scheme": "http", "port": 8000, "mode": "pull",
        "weight": 1, "trusted": False, "drained": False, "joined": True, "audited_at": None,
        "why": "it has never reported",
    }  # fmt: skip
    assert expected == {key: mirror[key] for key in expected}
    assert [("mirror.joined", 1, "a.example", True)] == [
        (log["event"], log["id"], log["fqdn"], log["new"]) for log in logs if "mirror" in log["event"]
    ]
    assert before + 1 == count("new")
    digest = await kitchen.keep(b"leek")
    assert 200 == await reports(kitchen, 1, mirror["token"])
    assert (
        "it joined by itself and has not passed an audit yet" == (await kitchen.listed())["a.example"]["why"]
    )
    assert 200 == (await kitchen.anyone.get(f"/{digest}")).status_code


async def test_what_is_not_said(kitchen: Kitchen) -> None:
    """
    It speaks HTTPS on its usual port and is full; one that an administrator adds has not joined.
    """
    mirror = await joined(kitchen)
    await kitchen.mirror("c.example")

    assert ("https", 443, "full") == (mirror["scheme"], mirror["port"], mirror["mode"])
    assert [True, False] == [(await kitchen.listed())[name]["joined"] for name in ("a.example", "c.example")]


@pytest.mark.row("S33")
async def test_a_mirror_that_joins_again(kitchen: Kitchen) -> None:
    """
    It is the same mirror with a new token, and the old one works until the new one is used.
    """
    first, before = await joined(kitchen), count("again")
    assert 200 == await reports(kitchen, 1, first["token"])

    answer = await join(kitchen)

    again = answer.json()
    assert (200, 1, "/api/cdn/1") == (answer.status_code, again["id"], answer.headers["location"])
    assert first["token"] != again["token"]
    assert before + 1 == count("again")
    assert [200, 200] == [await reports(kitchen, 1, one["token"]) for one in (first, again)]
    assert 401 == await reports(kitchen, 1, first["token"])
    assert 201 == (await join(kitchen, port=8443)).status_code  # another port is another address


async def test_other_terms(kitchen: Kitchen) -> None:
    """
    It may say another scheme and mode: then it begins anew. What an administrator has decided stays.
    """
    await joined(kitchen, port=8000)
    await kitchen.admin.patch("/api/cdn/1", json={"weight": 7, "drained": True, "trusted": True})
    _passed(kitchen)
    same = await joined(kitchen, port=8000)
    assert same["audited_at"]

    pull = await joined(kitchen, port=8000, mode="pull")

    assert (None, "pull", 7, True, True) == tuple(
        pull[name] for name in ("audited_at", "mode", "weight", "drained", "trusted")
    )
    _passed(kitchen)
    http = await joined(kitchen, port=8000, mode="pull", scheme="http")
    assert (1, None, "http", 7, True, False) == tuple(
        http[name] for name in ("id", "audited_at", "scheme", "weight", "drained", "trusted")
    )


def _passed(kitchen: Kitchen) -> None:
    KIND.ask(kitchen.settings.data, "update mirror set audited_at = '2026-01-01 12:00:00+00:00'")


async def test_an_address_of_an_administrator(kitchen: Kitchen) -> None:
    """
    It is not taken over: 409, and its token stays what it was.
    """
    mirror = await kitchen.mirror("a.example")
    before = (await kitchen.listed(), count("refused"))

    answer = await join(kitchen)

    assert (409, "an administrator has added a.example port 443, which has its own token") == (
        answer.status_code,
        answer.json()["detail"],
    )
    assert before == (await kitchen.listed(), count("refused") - 1)
    assert 200 == await reports(kitchen, mirror["id"], mirror["token"])


@pytest.mark.parametrize("kind", [Kind.READ, Kind.WRITE, Kind.MIRROR])
async def test_who_may_not(kitchen: Kitchen, kind: Kind) -> None:
    """
    Tokens of other kinds are for other things; without any, or with one that nobody has, it is 401.
    """
    mirror = await kitchen.mirror("c.example")
    token = await kitchen.soup.access.new(kind, mirror["id"] if kind is Kind.MIRROR else None, None)

    assert 403 == (await join(kitchen, token=token)).status_code
    assert 401 == (await join(kitchen, token=SECRET + "s")).status_code
    assert 401 == (await kitchen.anyone.post("/api/cdn:join", json={"fqdn": "a.example"})).status_code
    assert ["c.example"] == list(await kitchen.listed())


@pytest.mark.row("S33")
@pytest.mark.parametrize("how", ["table", "file"])
async def test_what_else_it_may(kitchen: Kitchen, how: str) -> None:
    """
    Who may join may do nothing else, whether the secret is in the table or in a file.
    """
    mirror = await joined(kitchen)
    token = SECRET if how == "file" else await kitchen.soup.access.new(Kind.JOIN, None, None)
    headers, digest = bearer(token), await kitchen.keep(b"leek")

    answers = {
        f"{method} {path}": (await kitchen.anyone.request(method, path, json={}, headers=headers)).status_code
        for method, path in [
            ("GET", "/api/cdn:list"), ("GET", "/api/cdn:barred"), ("GET", f"/api/cdn/{mirror['id']}"),
            ("PATCH", f"/api/cdn/{mirror['id']}?status=0"), ("DELETE", f"/api/cdn/{mirror['id']}"),
            ("POST", f"/api/cdn/{mirror['id']}/token"), ("GET", "/api/blob:list"),
            ("GET", "/api/blob:changes"), ("GET", "/api/blob:bundle"), ("POST", "/api/blob"),
            ("DELETE", f"/api/blob/{digest}"), ("PATCH", f"/api/blob/{digest}"),
            ("GET", f"/api/blob/{digest}"),
        ]
    }  # fmt: skip
    created = await kitchen.anyone.post("/api/cdn", json={"fqdn": "b.example"}, headers=headers)

    assert {403} == {created.status_code, *answers.values()}, answers
    assert 201 == (await join(kitchen, "b.example", token=token)).status_code


async def test_a_secret_that_changes(kitchen: Kitchen, file) -> None:
    """
    The next refresh takes it up; the old one is nobody's from then on.
    """
    file.write_text("a-wholly-other-secret")
    await kitchen.soup.access.refresh()  # may be one with a refresh that was under way
    await kitchen.soup.access.refresh()

    assert 401 == (await join(kitchen)).status_code
    assert 201 == (await join(kitchen, token="a-wholly-other-secret")).status_code  # noqa: S106
    assert [(1,)] == KIND.ask(kitchen.settings.data, "select count(*) from token where kind <> 'admin'")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"fqdn": 5}',
        b'{"fqdn": "\xff"}',
        b'{"fqdn": "https://a.example"}',
        b'{"fqdn": "a.example", "weight": 2}',
        b'{"fqdn": "a.example", "trusted": true}',
        b'{"fqdn": "a.example", "port": 0}',
        b'{"fqdn": "a.example", "scheme": "ftp"}',
        b'{"fqdn": "a.example", "mode": "half"}',
    ],
)
async def test_what_cannot_be_meant(kitchen: Kitchen, asked: list[str], body: bytes) -> None:
    """
    It is refused with a clear word, before any name is looked up.
    """
    headers = {**bearer(SECRET), "content-type": "application/json"}

    answer = await kitchen.anyone.post("/api/cdn:join", content=body, headers=headers)

    assert (400, []) == (answer.status_code, asked)
    assert {} == await kitchen.listed()


@pytest.mark.row("S33")
@pytest.mark.parametrize(
    ("fqdn", "allowed", "expected"),
    [
        ("a.example", False, "201"),
        ("inner.example", False, "403 its address 10.0.0.7 is private, and cdn.join.allow_private is off"),
        ("inner.example", True, "201"),
        ("cloud.example", False, "403 no mirror that joins may be at ::ffff:169.254.169.254"),
        ("cloud.example", True, "403 no mirror that joins may be at ::ffff:169.254.169.254"),
        ("127.0.0.1", False, "403 its address 127.0.0.1 is private, and cdn.join.allow_private is off"),
        ("127.0.0.1", True, "201"),
        ("[::1]", False, "403 its address ::1 is private, and cdn.join.allow_private is off"),
        ("[fd00:ec2::254]", True, "403 no mirror that joins may be at fd00:ec2::254"),
        ("0.0.0.0", True, "403 no mirror that joins may be at 0.0.0.0"),  # noqa: S104
        ("8.8.8.8", False, "201"),
    ],
)
async def test_where_it_is(kitchen: Kitchen, fqdn: str, allowed: bool, expected: str) -> None:  # noqa: FBT001
    """
    All addresses of its name are judged: private ones may be allowed, some never are.
    """
    adopt(kitchen, allow_private=allowed)

    answer = await join(kitchen, fqdn)

    detail = answer.json()["detail"] if answer.status_code != 201 else ""
    assert expected == f"{answer.status_code} {detail}".strip()
    assert (answer.status_code == 201) == (fqdn in await kitchen.listed())


async def test_a_name_without_an_address(kitchen: Kitchen) -> None:
    """
    It may have one later: 503, with a word on trying again and when.
    """
    answer = await join(kitchen, "none.example")

    assert (503, "5") == (answer.status_code, answer.headers["retry-after"])
    assert answer.json()["detail"] == (
        "soup finds no address of none.example ([Errno -2] Name or service not known): try again"
    )


async def test_a_name_that_hangs(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    It is waited for until a limit, and nobody else is held up.
    """
    over = asyncio.Event()
    loop = asyncio.get_running_loop()

    def look(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        if host == "hang.example":
            asyncio.run_coroutine_threadsafe(over.wait(), loop).result(30)
        return [(0, 0, 0, "", ("1.1.1.1", 0))]

    monkeypatch.setattr(names.socket, "getaddrinfo", look)
    monkeypatch.setattr(joins, "SECONDS", 0.3)
    hanging = asyncio.create_task(join(kitchen, "hang.example"))
    assert 201 == (await join(kitchen)).status_code

    answer = await hanging

    over.set()
    assert (503, "soup finds no address of hang.example (no answer within 0.3 s): try again") == (
        answer.status_code,
        answer.json()["detail"],
    )


async def test_credentials_are_not_shown_to_it(cook: Cook, file: Path) -> None:
    """
    Nobody vouches for one that joined: who shows a token is not sent there, until an administrator says so.
    """
    kitchen = await cook(cdn={"audit": "off", "join": {"token_file": file}})
    digest, mirror = await kitchen.keep(b"leek"), await joined(kitchen)
    assert 200 == await reports(kitchen, 1, mirror["token"])

    codes = [(await who.get(f"/{digest}")).status_code for who in (kitchen.anyone, kitchen.admin)]

    assert [307, 200] == codes
    await kitchen.admin.patch("/api/cdn/1", json={"trusted": True})
    assert 307 == (await kitchen.admin.get(f"/{digest}")).status_code


async def test_without_a_file(cook: Cook) -> None:
    """
    Tokens of the table do, and an administrator's.
    """
    kitchen = await cook()
    token = await kitchen.soup.access.new(Kind.JOIN, None, None)

    assert Settings().cdn.join == kitchen.settings.cdn.join
    assert 401 == (await join(kitchen)).status_code
    assert 201 == (await join(kitchen, token=token)).status_code
    assert 201 == (await kitchen.admin.post("/api/cdn:join", json={"fqdn": "b.example"})).status_code
