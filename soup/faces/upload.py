"""New bytes (D5): PUT and POST of a blob."""

from typing import Any

import msgspec
from litestar.types import ASGIApp, Receive, Scope, Send

from soup.access.model import Kind
from soup.blobs.service import Blobs
from soup.core import conditional
from soup.core.blob import State
from soup.core.digest import Digest
from soup.core.errors import NotAsExpected, SoupError
from soup.faces import body, reply
from soup.faces.auth import Doors
from soup.faces.cors import digest_of
from soup.faces.errors import Headers, problem, send_all
from soup.faces.manners import Manners

PATH = "/api/blob"
METHODS = frozenset({"POST", "PUT"})
WRITERS = frozenset({Kind.ADMIN, Kind.WRITE})


class Upload:
    """Takes uploads, and passes on everything else.

    The framework's routes describe them, and answer where the address is wrong: to be asked through it costs
    a small upload a third of its time.
    """

    def __init__(self, rest: ASGIApp, blobs: Blobs, doors: Doors, manners: Manners) -> None:
        self._rest, self._blobs, self._doors, self._manners = rest, blobs, doors, manners

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        request: Any = scope
        path, method = request["path"], request.get("method")
        named = method == "PUT" and path.startswith(PATH) and digest_of(path.removeprefix(PATH)) is not None
        if not (named or (path == PATH and method in METHODS)):
            await self._rest(scope, receive, send)
            return
        try:
            await self._doors.need(request["soup.headers"], WRITERS)
            digest = Digest(path.removeprefix(f"{PATH}/")) if named else None
            code, headers, answer = await keep(request, receive, self._blobs, self._manners, digest)
        except SoupError as error:
            code, headers, answer = problem(error, request["soup.headers"])
        await send_all(send, code, headers, answer)


async def keep(
    scope: Any, receive: Receive, blobs: Blobs, manners: Manners, digest: Digest | None
) -> tuple[int, Headers, bytes]:
    """Keep what a request brings, under this digest or its own: status, headers and body of the answer.

    Raises what `Blobs.expect` and `Blobs.keep` do, BodyRefused, BadBody, LengthRequired, NotAsExpected,
    ClientGone, TooSlow.
    """
    headers: dict[bytes, bytes] = scope["soup.headers"]
    length = body.announced(scope)
    unless = headers.get(b"if-none-match", b"").decode("latin-1")
    only_new = bool(unless) and (
        unless.strip() == "*" or (digest is not None and conditional.listed(unless, digest.etag))
    )
    with blobs.place(manners.upload_slots):
        await blobs.expect(digest, length, only_new=only_new)
        if b"if-match" in headers:
            await _match(headers, blobs, digest)
        kept = await blobs.keep(body.pieces(receive, length), digest, only_new=only_new)
    path = f"/{kept.digest}"
    told = {"digest": str(kept.digest), "size": kept.size, "url": (manners.url or _asked_as(headers)) + path}
    answer = msgspec.json.encode(told)
    return (
        201 if kept.new else 200,
        [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(answer)),
            (b"location", path.encode()),
            (b"etag", kept.digest.etag.encode()),
        ],
        answer,
    )


async def _match(headers: dict[bytes, bytes], blobs: Blobs, digest: Digest | None) -> None:
    """Raises NotAsExpected where nothing is here that If-Match could name."""
    found = await blobs.ask(digest.raw) if digest is not None else None
    if digest is None or found is None or found[2] != State.PRESENT:
        raise NotAsExpected("If-Match asks for what is here already, and nothing is", digest=digest)
    reply.match(headers, digest)


def _asked_as(headers: dict[bytes, bytes]) -> str:
    """How the client reached soup, or the proxy in front of it."""
    scheme = "https" if headers.get(b"x-forwarded-proto") == b"https" else "http"
    return f"{scheme}://{headers.get(b'host', b'localhost').decode('latin-1')}"
