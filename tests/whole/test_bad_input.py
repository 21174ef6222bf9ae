"""What no client should send: each is answered with a clear 4xx, and nothing has changed after it."""

import json

import pytest

from tests.conftest import Server, sha256
from tests.wire import Wire, judge, wire

LEEK = b"leek"
D = sha256(LEEK)


PATHS = [
    f"/{D[:-1]}",
    f"/{D}0",
    f"/{D.upper()}",
    f"/{D[:-1]}g",
    f"/{D}%00",
    f"/%00{D}",
    f"/{D[:32]}%00{D[33:]}",
    f"/{D}%0a",
    f"/{D}%20",
    f"/%2F{D}",
    f"/{D[:3]}%2F{D}",
    f"/{D[:3]}/{D}",
    f"/..%2F{D}",
    "/%2e%2e/%2e%2e/etc/passwd",
    "/../../etc/passwd",
    f"/x/../{D}",
    f"//{D}",
    f"///{D}",
    f"/./{D}",
    f"/{D};x=1",
    f"/%25{D}",
    f"/{D[:-3]}%ff",
    f"/%c0%af{D}",
]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
@pytest.mark.parametrize("path", PATHS)
def test_a_path_that_is_no_blob(soup: Server, path: str, method: str) -> None:
    """
    One segment of exactly 64 lower-case digits is a blob; whatever looks like it is not.
    """
    with wire(soup) as connection:
        given = [f"Authorization: Bearer {soup.token}", "Content-Length: 4"] if method == "PUT" else []
        body = LEEK if method == "PUT" else b""
        connection.ask(f"{method} {path}", *given, body=body)
        answer = connection.answer(bodyless=method == "HEAD")

    if method == "HEAD":
        assert answer.status in {400, 404, 405}
    else:
        judge(answer, 400, 404, 405)


def test_digits_in_disguise(soup: Server) -> None:
    """
    Digits that are percent-encoded are digits: the decoded path is judged.
    """
    disguised = "".join(f"%{ord(digit):02X}" for digit in D)

    with wire(soup) as connection:
        answer = connection.ask(f"GET /{disguised}").answer()

    assert (200, LEEK) == (answer.status, answer.body)


def test_a_blob_nobody_has(soup: Server) -> None:
    """
    Sixty-four zeros are a good name for nothing.
    """
    with wire(soup) as connection:
        answer = connection.ask(f"GET /{'0' * 64}").answer()

    judge(answer, 404)
    assert "0" * 64 == json.loads(answer.body)["digest"]
    assert "*" == answer.headers["access-control-allow-origin"]


HEADS = {
    "no host": (400, f"GET /{D} HTTP/1.1", []),
    "an empty host": (400, f"GET /{D} HTTP/1.1", ["Host:"]),
    "two hosts": (400, f"GET /{D} HTTP/1.1", ["Host: soup", "Host: soup"]),
    "a host with a path": (400, f"GET /{D} HTTP/1.1", ["Host: soup/leek"]),
    "a host with a space": (400, f"GET /{D} HTTP/1.1", ["Host: soup leek"]),
    "a host with a user": (400, f"GET /{D} HTTP/1.1", ["Host: me@soup"]),
    "a port that is none": (400, f"GET /{D} HTTP/1.1", ["Host: soup:leek"]),
    "chunked twice": (400, "PUT /api/blob HTTP/1.1", ["Host: s", "Transfer-Encoding: chunked, chunked"]),
    "chunked in two lines": (
        400,
        "PUT /api/blob HTTP/1.1",
        ["Host: s", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
    ),
    "an unknown coding": (400, "PUT /api/blob HTTP/1.1", ["Host: s", "Transfer-Encoding: cow"]),
    "an unknown coding before chunks": (
        400,
        "PUT /api/blob HTTP/1.1",
        ["Host: s", "Transfer-Encoding: cow, chunked"],
    ),
    "chunks inside out": (400, "PUT /api/blob HTTP/1.1", ["Host: s", "Transfer-Encoding: chunked, gzip"]),
    "two lengths": (400, "PUT /api/blob HTTP/1.1", ["Host: s", "Content-Length: 4", "Content-Length: 5"]),
    "a negative length": (400, "PUT /api/blob HTTP/1.1", ["Host: s", "Content-Length: -4"]),
    "a length in words": (400, "PUT /api/blob HTTP/1.1", ["Host: s", "Content-Length: four"]),
    "an endless length": (400, "PUT /api/blob HTTP/1.1", ["Host: s", f"Content-Length: {'9' * 30}"]),
    "a long header": (431, f"GET /{D} HTTP/1.1", ["Host: s", f"X-Long: {'x' * 10_000}"]),
    "a long header on a list": (431, "GET /api/blob:list HTTP/1.1", ["Host: s", f"Cookie: {'x' * 10_000}"]),
    "two ranges headers": (400, f"GET /{D} HTTP/1.1", ["Host: s", "Range: bytes=0-1", "Range: bytes=1-2"]),
    "a header with a NUL": (400, f"GET /{D} HTTP/1.1", ["Host: s", "X-Leek: a\x00b"]),
    "a folded header": (400, f"GET /{D} HTTP/1.1", ["Host: s", "X-Leek: a", " b"]),
    "a space before the colon": (400, f"GET /{D} HTTP/1.1", ["Host: s", "X-Leek : a"]),
    "a NUL in the path": (400, f"GET /{D}\x00 HTTP/1.1", ["Host: s"]),
    "a space in the path": (400, f"GET /{D} x HTTP/1.1", ["Host: s"]),
    "no such version": (400, f"GET /{D} HTTP/9.9", ["Host: s"]),
    "a method of odd letters": (400, f"G@T(T /{D} HTTP/1.1", ["Host: s"]),
}
UNREADABLE = {  # Granian's own parser refuses these before soup sees them, and says no more than the status
    "a negative length", "a length in words", "an endless length", "two lengths", "a header with a NUL",
    "a folded header", "a space before the colon", "a NUL in the path", "a space in the path",
    "no such version", "a method of odd letters", "an unknown coding", "chunks inside out",
}  # fmt: skip


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("what", HEADS)
def test_a_request_that_is_not_clean(soup: Server, what: str) -> None:
    """
    What two parsers could read in two ways is refused, and nothing behind it is read as another request.
    """
    status, line, headers = HEADS[what]
    put = line.startswith("PUT")
    given = [*headers, f"Authorization: Bearer {soup.token}"] if put else headers
    hidden = "GET /healthz HTTP/1.1\r\nHost: soup\r\n\r\n"
    request = "\r\n".join([line, *given, "", ""]) + (f"4\r\nleek\r\n0\r\n\r\n{hidden}" if put else "")

    with wire(soup) as connection:
        answer = connection.send(request.encode("latin-1")).answer()
        if put:
            assert connection.ended()

    assert status == answer.status
    if what not in UNREADABLE:
        judge(answer, status)
        if D in line:
            assert "*" == answer.headers["access-control-allow-origin"]


@pytest.mark.parametrize("first", ["Content-Length: 4", "Transfer-Encoding: chunked"])
def test_chunks_and_a_length(soup: Server, first: str) -> None:
    """
    Chunks count where there is a length as well, and nothing behind them is read as another request.
    """
    second = {"Content-Length: 4": "Transfer-Encoding: chunked"}.get(first, "Content-Length: 4")
    with wire(soup) as connection:
        connection.ask("PUT /api/blob", f"Authorization: Bearer {soup.token}", first, second)
        answer = connection.send(
            b"4\r\nleek\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: soup\r\n\r\n"
        ).answer()

        assert (200, f"/{D}") == (answer.status, answer.headers["location"])
        assert connection.ended()


@pytest.mark.parametrize("host", ["", "Host: soup\r\n"])
def test_http_1_0(soup: Server, host: str) -> None:
    """
    An old client need not name a host; it is answered and the connection ends.
    """
    with wire(soup) as connection:
        answer = connection.send(f"GET /{D} HTTP/1.0\r\n{host}\r\n".encode()).answer()

        assert (200, LEEK) == (answer.status, answer.body)
        assert connection.ended()


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("line", ["PUT /api/blob", "POST /api/blob", f"PUT /{sha256(b'')}"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_body_of_no_length(soup: Server, version: str, line: str) -> None:
    """
    An upload that says neither its length nor that it comes in chunks is not taken for an empty blob.
    """
    request = f"{line} HTTP/{version}\r\nHost: soup\r\nAuthorization: Bearer {soup.token}\r\n\r\nleek"
    with wire(soup) as connection:
        judge(connection.send(request.encode()).answer(), 411)


@pytest.mark.parametrize("host", ["soup", "soup:8080", "127.0.0.1", "[::1]:8080", "soup.example."])
def test_a_good_host(soup: Server, host: str) -> None:
    """
    Names, addresses and ports are hosts.
    """
    with Wire(soup.port) as connection:
        assert 200 == connection.send(f"GET /{D} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()).answer().status
