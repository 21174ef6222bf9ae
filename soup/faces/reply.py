"""A blob and a request's conditions: which status, which headers, which bytes (RFC 9110, 13.2.2)."""

import asyncio
from binascii import b2a_base64
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from litestar.types import Receive, Send

from soup import metrics
from soup.core import conditional, span
from soup.core.blob import Blob
from soup.core.digest import Digest
from soup.core.errors import BadRange, Invalid, NotAsExpected, TooSlow
from soup.core.span import Span
from soup.faces.cors import CORS
from soup.faces.errors import Headers

FOREVER: Headers = [(b"cache-control", b"public, max-age=31536000, immutable")]
# `public` would let a shared cache give what a token was asked for to anybody (RFC 9111, 3.5)
OWN_FOREVER: Headers = [(b"cache-control", b"private, max-age=31536000, immutable")]
BYTES: Headers = [
    (b"content-type", b"application/octet-stream"),
    (b"x-content-type-options", b"nosniff"),
    (b"accept-ranges", b"bytes"),
]
_MAX_NAME = 255


@dataclass(frozen=True, slots=True)
class Reply:
    """What a direct answer will be. `span` is None where it has no body."""

    status: int
    headers: Headers
    span: Span | None


def decide(
    headers: dict[bytes, bytes],
    blob: Blob,
    download: str | None,
    *,
    closed: bool = False,
) -> Reply:
    """200, 206 or 304. Raises NotAsExpected (412) and BadRange (416).

    `closed`: not everybody may read it.
    """
    digest = blob.digest
    match(headers, digest)
    cached = OWN_FOREVER if closed else FOREVER
    common: Headers = [(b"etag", b'"%s"' % digest.encode()), *cached, *CORS]
    if b"if-none-match" in headers and conditional.listed(_text(headers, b"if-none-match"), digest.etag):
        return Reply(304, common, None)
    wanted = None
    if b"range" in headers:
        if_range = _text(headers, b"if-range") if b"if-range" in headers else None
        if conditional.range_applies(if_range, digest.etag):
            wanted = _span(_text(headers, b"range"), blob)
    sent = wanted or Span(0, blob.size - 1)
    common += (
        *BYTES,
        (b"content-length", b"%d" % sent.length),
        (b"repr-digest", b"sha-256=:%s:" % b2a_base64(digest.raw, newline=False)),
    )
    if download is not None:
        common.append((b"content-disposition", disposition(download)))
    if wanted is None:
        return Reply(200, common, sent)
    common.append((b"content-range", b"bytes %d-%d/%d" % (sent.first, sent.last, blob.size)))
    return Reply(206, common, sent)


def match(headers: dict[bytes, bytes], digest: Digest) -> None:
    """Raises NotAsExpected where If-Match names other content than this (13.1.1)."""
    if b"if-match" in headers and not conditional.strongly_listed(_text(headers, b"if-match"), digest.etag):
        raise NotAsExpected("If-Match names other content than this", digest=digest)


def _span(header: str, blob: Blob) -> Span | None:
    try:
        return span.asked(header, blob.size)
    except BadRange as error:
        error.digest = blob.digest
        raise


def _text(headers: dict[bytes, bytes], name: bytes) -> str:
    return headers[name].decode("latin-1")


def file_name(text: str) -> str:
    """A name a client may give a download.

    Raises Invalid for a path, control characters, or too long a name.
    """
    if not text.isprintable() or not text.strip() or len(text.encode()) > _MAX_NAME:
        raise Invalid(f"not a file name: {text[:80]!r}")
    if "/" in text or "\\" in text or text in {".", ".."}:
        raise Invalid(f"a file name, not a path: {text[:80]!r}")
    return text


def disposition(name: str) -> bytes:
    """Content-Disposition for a file name (RFC 6266): a plain form for old clients, then the exact one."""
    plain = "".join(c if c.isascii() and c not in '"\\%;' else "_" for c in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}".encode()


async def stream(
    receive: Receive, send: Send, reply: Reply, pieces: AsyncIterator[bytes], idle: float
) -> None:
    """Send bytes as the client takes them. Stops reading when the client has left: `send` would not say so.

    Raises TooSlow when a piece is not taken within `idle` seconds.
    """
    await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
    left = asyncio.create_task(_left(receive))
    now = asyncio.get_running_loop().time
    try:
        async with asyncio.timeout(None) as limit:
            async for piece in pieces:
                if left.done():
                    return
                metrics.BLOB_SENT_BYTES.inc(len(piece))
                limit.reschedule(now() + idle)
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                limit.reschedule(None)  # reading has limits of its own
                del piece  # so that its buffer can be filled again
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    except TimeoutError as error:
        raise TooSlow(f"the client took nothing for {idle:g} s") from error
    finally:
        left.cancel()


async def _left(receive: Receive) -> None:
    message: Any = {}
    while message.get("type") != "http.disconnect":
        message = await receive()
