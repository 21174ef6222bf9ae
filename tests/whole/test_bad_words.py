"""JSON, queries, ids, ranges and methods that cannot be meant: each is a clear 4xx, and changes nothing."""

import json

import pytest

from tests.conftest import Server, sha256
from tests.wire import judge, wire

pytestmark = pytest.mark.sqlite  # rows have no part in it

LEEK = b"leek"
D = sha256(LEEK)


DEEP = b"[" * 100_000 + b"]" * 100_000
BODIES = {
    "no object": b"[]",
    "a word": b'"digests"',
    "nothing": b"",
    "null": b"null",
    "no JSON": b"digests=1",
    "half": b'{"digests": [',
    "two": b'{"digests": []}{}',
    "an unknown field": b'{"digests": [], "leek": 1}',
    "no field": b"{}",
    "another kind": b'{"digests": "leek"}',
    "numbers": b'{"digests": [1]}',
    "null for a list": b'{"digests": null}',
    "a bad digest": b'{"digests": ["leek"]}',
    "upper case": json.dumps({"digests": [D.upper()]}).encode(),
    "a NUL": json.dumps({"digests": [D[:-1] + "\0"]}).encode(),
    "too many": json.dumps({"digests": [D] * 10_001}).encode(),
    "no UTF-8": b'{"digests": ["\xff\xfe"]}',
    "half a surrogate": b'{"digests": ["\\ud800"]}',
    "UTF-16": '{"digests": []}'.encode("utf-16"),
    "deep": b'{"digests": ' + DEEP + b"}",
    "all deep": DEEP,
    "not a number": b'{"digests": [NaN]}',
}


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("what", BODIES)
def test_a_body_that_is_not_understood(soup: Server, what: str) -> None:
    """
    JSON that is none, or not what is wanted, is 400 and says why.
    """
    with wire(soup) as connection:
        headers = [f"Authorization: Bearer {soup.token}", "Content-Type: application/json"]
        connection.ask(
            "POST /api/blob:missing", *headers, f"Content-Length: {len(BODIES[what])}", body=BODIES[what]
        )
        judge(connection.answer(), 400)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    "body",
    ["{}", "[]", '{"blocked": "true"}', '{"blocked": 1}', '{"blocked": null}', '{"blocked": true, "x": 1}'],
)
def test_a_block_that_is_not_understood(soup: Server, body: str) -> None:
    """
    Only true and false say whether a blob is blocked.
    """
    with wire(soup) as connection:
        headers = [f"Authorization: Bearer {soup.token}", "Content-Type: application/json"]
        connection.ask(f"PATCH /api/blob/{D}", *headers, f"Content-Length: {len(body)}", body=body.encode())
        judge(connection.answer(), 400)


@pytest.mark.usefixtures("unchanged")
def test_a_body_that_is_too_large_for_json(soup: Server) -> None:
    """
    Requests that are no uploads have a limit of their own.
    """
    with wire(soup) as connection:
        headers = [f"Authorization: Bearer {soup.token}", "Content-Type: application/json"]
        body = b'{"digests": ["' + b"x" * 2_000_000 + b'"]}'
        connection.ask("POST /api/blob:missing", *headers, f"Content-Length: {len(body)}", body=body)
        judge(connection.answer(), 413)


QUERIES = [
    "/api/blob:list?limit=0",
    "/api/blob:list?limit=-1",
    "/api/blob:list?limit=10001",
    "/api/blob:list?limit=99999999999999999999999999",
    "/api/blob:list?limit=1.5",
    "/api/blob:list?limit=ten",
    "/api/blob:list?limit=",
    "/api/blob:list?after=leek",
    f"/api/blob:list?after={D.upper()}",
    f"/api/blob:list?after={D}%00",
    "/api/blob:list?state=gone",
    "/api/blob:list?state=",
    f"/{D}?direct=2",
    f"/{D}?direct=yes",
    f"/{D}?direct=",
    f"/{D}?download=",
    f"/{D}?download=%20",
    f"/{D}?download=..",
    f"/{D}?download=../leek",
    f"/{D}?download=leek%2Fsoup",
    f"/{D}?download=leek%5Csoup",
    f"/{D}?download=leek%0d%0aX-Leek:%201",
    f"/{D}?download=leek%00",
    f"/{D}?download={'x' * 300}",
    f"/{D}?download=%ff%fe",
    f"/{D}?download=%E2%80%AEknup.exe",
]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("path", QUERIES)
def test_a_query_that_cannot_be_meant(soup: Server, path: str) -> None:
    """
    Numbers out of reach, names that are none, files that are paths: 400.
    """
    with wire(soup) as connection:
        judge(connection.ask(f"GET {path}", f"Authorization: Bearer {soup.token}").answer(), 400)


def test_a_parameter_by_its_name(soup: Server) -> None:
    """
    A refusal names the parameter as the request did.
    """
    with wire(soup) as connection:
        answer = connection.ask(
            "GET /api/blob:list?state=gone", f"Authorization: Bearer {soup.token}"
        ).answer()

    judge(answer, 400)
    assert "state" in json.loads(answer.body)["detail"]
    assert "standing" not in json.loads(answer.body)["detail"]


IDS = ["0", "-1", "99999999999999999999999", "9223372036854775808", "leek", "1.5", "%00", "1%00", "0x1"]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("id", IDS)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_mirror_that_cannot_be(soup: Server, method: str, id: str) -> None:
    """
    Ids out of reach belong to nobody.
    """
    with wire(soup) as connection:
        answer = connection.ask(f"{method} /api/cdn/{id}", f"Authorization: Bearer {soup.token}").answer()
        judge(answer, 400, 404)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("digest", [D[:-1], D + "0", D.upper(), "leek", "%00", f"{D}%00", f"..%2F{D}"])
@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "PATCH"])
def test_facts_of_no_blob(soup: Server, method: str, digest: str) -> None:
    """
    Under /api/blob/ too, only 64 lower-case digits are a digest.
    """
    body = {"PUT": LEEK, "PATCH": b'{"blocked": true}'}.get(method, b"")
    headers = ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    with wire(soup) as connection:
        connection.ask(
            f"{method} /api/blob/{digest}", *headers, f"Authorization: Bearer {soup.token}", body=body
        )
        judge(connection.answer(), 400, 404)


RANGES = [
    "-0",
    "4-",
    "9-12",
    "3-1",
    "--1",
    "-",
    "a-b",
    "1-2-3",
    "0-1,1-2",
    "0-,-1",
    "",
    ",",
    "0x0-1",
    "1",
    "٣-",
]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("asked", [*RANGES, f"{'9' * 30}-", f"{'9' * 3000}-", "0-0," * 1000 + "0-0"])
def test_a_range_that_cannot_be(soup: Server, asked: str) -> None:
    """
    Ranges that lie outside, overlap or are none: 416 with the size.
    """
    with wire(soup) as connection:
        answer = connection.ask(f"GET /{D}", f"Range: bytes={asked}").answer()

    judge(answer, 416)
    assert "bytes */4" == answer.headers["content-range"]
    assert D == json.loads(answer.body)["digest"]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", f"/{D}", {"GET", "HEAD", "OPTIONS", "PUT"}),
        ("DELETE", f"/{D}", {"GET", "HEAD", "OPTIONS", "PUT"}),
        ("PATCH", f"/{D}", {"GET", "HEAD", "OPTIONS", "PUT"}),
        ("TRACE", f"/{D}", {"GET", "HEAD", "OPTIONS", "PUT"}),
        ("COOK", f"/{D}", {"GET", "HEAD", "OPTIONS", "PUT"}),
        ("DELETE", "/api/blob", {"POST", "PUT"}),
        ("POST", f"/api/blob/{D}", {"GET", "PUT", "PATCH", "DELETE"}),
        ("PUT", "/api/blob:missing", {"POST"}),
        ("POST", "/healthz", {"GET", "HEAD"}),
    ],
)
def test_a_method_that_is_not_here(soup: Server, method: str, path: str, allowed: set[str]) -> None:
    """
    405 names the methods that are.
    """
    with wire(soup) as connection:
        answer = connection.ask(
            f"{method} {path}", f"Authorization: Bearer {soup.token}", "Content-Length: 0"
        ).answer()

    judge(answer, 405)
    assert allowed <= {name.strip() for name in answer.headers["allow"].split(",")}
