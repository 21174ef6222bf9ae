"""What a direct answer says, worked out from a blob and a request's headers."""

import re
from email.message import Message
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soup.core.blob import Blob
from soup.core.digest import Digest
from soup.core.errors import BadRange, Invalid, NotAsExpected
from soup.core.span import Span
from soup.faces.reply import Reply, decide, disposition, file_name

LEEK = Blob(Digest.of(b"leek"), 4)
TAG = LEEK.digest.etag


def decided(download: str | None = None, **headers: str) -> Reply:
    given = {name.replace("_", "-").encode(): value.encode("latin-1") for name, value in headers.items()}
    return decide(given, LEEK, download)


@pytest.mark.row("S35")
def test_the_whole() -> None:
    """
    A blob is bytes under a name for ever, and nobody may guess what kind of bytes.
    """
    headers = dict(decided().headers)

    assert (200, Span(0, 3)) == (decided().status, decided().span)
    assert TAG.encode() == headers[b"etag"]
    assert b"public, max-age=31536000, immutable" == headers[b"cache-control"]
    assert b"nosniff" == headers[b"x-content-type-options"]
    assert b"application/octet-stream" == headers[b"content-type"]
    assert b"4" == headers[b"content-length"]
    assert f"sha-256=:{LEEK.digest.base64}:".encode() == headers[b"repr-digest"]
    assert b"content-disposition" not in headers


@pytest.mark.parametrize("condition", [{}, {b"range": b"bytes=0-1"}, {b"if-none-match": b"*"}])
def test_what_not_everybody_may_read(condition: dict[bytes, bytes]) -> None:
    """
    Where reading needs a token, who asked may keep the bytes for ever and no cache may share them.
    """
    headers = dict(decide(condition, LEEK, None, closed=True).headers)

    assert b"private, max-age=31536000, immutable" == headers[b"cache-control"]


# RFC 9110, 13.2.2: If-Match, then If-None-Match, then Range, which If-Range may call off.
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"if_match": TAG}, 200),
        ({"if_match": "*"}, 200),
        ({"if_match": f'"peas", {TAG}'}, 200),
        ({"if_match": f"W/{TAG}"}, 412),
        ({"if_match": '"peas"'}, 412),
        ({"if_match": '"peas"', "if_none_match": TAG}, 412),
        ({"if_match": TAG, "if_none_match": TAG}, 304),
        ({"if_none_match": "*"}, 304),
        ({"if_none_match": f"W/{TAG}"}, 304),
        ({"if_none_match": f'"peas" , {TAG}'}, 304),
        ({"if_none_match": '"peas"'}, 200),
        ({"if_none_match": LEEK.digest}, 200),
        ({"if_none_match": TAG, "range": "bytes=0-1"}, 304),
        ({"if_none_match": TAG, "range": "bytes=9-"}, 304),
        ({"if_none_match": '"peas"', "range": "bytes=0-1"}, 206),
        ({"range": "bytes=0-1"}, 206),
        ({"range": "bytes=0-3"}, 206),
        ({"range": "BYTES=0-1"}, 206),
        ({"range": "bytes=9-"}, 416),
        ({"range": "bytes=0-1,1-2"}, 416),
        ({"range": "bytes=0-0,2-2"}, 200),
        ({"range": "leeks=0-1"}, 200),
        ({"range": "bytes=0-1", "if_range": TAG}, 206),
        ({"range": "bytes=0-1", "if_range": f"W/{TAG}"}, 200),
        ({"range": "bytes=0-1", "if_range": '"peas"'}, 200),
        ({"range": "bytes=0-1", "if_range": "Sat, 21 Nov 2026 12:00:00 GMT"}, 200),
        ({"range": "bytes=9-", "if_range": '"peas"'}, 200),
        ({"if_range": '"peas"'}, 200),
        ({"if_modified_since": "Sat, 21 Nov 2076 12:00:00 GMT"}, 200),
        ({"if_unmodified_since": "Sat, 21 Nov 1976 12:00:00 GMT"}, 200),
    ],
)
def test_conditions(headers: dict[str, str], status: int) -> None:
    """
    Conditions are judged in the order of RFC 9110; dates count for nothing where none is given.
    """
    refused = {412: NotAsExpected, 416: BadRange}
    if status in refused:
        with pytest.raises(refused[status]) as caught:
            decided(**headers)
        assert LEEK.digest == caught.value.digest
    else:
        assert status == decided(**headers).status


def test_a_part() -> None:
    """
    A part has its own length and place, and the digest of the whole.
    """
    part = decided(range="bytes=1-2")

    headers = dict(part.headers)
    assert (206, Span(1, 2)) == (part.status, part.span)
    assert (b"2", b"bytes 1-2/4") == (headers[b"content-length"], headers[b"content-range"])
    assert dict(decided().headers)[b"repr-digest"] == headers[b"repr-digest"]
    assert TAG.encode() == headers[b"etag"]


def test_nothing_new() -> None:
    """
    A 304 has no body, and says what a cache needs to keep what it has.
    """
    answer = decided(if_none_match="*")

    headers = dict(answer.headers)
    assert (304, None) == (answer.status, answer.span)
    assert {b"etag", b"cache-control", b"access-control-allow-origin"} <= headers.keys()
    assert b"content-length" not in headers


@given(
    st.text(st.characters(max_codepoint=255), max_size=60),
    st.text(st.characters(max_codepoint=255), max_size=60),
)
def test_any_range(range: str, if_range: str) -> None:
    """
    Whatever stands there: the answer is whole, a part inside the blob, or 416.
    """
    for headers in ({"range": range}, {"range": f"bytes={range}"}, {"range": range, "if_range": if_range}):
        try:
            answer = decided(**headers)
        except BadRange:
            continue
        assert answer.span
        assert 0 <= answer.span.first <= answer.span.last <= 3
        assert answer.status == 206 or answer.span == Span(0, 3)


@given(st.integers(-5, 9), st.integers(-5, 9))
def test_any_two_numbers(first: int, last: int) -> None:
    """
    A range from one number to another is a part exactly when it starts inside the blob and goes forward.
    """
    try:
        span = decided(range=f"bytes={first}-{last}").span
    except BadRange:
        span = None

    assert (Span(first, min(last, 3)) if 0 <= first <= min(last, 3) else None) == span


PATHS = ["", " ", "\t", ".", "..", "a/b", "/etc/passwd", "a\\b"]
CONTROLS = ["a\r\nX: 1", "a\0", "a\x7f", "a\u202eexe.pdf", "a\u2028b"]


@pytest.mark.parametrize("name", [*PATHS, *CONTROLS, "é" * 128, "x" * 300])
def test_no_file_name(name: str) -> None:
    """
    Paths, control characters, nothing, and more than 255 bytes are no names for a download.
    """
    with pytest.raises(Invalid):
        file_name(name)


@given(st.text())
def test_any_name(name: str) -> None:
    """
    What is taken for a name becomes one line of ASCII, from which every client reads it back as it was.
    """
    try:
        header = disposition(file_name(name))
    except Invalid:
        return

    text = header.decode("ascii")
    assert text.isprintable()
    plain, exact = re.fullmatch(
        r"attachment; filename=\"([^\"\\%;]*)\"; filename\*=UTF-8''([\w.~%-]+)", text
    ).groups()
    assert len(plain) == len(name)
    assert unquote(exact, errors="strict") == name


def test_a_name_with_quotes_and_letters() -> None:
    """
    Old clients read the first form, all others the second.
    """
    message = Message()
    message["Content-Disposition"] = disposition('Süppe "1";.txt').decode()

    assert (
        "attachment; filename=\"S_ppe _1__.txt\"; filename*=UTF-8''S%C3%BCppe%20%221%22%3B.txt"
        == message["content-disposition"]
    )
    assert "attachment" == message.get_content_disposition()
