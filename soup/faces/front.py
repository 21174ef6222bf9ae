"""The hot path: GET and HEAD of `/<sha256>`, in front of the framework (D3).

A redirect costs one lookup and one draw. What a request rarely has (a query, credentials, a method that is
not GET) is looked at only where it is there. A miss costs what a hit costs: there is no negative cache, so
what one process has acknowledged all find at once.
"""

import asyncio
from binascii import b2a_base64
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any
from urllib.parse import parse_qsl

import structlog
from litestar.types import ASGIApp, Receive, Scope, Send

from soup import metrics
from soup.access.model import Kind
from soup.blobs.index import Ask
from soup.blobs.service import Blobs
from soup.core.blob import Blob, State
from soup.core.digest import Digest
from soup.core.errors import (
    BlobBlocked,
    BlobMissing,
    BlobUnknown,
    Invalid,
    NotAllowed,
    SoupError,
    Unauthenticated,
    Unavailable,
)
from soup.faces import reply
from soup.faces.auth import CREDENTIALS, Doors
from soup.faces.cors import CORS, is_blob
from soup.faces.errors import Headers, problem, send_all, status
from soup.faces.manners import Manners
from soup.faces.slots import Slots
from soup.mirrors.service import Mirrors

log = structlog.get_logger(__name__)

PRESENT, BLOCKED = int(State.PRESENT), int(State.BLOCKED)
TALLY = 0.1  # seconds after which counts are handed to the metrics
BOUNDS = metrics.BLOB_BOUNDS
FIRST = BOUNDS[0]
ANSWERS = {307: "redirect", 200: "direct", 206: "direct", 304: "direct"}  # any other is refused
MIRRORS = "mirrors"
ALLOW = b"GET, HEAD, OPTIONS, PUT"
JUDGED = frozenset({b"if-match", b"if-unmodified-since"})  # by nginx too, and without our entity tag
READERS = frozenset({Kind.ADMIN, Kind.READ, Kind.MIRROR})

_REDIRECT: Headers = [(b"cache-control", b"no-store"), (b"content-length", b"0"), *CORS]
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

Answer = tuple[int, Headers, tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request says besides the digest.

    `mirror` is the id of the mirror that asks, 0 for anybody else; `elsewhere`: it would as soon fetch the
    bytes from another mirror.
    """

    trusted: bool = False
    mirror: int = 0
    direct: bool = False
    elsewhere: bool = False
    download: str | None = None


PLAIN = Asked()


def _prepared(kind: type[SoupError], detail: str) -> Answer:
    """The answer to an error that is worked out but for its digest: raising costs more than a redirect."""
    blank = "0" * 64
    code, headers, body = problem(kind(detail, digest=blank))
    before, after = body.split(blank.encode())
    return code, [*headers, *CORS], (before, after)


UNKNOWN_ANSWER = _prepared(BlobUnknown, "no such blob")
BLOCKED_ANSWER = _prepared(BlobBlocked, "an administrator has blocked it")


class Front:
    """Answers requests for a blob by its digest and passes on everything else."""

    def __init__(
        self,
        rest: ASGIApp,
        blobs: Blobs,
        mirrors: Mirrors,
        doors: Doors,
        manners: Manners,
        sync: Slots,
    ) -> None:
        self._rest, self._blobs, self._mirrors, self._doors = rest, blobs, mirrors, doors
        self._manners, self._slots, self._sync = manners, Slots("slots"), sync
        self._tally: dict[int, list[float]] = {}  # by status: how many in each bucket of time, and their sum

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        path = scope["path"]
        if not is_blob(path):
            await self._rest(scope, receive, send)
            return
        request: Any = scope
        method = request["method"]
        if method in {"GET", "HEAD"}:
            request["soup.began"] = perf_counter()
            try:
                await self._get(request, path, receive, send)
            except SoupError as error:
                if "soup.started" not in request:
                    self._count(request, status(type(error)))
                raise
        elif method == "PUT":
            # An alias: one route takes uploads. The answer says so to nobody.
            request["path"] = f"/api/blob{path}"
            request["raw_path"] = request["path"].encode()
            request["soup.cors"] = CORS
            await self._rest(scope, receive, send)
        elif method == "OPTIONS":
            await send_all(send, 204, [*_PREFLIGHT, *request["soup.ids"]])
        else:
            raise NotAllowed(f"{method} is not for a blob", allow=ALLOW.decode(), digest=path[1:])

    async def _get(self, scope: Any, path: str, receive: Receive, send: Send) -> None:
        headers: dict[bytes, bytes] = scope["soup.headers"]
        raw = bytes.fromhex(path[1:])
        asked = PLAIN
        if self._manners.closed or not CREDENTIALS.isdisjoint(headers):
            asked = Asked(trusted=True, mirror=await self._mirror(headers))
        if scope["query_string"]:
            asked = _query(scope["query_string"], asked)
        found = self._blobs.peek(raw)
        if isinstance(found, Ask):
            found = await self._blobs.ask(raw)
        if found is None or found[2] != PRESENT:
            blocked = found is not None and found[2] == BLOCKED
            await self._refuse(scope, send, path[1:], BLOCKED_ANSWER if blocked else UNKNOWN_ANSWER)
            return
        seq, size, _ = found
        if self._may_redirect(asked) and await self._redirect(scope, send, raw, path, seq, size, asked):
            return
        blob = Blob(Digest(path[1:]), size)
        try:
            await self._direct(scope, receive, send, blob, asked)
        except BlobMissing as error:
            metrics.BLOBS_MISSING.inc()
            self._blobs.suspect(blob)
            log.error("blob.missing", digest=blob.digest, reason=str(error))  # noqa: TRY400 - it says all
            started = scope.get("soup.started")
            if started or not self._manners.redirects:
                raise
            if not await self._redirect(scope, send, raw, path, seq, size, asked):
                raise

    def _may_redirect(self, asked: Asked) -> bool:
        """Whether bytes from elsewhere will do.

        A mirror wants them from here, or it might be sent to one that has as little, and both in a circle
        (C10); a full one may ask to be sent to another full one, which has fetched its blobs already (D8).
        """
        if not self._manners.redirects or asked.direct:
            return False
        return not asked.mirror or (asked.elsewhere and self._mirrors.full(asked.mirror))

    async def _redirect(
        self, scope: Any, send: Send, raw: bytes, path: str, seq: int, size: int, asked: Asked
    ) -> bool:
        mirrors = self._mirrors
        if mirrors.stale:
            await mirrors.catch_up()
        links = mirrors.links(
            raw, seq, size, 1 + self._manners.alternates, trusted=asked.trusted, asker=asked.mirror
        )
        if not links:
            return False
        self._count(scope, 307)
        digest = path[1:].encode()
        headers = [
            (b"location", links[0] + digest),
            (b"digest", b"SHA-256=" + b2a_base64(raw, newline=False)),
            *_REDIRECT,
            *scope["soup.ids"],
        ]
        if len(links) > 1:
            headers.append((b"link", _duplicates(links[1:], digest)))
        await send({"type": "http.response.start", "status": 307, "headers": headers})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        return True

    async def _direct(self, scope: Any, receive: Receive, send: Send, blob: Blob, asked: Asked) -> None:
        answer = reply.decide(scope["soup.headers"], blob, asked.download)
        answer.headers.extend(scope["soup.ids"])
        if answer.span is None:
            self._count(scope, answer.status)
            await send_all(send, answer.status, answer.headers)
            return
        if asked.mirror:
            place = self._sync.place(self._manners.sync_slots, blob.digest)
        else:
            place = self._slots.place(self._manners.direct_slots, blob.digest)
        with place, await self._blobs.open(blob) as opened:
            self._count(scope, answer.status)
            if scope["method"] == "HEAD":
                await send_all(send, answer.status, answer.headers)
            elif self._manners.accel and opened.data is None and JUDGED.isdisjoint(scope["soup.headers"]):
                await send_all(send, 200, _accelerated(answer.headers, blob))
            elif opened.data is not None:
                body = opened.data[answer.span.first : answer.span.last + 1]
                metrics.BLOB_SENT_BYTES.inc(len(body))
                await send_all(send, answer.status, answer.headers, body)
            else:
                scope["soup.started"] = True
                pieces = opened.pieces(answer.span)
                await reply.stream(receive, send, answer, pieces, self._manners.serve_idle)

    async def _mirror(self, headers: dict[bytes, bytes]) -> int:
        """The id of the mirror that asks; 0 where none does.

        Raises Unauthenticated where reading needs a token.

        Where it does not, a token that nobody has changes nothing, and neither does one that cannot be asked
        after: clients send what they hold to everybody.
        """
        if self._manners.closed:
            return (await self._doors.need(headers, READERS)).mirror_id or 0
        if b"authorization" not in headers:
            return 0
        try:
            token = await self._doors.who(headers)
        except (Unauthenticated, Unavailable):
            return 0
        return (token.mirror_id or 0) if token is not None else 0

    async def _refuse(self, scope: Any, send: Send, digest: str, answer: Answer) -> None:
        code, headers, (before, after) = answer
        self._count(scope, code)
        body = before + digest.encode() + after
        await send({"type": "http.response.start", "status": code, "headers": [*headers, *scope["soup.ids"]]})
        await send(
            {
                "type": "http.response.body",
                "body": b"" if scope["method"] == "HEAD" else body,
                "more_body": False,
            }
        )

    def _count(self, scope: Any, code: int) -> None:
        seconds = perf_counter() - scope["soup.began"]
        try:
            row = self._tally[code]
        except KeyError:
            row = self._row(code)
        # Nearly always the first, and to look is cheaper than to search.
        row[0 if seconds <= FIRST else bisect_left(BOUNDS, seconds)] += 1
        row[-1] += seconds

    def _row(self, code: int) -> list[float]:
        if not self._tally:
            asyncio.get_running_loop().call_later(TALLY, self.flush)
        return self._tally.setdefault(code, [0] * (len(BOUNDS) + 2))

    def flush(self) -> None:
        """Hand the counts of the last moment to the metrics."""
        tally, self._tally = self._tally, {}
        for code, (*counts, seconds) in tally.items():
            metrics.REQUESTS.labels(str(code)).inc(sum(counts))
            metrics.REQUEST_SECONDS.labels(ANSWERS.get(code, "refused")).add(counts, seconds)


def _query(query: bytes, asker: Asked) -> Asked:
    """What a query asks for with `direct`, `from` and `download`; anything else in it is ignored (C13)."""
    try:
        fields = dict(parse_qsl(query.decode(), keep_blank_values=True, errors="strict", max_num_fields=50))
    except ValueError as error:
        raise Invalid("a query that cannot be read") from error
    direct = fields.get("direct", "0")
    if direct not in {"0", "1"}:
        raise Invalid(f"direct is 0 or 1, not {direct[:20]!r}")
    if asker.mirror and fields.get("from", MIRRORS) != MIRRORS:
        raise Invalid(f"from is {MIRRORS}, not {fields['from'][:20]!r}")
    download = fields.get("download")
    return replace(
        asker,
        direct=direct == "1",
        elsewhere="from" in fields,
        download=None if download is None else reply.file_name(download),
    )


def _duplicates(links: Sequence[bytes], digest: bytes) -> bytes:
    """Where else the blob is (RFC 6249)."""
    named = [b"<%s%s>; rel=duplicate; pri=%d" % (link, digest, place) for place, link in enumerate(links, 1)]
    return b", ".join(named)


def _accelerated(headers: Headers, blob: Blob) -> Headers:
    """For an nginx in front: it has the folder, judges the range, and knows the length (D4)."""
    dropped = {b"accept-ranges", b"content-length", b"content-range"}
    kept = [header for header in headers if header[0] not in dropped]
    place = f"/soup-blobs/{blob.digest.folder}/{blob.digest}".encode()
    return [*kept, (b"x-accel-redirect", place), (b"content-length", b"0")]
