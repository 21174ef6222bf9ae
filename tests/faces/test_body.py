"""Bodies of requests: what they say they are, and what comes."""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soup.core.errors import BadBody, BodyRefused, ClientGone, LengthRequired, TooLarge
from soup.faces import body


def scope(version: str = "1.1", **headers: str) -> dict[str, Any]:
    given = {name.replace("_", "-").encode(): value.encode("latin-1") for name, value in headers.items()}
    return {"http_version": version, "soup.headers": given}


def coming(pieces: Iterable[bytes]) -> Any:
    """A `receive` that hands out these pieces."""
    messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages.append({"type": "http.request", "body": b"", "more_body": False})
    left = iter(messages)

    async def receive() -> dict[str, object]:
        return next(left)

    return receive


@pytest.mark.parametrize(
    ("headers", "length"),
    [
        ({"content_length": "0"}, 0),
        ({"content_length": "12"}, 12),
        ({"transfer_encoding": "chunked"}, None),
        ({"content_length": "1", "content_encoding": "identity"}, 1),
        ({"content_length": "1", "content_encoding": " Identity "}, 1),
        ({"content_length": "1", "content_type": "text/html; charset=utf-8"}, 1),
        ({"content_length": "1", "content_type": "application/x-www-form-urlencoded"}, 1),
        ({"content_length": "1", "content_type": "multipart/mixed"}, 1),
    ],
)
def test_an_upload_that_is_welcome(headers: dict[str, str], length: int | None) -> None:
    """
    Raw bytes of any type, with a length or in chunks.
    """
    assert length == body.announced(scope(**headers))


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({}, LengthRequired),
        ({"content_length": "1", "content_type": "multipart/form-data; boundary=x"}, BodyRefused),
        ({"content_length": "1", "content_type": " Multipart/Form-Data"}, BodyRefused),
        ({"content_length": "1", "content_encoding": "gzip"}, BodyRefused),
        ({"content_length": "1", "content_encoding": "identity, gzip"}, BodyRefused),
        ({"content_length": "1", "content_range": "bytes 0-0/2"}, BadBody),
        ({"content_length": "1", "content_range": ""}, BadBody),
        ({"content_length": "-1"}, BadBody),
        ({"content_length": "+1"}, BadBody),
        ({"content_length": "1, 1"}, BadBody),
        ({"content_length": "\u00b2"}, BadBody),
        ({"content_length": ""}, BadBody),
    ],
)
def test_an_upload_that_is_not(headers: dict[str, str], error: type[Exception]) -> None:
    """
    Forms, encoded bytes and parts are no blobs, and a body without an end cannot come.
    """
    with pytest.raises(error):
        body.announced(scope(**headers))


@given(st.lists(st.binary(max_size=9), max_size=9))
async def test_all_that_comes(pieces: list[bytes]) -> None:
    """
    The bytes come as they were sent, and no empty piece among them.
    """
    whole = b"".join(pieces)

    got = [piece async for piece in body.pieces(coming(pieces), len(whole))]

    assert whole == b"".join(got)
    assert all(got)


@pytest.mark.parametrize("length", [3, 5])
async def test_another_length_than_announced(length: int) -> None:
    """
    A body that is shorter or longer than it said was not all there.
    """
    with pytest.raises(ClientGone):
        [piece async for piece in body.pieces(coming([b"le", b"ek"]), length)]


async def test_a_small_body() -> None:
    """
    A small body is read whole, up to the last byte that is allowed and no further.
    """
    assert b"leek" == await body.small(coming([b"le", b"ek"]), largest=4)
    with pytest.raises(TooLarge):
        await body.small(coming([b"le", b"eks"]), largest=4)


async def test_a_body_that_would_never_end() -> None:
    """
    Too large is known as soon as it is true: the rest is not waited for.
    """

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"leek", "more_body": True}

    with pytest.raises(TooLarge):
        await body.small(receive, largest=1000)
