"""One table from errors to statuses, and the guard in front of everything (D12)."""

import re
import secrets
import time
from collections.abc import Collection, Mapping
from typing import Any, TypeAlias

import msgspec
import structlog
from litestar.types import ASGIApp, Receive, Scope, Send

from soup import metrics
from soup.core import errors
from soup.core.errors import SoupError
from soup.faces.cors import CORS, is_blob
from soup.faces.exchange import Exchange, has_body
from soup.faces.manners import Manners

log = structlog.get_logger(__name__)

Headers: TypeAlias = list[tuple[bytes, bytes]]

STATUS: dict[type[SoupError], int] = {
    errors.Invalid: 400,
    errors.LengthRequired: 411,
    errors.BodyRefused: 415,
    errors.BadRange: 416,
    errors.DigestMismatch: 422,
    errors.HeaderTooLarge: 431,
    errors.Unauthenticated: 401,
    errors.Denied: 403,
    errors.NotFound: 404,
    errors.NotAllowed: 405,
    errors.TooSlow: 408,
    errors.ClientGone: 400,
    errors.Conflict: 409,
    errors.Gone: 410,
    errors.NotAsExpected: 412,
    errors.TooLarge: 413,
    errors.Unavailable: 503,
    errors.NoRoom: 507,
    errors.Refused: 503,
}

NO_STORE: Headers = [(b"cache-control", b"no-store")]  # a cache may keep even a 404 where nothing is said
_CHALLENGE = b'Bearer realm="soup"'

LONGEST = 8192  # bytes of one header value, as nginx and Apache have it
_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%!$&'()*+,;=-]*)(:\d{0,5})?")
_REQUEST_ID = re.compile(rb"[0-9A-Fa-f]{1,64}")


def status(kind: type[SoupError]) -> int:
    """The status of an error: its own, or that of the nearest it descends from."""
    return next(STATUS[parent] for parent in kind.__mro__ if parent in STATUS)


def problem(error: SoupError, sent: Mapping[bytes, bytes] | None = None) -> tuple[int, Headers, bytes]:
    """An error as a problem document (RFC 9457): status, headers, body. `sent`: the request's headers."""
    kind, code = type(error), status(type(error))
    fields: dict[str, object] = {
        "type": f"urn:soup:error:{kind.slug()}",
        "title": kind.title(),
        "status": code,
        "detail": str(error),
    }
    if error.digest is not None:
        fields["digest"] = str(error.digest)
    body = msgspec.json.encode(fields)
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", b"%d" % len(body))]
    if isinstance(error, errors.Unavailable):
        headers.append((b"retry-after", b"%d" % error.retry_after))
    if isinstance(error, errors.Unauthenticated):
        wrong = (sent or {}).get(b"authorization", b"").lower().startswith(b"bearer ")
        headers.append((b"www-authenticate", _CHALLENGE + (b', error="invalid_token"' if wrong else b"")))
    if kind is errors.Denied:  # those that descend from it are not for want of a better token
        headers.append((b"www-authenticate", _CHALLENGE + b', error="insufficient_scope"'))
    if isinstance(error, errors.NotAllowed):
        headers.append((b"allow", error.allow.encode()))
    if isinstance(error, errors.BadRange):
        headers.append((b"content-range", b"bytes */%d" % error.size))
    if isinstance(error, errors.ClientGone | errors.TooSlow):
        headers.append((b"connection", b"close"))
    return code, headers, body


async def send_all(send: Send, code: int, headers: Headers, body: bytes = b"") -> None:
    """A whole answer in one go."""
    await send({"type": "http.response.start", "status": code, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


class Unexpected(SoupError):
    """Something failed that nobody foresaw. The log has it under the request's id."""


STATUS[Unexpected] = 500


class Guard:
    """Refuses what is no clean HTTP, gives each request an id, and turns what is raised into an answer.

    Granian lets through a request without Host or with two, and transfer encodings it does not know: two
    parsers that disagree about such a request are how requests are smuggled (RFC 9112, 3.2 and 6.1).

    Leaves in the scope, for all behind it: `soup.headers`, by lower-case name; `soup.ids`, the headers of the
    request's id, which every answer carries.

    `closed` is why nothing is answered yet, but for the paths in `always`.
    """

    def __init__(self, inner: ASGIApp, manners: Manners, always: Collection[str] = ()) -> None:
        self._inner, self._manners, self._always = inner, manners, always
        self.closed: str | None = None
        self._parting: Headers = []
        self._mark = secrets.token_hex(6).encode()
        self._count = 0
        self._hosts: set[bytes] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        request: Any = scope
        self._count += 1
        request["soup.ids"] = self._ids(b"%s%08x" % (self._mark, self._count))
        if self._manners.log_requests:
            send = _noting(request, send)
        try:
            request["soup.headers"] = headers = self._headers(request)
            if b"x-request-id" in headers and _REQUEST_ID.fullmatch(headers[b"x-request-id"]):
                request["soup.ids"] = self._ids(headers[b"x-request-id"])
            if self.closed is not None and scope["path"] not in self._always:
                raise errors.NotReady(self.closed)  # noqa: TRY301 - a call here would cost every request
            await self._inner(scope, receive, send)
        except SoupError as error:
            await _answer(request, receive, send, error)
        except Exception:
            log.exception(
                "request.failed", path=scope["path"][:200], request=request["soup.ids"][0][1].decode()
            )
            metrics.ERRORS.inc()
            await _answer(request, receive, send, Unexpected("something failed that should not; see the log"))

    def _ids(self, id: bytes) -> Headers:
        """What tells the request's id: the client's own, if it is hexadecimal, or one of ours (C19)."""
        return [(b"x-request-id", id), (b"x-amz-request-id", id), *self._parting]

    def part(self) -> None:
        """Let each client connect anew after its next answer, and find somebody else."""
        self._parting = [(b"connection", b"close")]

    def _headers(self, scope: Any) -> dict[bytes, bytes]:
        sent = scope["headers"]
        found: dict[bytes, bytes] = dict(sent)
        if len(found) < len(sent) or len(b"".join(found.values())) > LONGEST:
            found = _merged(sent)
        host = found.get(b"host")
        if host not in self._hosts:
            self._judge(host, scope["http_version"])
        if b"transfer-encoding" in found:
            if found[b"transfer-encoding"].strip().lower() != b"chunked":
                raise errors.Invalid("a transfer encoding other than chunked")
            if b"content-length" in found:
                raise errors.Invalid("both a length and a transfer encoding")
        return found

    def _judge(self, host: bytes | None, version: str) -> None:
        if not host:  # Granian writes an empty one where there is none
            if version == "1.1":
                raise errors.Invalid("no Host header")
            return
        if not _HOST.fullmatch(host):
            raise errors.Invalid("a Host header that is no host")
        if len(self._hosts) < 1000:  # noqa: PLR2004 - a client that makes hosts up only costs itself
            self._hosts.add(host)


_ONCE = {
    b"host", b"content-length", b"transfer-encoding", b"content-type", b"authorization", b"range",
    b"if-range", b"expect", b"content-range", b"content-encoding",
}  # fmt: skip


def _merged(sent: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Headers of which some come more than once, or are long."""
    found: dict[bytes, bytes] = {}
    for name, value in sent:
        if len(value) > LONGEST:
            raise errors.HeaderTooLarge(
                f"{name.decode('latin-1')[:50]} has {len(value)} bytes, {LONGEST} at most"
            )
        if name in found:
            if name in _ONCE:
                raise errors.Invalid(f"more than one {name.decode('latin-1')} header")
            found[name] = b"%s, %s" % (found[name], value)  # as RFC 9110, 5.3 reads a list
        else:
            found[name] = value
    return found


def _noting(scope: Any, send: Send) -> Send:
    """A `send` that logs a line when the answer is out."""
    began, status = time.perf_counter(), 0

    async def noting(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)
        await send(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            log.info(
                "request",
                method=scope["method"],
                path=scope["path"][:200],
                status=status,
                seconds=round(time.perf_counter() - began, 4),
                request=scope["soup.ids"][0][1].decode(),
            )

    return noting


async def _answer(scope: Any, receive: Receive, send: Send, error: SoupError) -> None:
    if scope.get("soup.started"):
        # The status line is out: breaking off is the only true answer left. Granian does when we fail.
        raise error
    code, headers, body = problem(error, scope.get("soup.headers"))
    if has_body(scope["headers"]):
        send = Exchange(scope, receive, send, 0).send
    cors = scope.get("soup.cors") or (CORS if is_blob(scope["path"]) else ())
    await send_all(send, code, [*headers, *NO_STORE, *scope["soup.ids"], *cors], body)
