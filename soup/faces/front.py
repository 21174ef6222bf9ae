"""The hot path: GET and HEAD of `/<sha256>`, in front of the framework (D3).

A redirect costs one lookup and one draw. What a request rarely has (a query, credentials, a method that is
not GET) is looked at only where it is there. A miss costs what a hit costs: there is no negative cache, so
what one process has acknowledged all find at once.
"""

from binascii import b2a_base64
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import structlog
from litestar.types import ASGIApp, Receive, Scope, Send

from soup import metrics
from soup.blobs.index import Ask
from soup.blobs.service import Blobs
from soup.core.blob import Blob, State
from soup.core.digest import Digest
from soup.core.errors import BlobBlocked, BlobMissing, BlobUnknown, NotAllowed, SoupError
from soup.faces.asked import PLAIN, Asked, Asking
from soup.faces.auth import CREDENTIALS
from soup.faces.cors import CORS, digest_of
from soup.faces.direct import Direct
from soup.faces.errors import NO_STORE, Headers, problem, send_all, status
from soup.faces.manners import Manners
from soup.faces.tally import Tally
from soup.mirrors.service import Mirrors

log = structlog.get_logger(__name__)

PRESENT, BLOCKED = int(State.PRESENT), int(State.BLOCKED)
ALLOW = b"GET, HEAD, OPTIONS, PUT"

_REDIRECT: Headers = [*NO_STORE, (b"content-length", b"0"), *CORS]
_PREFLIGHT: Headers = [
    (b"access-control-allow-methods", ALLOW),
    (
        b"access-control-allow-headers",
        b"Authorization, Content-Type, If-Match, If-None-Match, If-Range, Range, X-Request-Id",
    ),
    (b"access-control-max-age", b"86400"),
    (b"allow", ALLOW),
    *CORS,
]

USUAL = 3  # links: one, and two others
_TWO = b"<%s%s>; rel=duplicate; pri=1, <%s%s>; rel=duplicate; pri=2"

Answer = tuple[int, Headers, tuple[bytes, bytes]]


def _prepared(kind: type[SoupError], detail: str) -> Answer:
    """The answer to an error that is worked out but for its digest: raising costs more than a redirect."""
    blank = "0" * 64
    code, headers, body = problem(kind(detail, digest=blank))
    before, after = body.split(blank.encode())
    return code, [*headers, *NO_STORE, *CORS], (before, after)


UNKNOWN_ANSWER = _prepared(BlobUnknown, "no such blob")
BLOCKED_ANSWER = _prepared(BlobBlocked, "an administrator has blocked it")


class Front:
    """Answers requests for a blob by its digest and passes on everything else."""

    def __init__(
        self,
        rest: ASGIApp,
        blobs: Blobs,
        mirrors: Mirrors,
        asking: Asking,
        direct: Direct,
        manners: Manners,
        tally: Tally,
    ) -> None:
        self._rest, self._blobs, self._mirrors = rest, blobs, mirrors
        self._asking, self._direct, self._manners, self._tally = asking, direct, manners, tally

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        path = scope["path"]
        raw = digest_of(path)
        request: Any = scope
        if raw is None or request["method"] not in {"GET", "HEAD"}:
            await self._pass_on(request, receive, send, blob=raw is not None)
            return
        request["soup.began"] = perf_counter()
        try:
            asked, headers, query = PLAIN, request["soup.headers"], request["query_string"]
            if query or self._manners.closed or not CREDENTIALS.isdisjoint(headers):
                asked = await self._asking.what(headers, query)
            found = self._blobs.peek(raw)
            if isinstance(found, Ask):
                found = await self._blobs.ask(raw)
            if found is None or found[2] != PRESENT:
                blocked = found is not None and found[2] == BLOCKED
                await self._refuse(request, send, BLOCKED_ANSWER if blocked else UNKNOWN_ANSWER)
                return
            if self._may_redirect(asked):
                if self._mirrors.stale:
                    await self._mirrors.catch_up()
                told = self._redirect(request, raw, found[0], found[1], asked)
                if told is not None:
                    await send({"type": "http.response.start", "status": 307, "headers": told})
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
                    return
            await self._bytes(request, receive, send, raw, found[0], found[1], asked)
        except SoupError as error:
            if "soup.started" not in request:
                self._tally.count(status(type(error)), request["soup.began"])
            raise

    def _may_redirect(self, asked: Asked) -> bool:
        """Whether bytes from elsewhere will do.

        A mirror wants them from here, or it might be sent to one that has as little, and both in a circle
        (C10); a full one may ask to be sent to another full one, which has fetched its blobs already (D8).
        """
        if not self._manners.redirects or asked.direct:
            return False
        return not asked.mirror or (asked.elsewhere and self._mirrors.full(asked.mirror))

    def _redirect(self, scope: Any, raw: bytes, seq: int, size: int, asked: Asked) -> Headers | None:
        """The headers of a redirect, which is counted; None where no mirror has the blob."""
        links = self._mirrors.links(
            raw, seq, size, 1 + self._manners.alternates, trusted=asked.trusted, asker=asked.mirror
        )
        if not links:
            return None
        digest = scope["path"][1:].encode()
        headers = [
            (b"location", links[0] + digest),
            (b"digest", b"SHA-256=" + b2a_base64(raw, newline=False)),
            *_REDIRECT,
            *scope["soup.ids"],
        ]
        if len(links) > 1:
            headers.append((b"link", _duplicates(links, digest)))
        self._tally.count(307, scope["soup.began"])
        return headers

    async def _bytes(
        self, scope: Any, receive: Receive, send: Send, raw: bytes, seq: int, size: int, asked: Asked
    ) -> None:
        blob = Blob(Digest(raw.hex()), size)
        try:
            await self._direct.answer(scope, receive, send, blob, asked)
        except BlobMissing as error:
            metrics.BLOBS_MISSING.inc()
            self._blobs.suspect(blob)
            log.error("blob.missing", digest=blob.digest, reason=str(error))  # noqa: TRY400 - it says all
            if scope.get("soup.started") or not self._manners.redirects:
                raise
            await self._mirrors.catch_up()
            told = self._redirect(scope, raw, seq, size, asked)
            if told is None:
                raise
            await send_all(send, 307, told)

    async def _refuse(self, scope: Any, send: Send, answer: Answer) -> None:
        code, headers, (before, after) = answer
        body = b"" if scope["method"] == "HEAD" else before + scope["path"][1:].encode() + after
        self._tally.count(code, scope["soup.began"])
        await send({"type": "http.response.start", "status": code, "headers": [*headers, *scope["soup.ids"]]})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    async def _pass_on(self, scope: Any, receive: Receive, send: Send, *, blob: bool) -> None:
        method, path = scope["method"], scope["path"]
        if not blob:
            await self._rest(scope, receive, send)
        elif method == "OPTIONS":
            await send_all(send, 204, [*_PREFLIGHT, *scope["soup.ids"]])
        elif method == "PUT":
            # An alias: one route takes uploads. The answer says so to nobody.
            scope["path"] = f"/api/blob{path}"
            scope["raw_path"] = scope["path"].encode()
            scope["soup.cors"] = CORS
            await self._rest(scope, receive, send)
        else:
            raise NotAllowed(f"{method[:40]} is not for a blob", allow=ALLOW.decode(), digest=path[1:])


def _duplicates(links: Sequence[bytes], digest: bytes) -> bytes:
    """Where else the blob is (RFC 6249): at all of these but the first."""
    if len(links) == USUAL:
        return _TWO % (links[1], digest, links[2], digest)
    named = [b"<%s%s>; rel=duplicate; pri=%d" % (link, digest, place) for place, link in enumerate(links)]
    return b", ".join(named[1:])
