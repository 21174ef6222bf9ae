"""Who may."""

import base64
from typing import Any

import pytest

from soup.access.model import Kind
from tests.conftest import Cook, Kitchen, bearer

BLOB = "0" * 64

# What each kind may ask for: a request, and the kinds whose token is good for it beside the administrator's.
DOORS: dict[tuple[str, str], set[str]] = {
    ("GET", "/api/cdn:list"): {"read"},
    ("GET", "/api/cdn/1"): {"read", "own"},
    ("PATCH", "/api/cdn/1?status=1"): {"own"},
    ("PATCH", "/api/cdn/1"): {"own"},
    ("POST", "/api/cdn"): set(),
    ("POST", "/api/cdn/1/token"): set(),
    ("GET", "/api/blob:list"): {"read", "own", "other"},
    ("GET", f"/api/blob/{BLOB}"): {"read", "own", "other"},
    ("POST", "/api/blob"): {"write"},
    ("PUT", "/api/blob"): {"write"},
    ("PUT", f"/{BLOB}"): {"write"},
    ("DELETE", f"/api/blob/{BLOB}"): set(),
    ("PATCH", f"/api/blob/{BLOB}"): set(),
    ("DELETE", "/api/cdn/1"): set(),  # last: it takes a token with it
}


async def issued(kitchen: Kitchen, kind: Kind) -> str:
    access = kitchen.soup.access
    async with access._database.begin() as work:
        return await access.issue(work, kind)


async def tokens(kitchen: Kitchen) -> dict[str, str]:
    """A token of each kind; `own` is mirror 1's, `other` mirror 2's."""
    own, other = [await kitchen.mirror(fqdn) for fqdn in ("own.example", "other.example")]
    return {
        "admin": kitchen.admin.headers["authorization"].removeprefix("Bearer "),
        "write": await issued(kitchen, Kind.WRITE),
        "read": await issued(kitchen, Kind.READ),
        "own": own["token"],
        "other": other["token"],
    }


async def asked(kitchen: Kitchen, door: tuple[str, str], token: str | None) -> int:
    headers = {} if token is None else bearer(token)
    answer = await kitchen.anyone.request(*door, headers={"content-length": "0", **headers})
    return answer.status_code


async def test_who_may(kitchen: Kitchen) -> None:
    """
    Nobody 401; a token of the wrong kind 403; the right one gets past the door.
    """
    held = await tokens(kitchen)
    for door, kinds in DOORS.items():
        limited = {kind: await asked(kitchen, door, held[kind]) for kind in ("write", "read", "own", "other")}

        assert [401, 401] == [await asked(kitchen, door, token) for token in (None, "soup_unknown")], door
        assert kinds == {kind for kind, code in limited.items() if code not in {401, 403}}, door
        assert 401 not in limited.values(), door
        assert await asked(kitchen, door, held["admin"]) not in {401, 403}, door


@pytest.mark.row("S11")
async def test_another_mirrors_token(kitchen: Kitchen) -> None:
    """
    A mirror speaks for itself: what it says of another is refused and changes nothing.
    """
    mirror = await kitchen.mirror("a.example")
    other = await kitchen.mirror("b.example")
    before = await kitchen.listed()

    for query in ("?status=3", ""):
        answer = await kitchen.anyone.patch(f"/api/cdn/{other['id']}{query}", headers=bearer(mirror["token"]))
        assert 403 == answer.status_code
    assert before == await kitchen.listed()


HEADERS = [
    f"Basic {base64.b64encode(b'admin:TOKEN').decode()}",
    "TOKEN",
    "Token TOKEN",
    "",
    "Bearer",
    "Bearer TOKEN TOKEN",
    "Bearer TOKE",
    "Bearer \xfc",
]


async def test_headers_that_are_no_token(kitchen: Kitchen) -> None:
    """
    Whatever is no bearer token of ours is 401, with word of what is wanted.
    """
    token = kitchen.admin.headers["authorization"].removeprefix("Bearer ")
    for template in HEADERS:
        value = template.replace("TOKEN", token).replace("TOKE", token[:-1]).encode("latin-1")
        answer = await kitchen.anyone.get("/api/cdn:list", headers={"Authorization": value})

        assert 401 == answer.status_code, template
        told = ', error="invalid_token"' if template.startswith("Bearer ") else ""
        assert f'Bearer realm="soup"{told}' == answer.headers["www-authenticate"]
        assert token not in answer.text


async def test_the_word_bearer(kitchen: Kitchen) -> None:
    """
    The scheme is read in any case (RFC 9110, 11.1).
    """
    token = kitchen.admin.headers["authorization"].removeprefix("Bearer ")
    for word in ("Bearer ", "bearer ", "BEARER ", "Bearer   "):
        answer = await kitchen.anyone.get("/api/cdn:list", headers={"Authorization": f"{word}{token}"})

        assert 200 == answer.status_code, word


async def test_a_token_in_the_query(kitchen: Kitchen) -> None:
    """
    A token in an address is no token: addresses end up in logs.
    """
    token = kitchen.admin.headers["authorization"].removeprefix("Bearer ")
    for name in ("token", "access_token"):
        assert 401 == (await kitchen.anyone.get(f"/api/cdn:list?{name}={token}")).status_code


async def test_an_open_soup(cook: Cook) -> None:
    """
    With `auth.mode: open` everybody may do everything (C26).
    """
    kitchen = await cook(auth={"mode": "open"})
    answers = [
        await kitchen.anyone.post("/api/blob", content=b"leek"),
        await kitchen.anyone.post("/api/cdn", json={"fqdn": "a.example"}),
        await kitchen.anyone.patch("/api/cdn/1?status=2"),
        await kitchen.anyone.patch("/api/cdn/1"),
        await kitchen.anyone.patch("/api/cdn/1", json={"weight": 2}),
        await kitchen.anyone.get("/api/cdn:list"),
        await kitchen.anyone.get("/api/blob:list"),
    ]

    assert [201, 201, 200, 200, 200, 200, 200] == [answer.status_code for answer in answers]
    (mirror,) = answers[5].json()
    assert (2, 2, True) == (mirror["status"], mirror["weight"], mirror["online"])
    assert 204 == (await kitchen.anyone.delete("/api/cdn/1")).status_code


@pytest.mark.row("S11")
async def test_reports_without_a_token(cook: Cook) -> None:
    """
    With `cdn.report_auth: none` anybody reports for any mirror, and still nobody changes one (C23).
    """
    kitchen = await cook(cdn={"report_auth": "none"})
    mirror = await kitchen.mirror("a.example", status=None)
    path = f"/api/cdn/{mirror['id']}"

    assert 200 == (await kitchen.anyone.patch(f"{path}?status=2")).status_code
    assert 200 == (await kitchen.anyone.patch(path)).status_code
    assert 200 == (await kitchen.anyone.patch(path, json={"weight": 9})).status_code
    seen = (await kitchen.listed())["a.example"]
    assert (2, 1) == (seen["status"], seen["weight"])
    assert 404 == (await kitchen.anyone.patch("/api/cdn/99?status=1")).status_code
    assert 400 == (await kitchen.anyone.patch(f"{path}?status=4")).status_code
    assert 401 == (await kitchen.anyone.delete(path)).status_code
    assert 401 == (await kitchen.anyone.get("/api/cdn:list")).status_code


async def test_reports_need_a_token(kitchen: Kitchen) -> None:
    """
    As it is without settings, a report without a token is refused, whether or not there is such a mirror.
    """
    await kitchen.mirror("a.example", status=None)

    for id in (1, 99):
        assert 401 == (await kitchen.anyone.patch(f"/api/cdn/{id}?status=1")).status_code
    assert (await kitchen.listed())["a.example"]["last_seen"] is None


READS: dict[str | None, int] = {"admin": 307, "read": 307, "own": 200, "write": 403, "soup_x": 401, None: 401}


async def test_reading_with_a_token(cook: Cook) -> None:
    """
    With `auth.read: token` a blob is there only for those that may read; for others not even a 404 is.
    """
    kitchen = await cook(auth={"read": "token"})
    held: dict[Any, str | None] = {**await tokens(kitchen), "soup_x": "soup_x", None: None}
    digest = await kitchen.keep(b"leek")

    assert READS == {kind: await asked(kitchen, ("GET", f"/{digest}"), held[kind]) for kind in READS}
    assert READS == {kind: await asked(kitchen, ("HEAD", f"/{digest}"), held[kind]) for kind in READS}
    assert [401, 403, 404] == [
        await asked(kitchen, ("GET", f"/{BLOB}"), token) for token in (None, held["write"], held["read"])
    ]
    assert 204 == await asked(kitchen, ("OPTIONS", f"/{digest}"), None)


@pytest.mark.parametrize("read", ["token", "open"])
async def test_who_may_keep_what_was_read(cook: Cook, read: str) -> None:
    """
    What a token was asked for is for its holder alone, and a cache that many share must not keep it.
    """
    kitchen = await cook(auth={"read": read})
    path = f"/{await kitchen.keep(b'leek')}"

    answers = [
        await kitchen.admin.get(path),
        await kitchen.admin.head(path),
        await kitchen.admin.get(path, headers={"Range": "bytes=0-1"}),
        await kitchen.admin.get(path, headers={"If-None-Match": "*"}),
    ]

    assert [200, 200, 206, 304] == [answer.status_code for answer in answers]
    who = {"token": "private", "open": "public"}[read]
    assert {f"{who}, max-age=31536000, immutable"} == {one.headers["cache-control"] for one in answers}


@pytest.mark.parametrize(
    ("path", "shown", "told"),
    [
        ("/api/cdn:list", "soup_x", ', error="invalid_token"'),
        ("/api/blob", "soup_x", ', error="invalid_token"'),
        ("/api/blob", "read", ', error="insufficient_scope"'),
        ("/api/cdn", "read", ', error="insufficient_scope"'),
        ("/api/cdn", None, ""),
        ("/api/blob", None, ""),
    ],
)
async def test_what_a_client_is_told(kitchen: Kitchen, path: str, shown: str | None, told: str) -> None:
    """
    Routes and uploads say alike what is wrong with a token.
    """
    shown = await issued(kitchen, Kind.READ) if shown == "read" else shown
    method = "GET" if path.endswith(":list") else "POST"

    answer = await kitchen.anyone.request(method, path, headers=bearer(shown) if shown else {})

    assert f'Bearer realm="soup"{told}' == answer.headers["www-authenticate"]


async def test_reading_openly(kitchen: Kitchen) -> None:
    """
    As it is without settings, a blob is there for whoever knows its name, whatever token comes along.
    """
    held: dict[Any, str | None] = {**await tokens(kitchen), "soup_x": "soup_x", None: None}
    digest = await kitchen.keep(b"leek")

    expected = {kind: 200 if kind == "own" else 307 for kind in READS}
    assert expected == {kind: await asked(kitchen, ("GET", f"/{digest}"), held[kind]) for kind in READS}
