"""What the agent asks of soup."""

import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx

from soup_cdn_agent import __version__
from soup_cdn_agent.index import Wanted

PAGE = 1000
TIMEOUT = httpx.Timeout(10, read=20, pool=60)
AGENT = f"soup-cdn-agent/{__version__}"


class CoreDown(Exception):
    """No core answers now; `after` is how many seconds it asks to be left alone."""

    def __init__(self, reason: str, after: float = 0.0) -> None:
        super().__init__(reason)
        self.after = after


class Refused(Exception):
    """The core answers, and says no: a wrong id or token, or it does not know what is asked."""

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason)
        self.status = status


class CursorTooOld(Exception):
    """The feed has forgotten what came next: the blobs are to be listed."""


@dataclass(frozen=True, slots=True)
class Heard:
    """The answer to a report."""

    epoch: str
    head: int
    interval: float


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of the feed: what should be here, what should not, and the cursor behind it."""

    epoch: str
    head: int
    next: int
    present: tuple[Wanted, ...]
    absent: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the list of blobs, and the feed of then. `next` is None on the last."""

    epoch: str
    head: int
    present: tuple[Wanted, ...]
    next: str | None


class Core:
    """soup, behind one URL or several; the one that answered last is asked first."""

    def __init__(
        self, urls: Sequence[str], id: int, secret: Callable[[], str], verify: ssl.SSLContext
    ) -> None:
        self._urls, self._id, self._secret = list(urls), id, secret
        self._http = httpx.AsyncClient(
            timeout=TIMEOUT,
            verify=verify,
            headers={"user-agent": AGENT, "accept-encoding": "identity"},
            trust_env=False,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=8),
        )

    async def close(self) -> None:
        """Let go of connections."""
        await self._http.aclose()

    async def report(self, said: dict[str, Any]) -> Heard:
        """Say how the mirror is. Raises CoreDown, Refused."""
        answer = await self._ask("PATCH", f"/api/cdn/{self._id}", json=said)
        return Heard(str(answer["epoch"]), int(answer["head"]), float(answer.get("interval", 30)))

    async def changes(self, after: int, epoch: str) -> Stretch:
        """What has changed behind a cursor. Raises CoreDown, Refused, CursorTooOld."""
        try:
            answer = await self._ask(
                "GET", "/api/blob:changes", params={"after": after, "epoch": epoch, "limit": PAGE}
            )
        except Refused as error:
            if error.status == httpx.codes.GONE:
                raise CursorTooOld from error
            raise
        changes = answer["changes"]
        return Stretch(
            answer["epoch"],
            answer["head"],
            answer["next"],
            tuple(_wanted(one) for one in changes if one["state"] == "present"),
            tuple(one["digest"] for one in changes if one["state"] != "present"),
        )

    async def page(self, after: str | None) -> Page:
        """Blobs in the order of digests, from behind one. Raises CoreDown, Refused."""
        asked = {"limit": PAGE} | ({} if after is None else {"after": after})
        answer = await self._ask("GET", "/api/blob:list", params=asked)
        return Page(
            answer["epoch"], answer["head"], tuple(_wanted(one) for one in answer["blobs"]), answer["next"]
        )

    @asynccontextmanager
    async def bundle(self, digests: Sequence[str]) -> AsyncIterator[AsyncIterator[bytes]]:
        """A tar of these blobs, as far as the core has them. Raises CoreDown, Refused."""
        async with self._stream("POST", "/api/blob:bundle", json={"digests": list(digests)}) as answer:
            yield _pieces(answer)

    @asynccontextmanager
    async def blob(self, digest: str, start: int, *, from_mirrors: bool) -> AsyncIterator["Coming"]:
        """A blob from a byte on, from the core or, if it likes, another mirror. Raises CoreDown, Refused."""
        headers = {"range": f"bytes={start}-", "if-range": f'"{digest}"'} if start else {}
        asked = {"from": "mirrors"} if from_mirrors else {}
        async with self._stream("GET", f"/{digest}", params=asked, headers=headers) as answer:
            if not answer.has_redirect_location:
                yield _coming(answer, start, "core")
                return
            link = answer.headers["location"]
        async with self._other(link, headers) as answer:
            yield _coming(answer, start, httpx.URL(link).host)

    @asynccontextmanager
    async def _other(self, link: str, headers: dict[str, str]) -> AsyncIterator[httpx.Response]:
        """Another mirror's answer. It is not shown our token."""
        with _told(link):
            async with self._http.stream("GET", link, headers=headers) as answer:
                if answer.status_code not in {200, 206}:
                    raise CoreDown(f"{link} answered {answer.status_code}")
                yield answer

    async def _ask(self, method: str, path: str, **how: Any) -> Any:
        url, headers = self._urls[0], self._headers()
        try:
            with _told(url):
                answer = await self._http.request(method, url + path, headers=headers, **how)
                _judge(answer)
                return answer.json()
        except CoreDown:
            self._next(url)
            raise

    @asynccontextmanager
    async def _stream(
        self, method: str, path: str, headers: dict[str, str] | None = None, **how: Any
    ) -> AsyncIterator[httpx.Response]:
        url = self._urls[0]
        sent = self._headers() | (headers or {})
        try:
            with _told(url):
                async with self._http.stream(method, url + path, headers=sent, **how) as answer:
                    if not answer.is_success:
                        await answer.aread()
                    if not answer.has_redirect_location:
                        _judge(answer)
                    yield answer
        except CoreDown:
            self._next(url)
            raise

    def _headers(self) -> dict[str, str]:
        try:
            return {"authorization": f"Bearer {self._secret()}"}
        except OSError as error:
            raise Refused(f"the token cannot be read: {error}", 0) from error

    def _next(self, url: str) -> None:
        """Ask another core the next time."""
        if self._urls[0] == url:
            self._urls.append(self._urls.pop(0))


@dataclass(frozen=True, slots=True)
class Coming:
    """A body that is coming: from which byte on, and who sends it."""

    start: int
    source: str
    pieces: AsyncIterator[bytes]


def _coming(answer: httpx.Response, start: int, source: str) -> Coming:
    whole = answer.status_code != httpx.codes.PARTIAL_CONTENT
    if not whole and not answer.headers.get("content-range", "").startswith(f"bytes {start}-"):
        raise CoreDown(f"{source} sent another range than {start}-: {answer.headers.get('content-range')!r}")
    return Coming(0 if whole else start, source, _pieces(answer))


async def _pieces(answer: httpx.Response) -> AsyncIterator[bytes]:
    with _told(str(answer.url)):
        async for piece in answer.aiter_raw():
            yield piece


class _told:  # noqa: N801 - used as a statement
    """What httpx raises, as CoreDown."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, httpx.TimeoutException):
            raise CoreDown(f"{self._url} did not answer in time") from error
        if isinstance(error, (httpx.HTTPError, httpx.InvalidURL)):
            raise CoreDown(f"{self._url}: {error or type(error).__name__}") from error


def _judge(answer: httpx.Response) -> None:
    if answer.is_success:
        return
    try:
        problem = dict(answer.json())
    except (ValueError, TypeError):
        problem = {}
    reason = f"{answer.url.host} answered {answer.status_code}: {problem.get('detail', answer.reason_phrase)}"
    if problem.get("type") == "urn:soup:error:blob-missing":
        raise Refused(reason, answer.status_code)  # it cannot give this one; all else is well
    if answer.is_server_error or answer.status_code == httpx.codes.TOO_MANY_REQUESTS or answer.is_redirect:
        after = answer.headers.get("retry-after", "")
        raise CoreDown(reason, float(after) if after.isdigit() else 0.0)
    raise Refused(reason, answer.status_code)


def _wanted(one: Any) -> Wanted:
    return Wanted(
        one["digest"], one["size"], int(datetime.fromisoformat(one["created_at"]).timestamp()), one["seq"]
    )
