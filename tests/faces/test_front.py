"""GET, HEAD, OPTIONS of `/<sha256>`: what is decided, and what every answer carries."""

import base64
import hashlib
from typing import Any

import httpx
import pytest

from tests.conftest import Cook, Kitchen, Time, bearer, sha256

LEEK = b"leek" * 1000
UNKNOWN = "0" * 64


def readable(answer: httpx.Response) -> bool:
    """Whether a page of another site may read it, and the headers it needs."""
    exposed = {name.strip().lower() for name in answer.headers["access-control-expose-headers"].split(",")}
    wanted = {"accept-ranges", "etag", "content-range", "link", "location", "retry-after"}
    return answer.headers["access-control-allow-origin"] == "*" and wanted <= exposed


@pytest.mark.row("S2")
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_blob_nobody_knows(kitchen: Kitchen, method: str) -> None:
    """
    What is not in the database is not found, mirrors or not.
    """
    alone = await kitchen.anyone.request(method, f"/{UNKNOWN}")
    await kitchen.mirror("m.example")
    with_mirror = await kitchen.anyone.request(method, f"/{UNKNOWN}?direct=1")

    assert [404, 404] == [alone.status_code, with_mirror.status_code]
    assert readable(alone)


@pytest.mark.row("S6")
@pytest.mark.parametrize("redirects", [False, True])
@pytest.mark.parametrize("online", [False, True])
async def test_the_order_of_the_questions(cook: Cook, redirects: bool, online: bool) -> None:  # noqa: FBT001
    """
    Does it exist, are redirects on, is anyone online: in this order, and only three yeses make a redirect.
    """
    kitchen = await cook(cdn={"redirects": redirects})
    digest = await kitchen.keep(LEEK)
    await kitchen.mirror("m.example", status=1 if online else None)

    known = await kitchen.anyone.get(f"/{digest}")

    assert (307 if redirects and online else 200) == known.status_code
    assert 404 == (await kitchen.anyone.get(f"/{UNKNOWN}")).status_code


@pytest.mark.row("S5", "S8")
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_redirect(kitchen: Kitchen, method: str) -> None:
    """
    It says where the bytes are and what they hash to, is stored by nobody, and has no body.
    """
    digest = await kitchen.keep(LEEK)
    await kitchen.mirror("m.example")

    answer = await kitchen.anyone.request(method, f"/{digest}")

    assert 307 == answer.status_code
    assert f"https://m.example/{digest}" == answer.headers["location"]
    assert "no-store" == answer.headers["cache-control"]
    sha = base64.b64encode(hashlib.sha256(LEEK).digest()).decode()
    assert f"SHA-256={sha}" == answer.headers["digest"]
    assert ("0", b"") == (answer.headers["content-length"], answer.content)
    assert readable(answer)
    assert "etag" not in answer.headers


@pytest.mark.row("S8")
@pytest.mark.parametrize(
    ("terms", "origin"),
    [
        ({"fqdn": "m.example"}, "https://m.example"),
        ({"fqdn": "m.example", "port": 443}, "https://m.example"),
        ({"fqdn": "m.example", "port": 8443}, "https://m.example:8443"),
        ({"fqdn": "m.example", "scheme": "http"}, "http://m.example"),
        ({"fqdn": "m.example", "scheme": "http", "port": 8080}, "http://m.example:8080"),
        ({"fqdn": "[::1]", "scheme": "http", "port": 81}, "http://[::1]:81"),
    ],
)
async def test_where_a_redirect_leads(kitchen: Kitchen, terms: dict[str, Any], origin: str) -> None:
    """
    To https, the mirror's name and the digest; scheme and port where the mirror has others.
    """
    digest = await kitchen.keep(LEEK)
    await kitchen.mirror(**terms)

    assert f"{origin}/{digest}" == (await kitchen.anyone.get(f"/{digest}")).headers["location"]


@pytest.mark.row("S5")
@pytest.mark.parametrize(
    "headers",
    [
        {"Range": "bytes=0-1"},
        {"Range": "bytes=999999-"},
        {"Range": "turnip"},
        {"If-None-Match": "*"},
        {"If-None-Match": f'"{sha256(LEEK)}"'},
        {"If-Match": '"turnip"'},
        {"If-Range": '"turnip"', "Range": "bytes=0-1"},
        {"If-Modified-Since": "Sat, 21 Nov 2076 12:00:00 GMT"},
    ],
)
async def test_conditions_on_a_redirect(kitchen: Kitchen, headers: dict[str, str]) -> None:
    """
    While soup redirects it judges neither conditions nor ranges: they are for who sends the bytes.
    """
    digest = await kitchen.keep(LEEK)
    await kitchen.mirror("m.example")

    answer = await kitchen.anyone.get(f"/{digest}", headers=headers)

    assert (307, f"https://m.example/{digest}") == (answer.status_code, answer.headers["location"])


@pytest.mark.row("S4")
async def test_the_last_mirror_falls_silent(kitchen: Kitchen, clocks: Time) -> None:
    """
    Soup serves the bytes itself once nobody has been heard of for 40 s.
    """
    digest = await kitchen.keep(LEEK)
    await kitchen.mirror("m.example")
    clocks.forward(39.5)
    assert 307 == (await kitchen.anyone.get(f"/{digest}")).status_code

    clocks.forward(0.6)

    answer = await kitchen.anyone.get(f"/{digest}")
    assert (200, digest) == (answer.status_code, hashlib.sha256(answer.content).hexdigest())


@pytest.mark.parametrize(("query", "status"), [("direct=1", 200), ("direct=0", 307), ("", 307), ("x=1", 307)])
async def test_a_direct_answer_is_asked_for(kitchen: Kitchen, query: str, status: int) -> None:
    """
    Who cannot reach mirrors asks for the bytes from soup; any other word of a query is ignored.
    """
    digest = await kitchen.keep(LEEK)
    await kitchen.mirror("m.example")

    assert status == (await kitchen.anyone.get(f"/{digest}?{query}")).status_code


async def test_a_mirror_asks(kitchen: Kitchen) -> None:
    """
    A mirror's token gets the bytes: sent to another mirror, two without the blob would go in circles.
    """
    digest = await kitchen.keep(LEEK)
    mirror = await kitchen.mirror("m.example")

    asked = await kitchen.anyone.get(f"/{digest}", headers=bearer(mirror["token"]))
    wrong = await kitchen.anyone.get(f"/{digest}", headers=bearer("turnip"))
    other = await kitchen.anyone.get(f"/{digest}", headers={"Authorization": "Basic dHVybmlwOg=="})

    assert [200, 307, 307] == [asked.status_code, wrong.status_code, other.status_code]


@pytest.mark.parametrize("name", ["Authorization", "Cookie", "X-API-Key", "Proxy-Authorization"])
async def test_credentials(kitchen: Kitchen, name: str) -> None:
    """
    Clients repeat what they showed soup: with credentials they are sent to trusted mirrors only.
    """
    digest = await kitchen.keep(LEEK)
    await kitchen.mirror("foreign.example", trusted=False)

    shown = await kitchen.anyone.get(f"/{digest}", headers={name: "Bearer turnip"})
    not_shown = await kitchen.anyone.get(f"/{digest}")

    assert [200, 307] == [shown.status_code, not_shown.status_code]


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=1-9"}, {"If-None-Match": "*"}, {"If-Match": '"x"'}])
@pytest.mark.parametrize("query", ["", "?download=leek.txt"])
async def test_head(kitchen: Kitchen, query: str, headers: dict[str, str]) -> None:
    """
    HEAD has the status and the headers of GET.
    """
    digest = await kitchen.keep(LEEK)

    got = await kitchen.anyone.get(f"/{digest}{query}", headers={**headers, "X-Request-Id": "abc"})
    head = await kitchen.anyone.head(f"/{digest}{query}", headers={**headers, "X-Request-Id": "abc"})

    assert got.status_code == head.status_code
    assert got.headers == head.headers


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_no_cache_keeps_a_failure(kitchen: Kitchen, method: str) -> None:
    """
    What is unknown or blocked now may be there in a moment: no cache may say otherwise (D3).
    """
    digest = await kitchen.keep(LEEK)
    await kitchen.admin.patch(f"/api/blob/{digest}", json={"blocked": True})

    answers = [await kitchen.anyone.request(method, f"/{name}") for name in (UNKNOWN, digest)]

    assert [404, 410] == [answer.status_code for answer in answers]
    assert ["no-store"] * 2 == [answer.headers["cache-control"] for answer in answers]


async def test_a_method_of_many_letters(kitchen: Kitchen) -> None:
    """
    An answer repeats no more of a method than tells it from others.
    """
    answer = await kitchen.anyone.request("COOK" * 750, f"/{UNKNOWN}")

    assert (405, True) == (answer.status_code, len(answer.content) < 500)


@pytest.mark.parametrize("query", ["utm=%ff", "%ff", "utm=%e4%f6", "&".join(["x=1"] * 200)])
async def test_words_that_are_not_ours(kitchen: Kitchen, query: str) -> None:
    """
    Other parameters are ignored, whatever is in them and however many they are (C13).
    """
    digest = await kitchen.keep(LEEK)
    await kitchen.mirror("m.example")

    answers = [await kitchen.anyone.get(f"/{digest}?{query}{more}") for more in ("", "&direct=1")]

    assert [307, 200] == [answer.status_code for answer in answers]


@pytest.mark.parametrize("query", ["direct=%ff", "download=%ff", "download=leek%e4.txt"])
async def test_our_words_are_read_strictly(kitchen: Kitchen, query: str) -> None:
    """
    What is no UTF-8 is no value of ours.
    """
    assert 400 == (await kitchen.anyone.get(f"/{await kitchen.keep(LEEK)}?{query}")).status_code


@pytest.mark.parametrize("digest", [UNKNOWN, sha256(LEEK)])
async def test_options(kitchen: Kitchen, digest: str) -> None:
    """
    A browser that asks for leave gets it, whether or not there is such a blob.
    """
    await kitchen.keep(LEEK)
    asked = {"Origin": "https://page.example", "Access-Control-Request-Method": "GET"}

    answer = await kitchen.anyone.options(f"/{digest}", headers=asked)

    assert 204 == answer.status_code
    assert "content-length" not in answer.headers
    assert readable(answer)
    assert "Range" in answer.headers["access-control-allow-headers"]
    assert {"GET", "HEAD", "OPTIONS", "PUT"} == set(answer.headers["allow"].split(", "))
    assert answer.headers["allow"] == answer.headers["access-control-allow-methods"]


# What brings about each status on the path of a blob: method, what follows the digest, headers, body.
ANSWERS: dict[int, tuple[str, str, dict[str, str], bytes | None]] = {
    200: ("GET", "", {}, None),
    206: ("GET", "", {"Range": "bytes=0-1"}, None),
    304: ("GET", "", {"If-None-Match": "*"}, None),
    405: ("DELETE", "", {}, None),
    412: ("GET", "", {"If-Match": '"turnip"'}, None),
    416: ("GET", "", {"Range": "bytes=99999-"}, None),
    400: ("GET", "?direct=leek", {}, None),
    431: ("GET", "", {"X-Long": "x" * 10_000}, None),
    401: ("PUT", "", {}, LEEK),
    415: ("PUT", "", {"Authorization": "{token}", "Content-Encoding": "gzip"}, LEEK),
    422: ("PUT", "", {"Authorization": "{token}"}, b"turnip"),
}


@pytest.mark.parametrize("status", ANSWERS)
async def test_every_answer_may_be_read_by_pages(kitchen: Kitchen, status: int) -> None:
    """
    CORS stands on every answer of a blob's path, the failures included, and so does the request's id.
    """
    digest = await kitchen.keep(LEEK)
    method, query, headers, body = ANSWERS[status]
    token = kitchen.admin.headers["authorization"]
    given = {name: value.replace("{token}", token) for name, value in headers.items()}

    answer = await kitchen.anyone.request(method, f"/{digest}{query}", headers=given, content=body)

    assert status == answer.status_code
    assert readable(answer)
    assert 1 == len(answer.headers.get_list("access-control-allow-origin"))
    assert answer.headers["x-request-id"] == answer.headers["x-amz-request-id"]
    if status >= 400:
        assert "application/problem+json" == answer.headers["content-type"]
        assert status == answer.json()["status"]
        assert ["no-store"] == answer.headers.get_list("cache-control")


async def test_uploads_may_be_read_by_pages(kitchen: Kitchen) -> None:
    """
    So it does on 201, 200, 412 and 410 of an upload.
    """
    url = f"/{sha256(LEEK)}"

    answers = [await kitchen.admin.put(url, content=LEEK) for _ in range(2)]
    answers.append(await kitchen.admin.put(url, content=LEEK, headers={"If-None-Match": "*"}))
    await kitchen.admin.patch(f"/api/blob{url}", json={"blocked": True})
    answers += [await kitchen.admin.put(url, content=LEEK), await kitchen.anyone.get(url)]

    assert [201, 200, 412, 410, 410] == [answer.status_code for answer in answers]
    assert all(readable(answer) for answer in answers)


@pytest.mark.parametrize(
    ("asked", "kept"),
    [("abc123", True), ("A" * 64, True), ("a" * 65, False), ("leek", False), ("a b", False), ("", False)],
)
async def test_the_id_of_a_request(kitchen: Kitchen, asked: str, kept: bool) -> None:  # noqa: FBT001
    """
    The client's own id comes back where it is hexadecimal and short; else soup makes one.
    """
    answers = [
        await kitchen.anyone.get(f"/{UNKNOWN}", headers={"X-Request-Id": asked}),
        await kitchen.anyone.get("/healthz", headers={"X-Request-Id": asked}),
    ]

    ids = [answer.headers["x-request-id"] for answer in answers]
    assert ([asked, asked] == ids) is kept
    assert kept or len(set(ids)) == 2
