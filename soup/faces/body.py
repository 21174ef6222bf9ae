"""Reading a body. That it keeps coming is `exchange`'s business."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
from litestar import Request
from litestar.types import Receive

from soup.core.errors import BadBody, BodyRefused, ClientGone, LengthRequired, TooLarge

FRAMED = frozenset({"2", "3"})  # versions of HTTP in which a body ends by itself; Granian calls 1.0 "1"


def announced(scope: Any) -> int | None:
    """How many bytes an upload says it has; None for chunks, which do not say.

    Raises LengthRequired, and BodyRefused or BadBody for a body that is not the raw bytes of a whole blob.
    """
    headers: dict[bytes, bytes] = scope["soup.headers"]
    if media_type(headers) == b"multipart/form-data":
        raise BodyRefused("send the bytes as they are, not as a form: curl -T file, or --data-binary @file")
    if headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
        raise BodyRefused("send the bytes as they are: an encoded body has another digest")
    if b"content-range" in headers:
        raise BadBody("send the whole blob: a part of one has no name")
    length = headers.get(b"content-length")
    if length is not None:
        if not (length.isascii() and length.isdigit()):
            raise BadBody("a Content-Length that is no number")
        return int(length)
    if b"transfer-encoding" not in headers and scope["http_version"] not in FRAMED:
        raise LengthRequired("send a Content-Length, or chunks")
    return None


def media_type(headers: dict[bytes, bytes]) -> bytes:
    """The media type of a body, without its parameters."""
    return headers.get(b"content-type", b"").split(b";")[0].strip().lower()


async def pieces(receive: Receive, length: int | None = None) -> AsyncIterator[bytes]:
    """The bytes of a body as they come. Raises ClientGone when it is shorter or longer than `length`."""
    came = 0
    more = True
    while more:
        message: Any = await receive()
        piece: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        came += len(piece)
        if piece:
            yield piece
    if length is not None and came != length:
        raise ClientGone(f"{came} bytes came, {length} were announced")


async def small(receive: Receive, *, largest: int) -> bytes:
    """A whole body of at most `largest` bytes. Raises TooLarge."""
    read = bytearray()
    async for piece in pieces(receive):
        read += piece
        if len(read) > largest:
            raise TooLarge(f"more than {largest} bytes for a request like this")
    return bytes(read)


def exactly(kind: type[Any]) -> Callable[[Request[Any, Any, Any]], Awaitable[None]]:
    """For a route that takes JSON: the body is this to the letter, before the framework reads it.

    The framework would take "true" and 1 for true, and fails on what is no UTF-8 or nested too deep.
    """
    decoder = msgspec.json.Decoder(kind)

    async def check(request: Request[Any, Any, Any]) -> None:
        try:
            decoder.decode(await request.body())
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise BadBody(f"not the JSON that is wanted here: {error}") from error

    return check
