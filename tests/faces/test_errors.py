"""Errors meet HTTP: a status for each, a document that says it, and a guard in front of everything."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soup.core import errors
from soup.core.errors import BadRange, BlobMissing, BlobUnknown, NotAllowed, SoupError, Unauthenticated
from soup.faces.errors import Guard, problem, status
from soup.faces.manners import Manners

DIGEST = "a" * 64


def family(kind: type[SoupError] = SoupError) -> Iterator[type[SoupError]]:
    for child in kind.__subclasses__():
        yield child
        yield from family(child)


def one_of(kind: type[SoupError]) -> SoupError:
    more: dict[type[SoupError], dict[str, Any]] = {BadRange: {"size": 4}, NotAllowed: {"allow": "GET"}}
    return kind("too much salt", digest=DIGEST, **more.get(kind, {}))


@pytest.mark.parametrize("kind", [kind for kind in family() if kind.__module__ == errors.__name__])
def test_every_error_has_a_status(kind: type[SoupError]) -> None:
    """
    Each has a status of a failure, and a document of its own that says what happened.
    """
    code, headers, body = problem(one_of(kind))

    assert code == status(kind)
    assert 400 <= code < 600
    assert {
        "type": f"urn:soup:error:{kind.slug()}",
        "title": kind.title(),
        "status": code,
        "detail": "too much salt",
        "digest": DIGEST,
    } == json.loads(body)
    assert b"application/problem+json" == dict(headers)[b"content-type"]
    assert str(len(body)).encode() == dict(headers)[b"content-length"]


def test_no_two_have_one_name() -> None:
    """
    Programs tell errors apart by their type.
    """
    slugs = [kind.slug() for kind in family()]

    assert sorted(set(slugs)) == sorted(slugs)


@pytest.mark.parametrize(
    ("error", "header"),
    [
        (BlobMissing("x"), (b"retry-after", b"30")),
        (errors.Busy("x"), (b"retry-after", b"1")),
        (errors.DatabaseDown("x"), (b"retry-after", b"1")),
        (Unauthenticated("x"), (b"www-authenticate", b'Bearer realm="soup"')),
        (BadRange("x", size=4), (b"content-range", b"bytes */4")),
        (NotAllowed("x", allow="GET, PUT"), (b"allow", b"GET, PUT")),
    ],
)
def test_what_a_status_must_carry(error: SoupError, header: tuple[bytes, bytes]) -> None:
    """
    RFC 9110 wants a challenge with 401, methods with 405, a size with 416; 503 says when to come back.
    """
    assert header in problem(error)[1]


SHOWN = {b"authorization": b"Bearer soup_turnip"}


@pytest.mark.parametrize(
    ("error", "sent", "challenge"),
    [
        (Unauthenticated("x"), SHOWN, b'Bearer realm="soup", error="invalid_token"'),
        (
            Unauthenticated("x"),
            {b"authorization": b"bearer x"},
            b'Bearer realm="soup", error="invalid_token"',
        ),
        (Unauthenticated("x"), {b"authorization": b"Basic x"}, b'Bearer realm="soup"'),
        (Unauthenticated("x"), {}, b'Bearer realm="soup"'),
        (errors.Denied("x"), SHOWN, b'Bearer realm="soup", error="insufficient_scope"'),
        (errors.JoiningOff("x"), SHOWN, None),
        (errors.Invalid("x"), SHOWN, None),
    ],
)
def test_what_is_wrong_with_a_token(
    error: SoupError, sent: dict[bytes, bytes], challenge: bytes | None
) -> None:
    """
    A client learns whether to get another token or a better one (RFC 6750, 3.1), if it has sent one at all.
    """
    assert challenge == dict(problem(error, sent)[1]).get(b"www-authenticate")


def test_an_error_without_a_digest() -> None:
    """
    Where there is no digest none is named.
    """
    assert "digest" not in json.loads(problem(errors.Invalid("x"))[2])


class Answered:
    """A guard in front of an application that does as it is told, and what came out."""

    def __init__(self, headers: list[tuple[bytes, bytes]], act: Any = None, **scope: Any) -> None:
        given = {"type": "http", "method": "GET", "path": f"/{DIGEST}", "http_version": "1.1"}
        self.scope: Any = {**given, "headers": headers, **scope}
        self.act, self.messages, self.reached = act, list[Any](), False

    async def _inner(self, scope: Any, _: Any, send: Any) -> None:
        self.reached = True
        if self.act is not None:
            await self.act(scope, send)

    async def _none(self, *_: Any) -> None:
        raise AssertionError

    async def _receive(self) -> Any:
        raise AssertionError

    async def _send(self, message: Any) -> None:
        self.messages.append(message)

    async def go(self) -> "Answered":
        await Guard(self._inner, Manners())(self.scope, self._receive, self._send)
        return self

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.messages[0]["headers"])


SOUP = (b"host", b"soup")


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"host", b"")],
        [SOUP, SOUP],
        [(b"host", b"soup/leek")],
        [(b"host", b"so up")],
        [(b"host", b"me@soup")],
        [(b"host", b"soup:x")],
        [(b"host", b"soup:123456")],
        [(b"host", b"[::1")],
        [(b"host", b"soup, other")],
        [SOUP, (b"transfer-encoding", b"chunked, chunked")],
        [SOUP, (b"transfer-encoding", b"cow")],
        [SOUP, (b"transfer-encoding", b"")],
        [SOUP, (b"transfer-encoding", b"chunked"), (b"content-length", b"4")],
        [SOUP, (b"content-length", b"4"), (b"content-length", b"4")],
        [SOUP, (b"authorization", b"Bearer a"), (b"authorization", b"Bearer b")],
        [SOUP, (b"range", b"bytes=0-1"), (b"range", b"bytes=2-3")],
        [SOUP, (b"if-range", b'"a"'), (b"if-range", b'"b"')],
    ],
)
async def test_a_request_that_is_not_clean(headers: list[tuple[bytes, bytes]]) -> None:
    """
    What two parsers could read in two ways reaches nobody.
    """

    async def no_body() -> Any:
        return {"type": "http.disconnect"}

    answered = Answered(headers)
    answered._receive = no_body  # type: ignore[method-assign]
    await answered.go()

    assert not answered.reached
    assert 400 == answered.status
    assert b"*" == answered.headers[b"access-control-allow-origin"]
    assert answered.headers[b"x-request-id"]


@pytest.mark.parametrize("host", [[], [(b"host", b"")], [SOUP]])
async def test_an_old_client(host: list[tuple[bytes, bytes]]) -> None:
    """
    HTTP/1.0 knows no Host.
    """
    assert (await Answered(host, http_version="1.0").go()).reached


async def test_lists_in_several_lines() -> None:
    """
    Lines of one name are one list, in order.
    """
    answered = await Answered([SOUP, (b"if-none-match", b'"a"'), (b"if-none-match", b'"b"')]).go()

    assert b'"a", "b"' == answered.scope["soup.headers"][b"if-none-match"]


@pytest.mark.parametrize(("size", "status"), [(8192, None), (8193, 431)])
async def test_a_long_header(size: int, status: int | None) -> None:
    """
    A header may be as long as nginx and Apache read, and no longer.
    """
    answered = await Answered([SOUP, (b"x-long", b"x" * size)]).go()

    assert (status is None) == answered.reached
    assert status is None or status == answered.status


async def test_what_nobody_foresaw() -> None:
    """
    An error of another kind is a 500 that says nothing of the inside; the log has it under the request's id.
    """

    async def fail(*_: Any) -> None:
        raise RuntimeError("the secret ingredient")

    answered = await Answered([SOUP, (b"x-request-id", b"abc")], fail).go()

    assert 500 == answered.status
    assert b"abc" == answered.headers[b"x-request-id"]
    assert b"secret" not in answered.messages[1]["body"]


async def test_a_failure_in_the_middle_of_an_answer() -> None:
    """
    Once a status is out, breaking off is the only true answer left.
    """

    async def fail(scope: Any, send: Any) -> None:
        scope["soup.started"] = True
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise BlobMissing("its file became shorter")

    answered = Answered([SOUP], fail)
    with pytest.raises(BlobMissing):
        await answered.go()

    assert [200] == [message["status"] for message in answered.messages]


async def test_an_error_is_answered() -> None:
    """
    What is raised on purpose becomes its document.
    """

    async def fail(*_: Any) -> None:
        raise BlobUnknown("no such blob", digest=DIGEST)

    answered = await Answered([SOUP], fail).go()

    assert (404, DIGEST) == (answered.status, json.loads(answered.messages[1]["body"])["digest"])


@given(
    st.lists(
        st.tuples(st.sampled_from([b"host", b"x-request-id", b"accept"]), st.binary(max_size=70)), max_size=4
    )
)
async def test_any_headers(headers: list[tuple[bytes, bytes]]) -> None:
    """
    Whatever the headers say: a request is passed on clean or refused, and its id is hexadecimal.
    """
    answered = await Answered(headers).go()

    assert answered.reached or answered.status == 400
    assert all(0 < len(value) <= 64 and int(value, 16) >= 0 for _, value in answered.scope["soup.ids"])
