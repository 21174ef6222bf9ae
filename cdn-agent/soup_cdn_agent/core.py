"""What the agent asks of soup."""

import asyncio
import json
import re
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from soup_cdn_agent import __version__, answers
from soup_cdn_agent.answers import Heard, Page, Stretch
from soup_cdn_agent.who import Who

PAGE = 1000
PROBLEM = 64 << 10  # bytes of an answer that says no
TIMEOUT = httpx.Timeout(10, read=20, pool=60)
SECONDS = 60.0  # for an answer in JSON, all of it; of another one for its head
LONGEST = 16 << 20  # bytes of one
SLOWEST = 60.0, 64 << 10  # a body that takes so many seconds of waiting for fewer bytes does not come
LEFT_ALONE = 300.0  # seconds that a core may ask for at most
CORE = "core"  # where a blob came from, if not from another mirror
AGENT = f"soup-cdn-agent/{__version__}"
VIA = "1.1 soup-cdn-agent"  # by which an agent knows that it was asked by one
ASKED = 10_000  # digests that a core may be asked after at once
T = TypeVar("T")


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

    @property
    def all_of_us(self) -> bool:
        """Whether it is the token that is refused, and no fault of what was asked for."""
        return self.status in {0, httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}


class MirrorDown(Exception):
    """Another mirror could not give what the core says it has."""


class CursorTooOld(Exception):
    """The feed has forgotten what came next: the blobs are to be listed."""


class Core:
    """soup, behind one URL or several; the one that answered last is asked first.

    `control` are those of its listeners for reports, where there are such.
    """

    def __init__(
        self, urls: Sequence[str], who: Who, verify: ssl.SSLContext, control: Sequence[str] = ()
    ) -> None:
        self._urls, self._who = list(urls), who
        self._control = list(control) or self._urls
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

    async def report(self, said: dict[str, Any], seconds: float) -> Heard:
        """Say how the mirror is, and wait so long for an answer. Raises CoreDown, Refused."""
        try:
            path = f"/api/cdn/{self._who.id}"
            heard = await self._ask("PATCH", path, answers.heard, seconds, urls=self._control, json=said)
        except Refused as error:
            if error.status == httpx.codes.NOT_FOUND:
                self._doubt(error)
            raise
        self._who.known()
        return heard

    async def join(self, asked: dict[str, Any], secret: str, seconds: float) -> tuple[int, str]:
        """Ask to be a mirror, by a join token; its id and token. Raises CoreDown, Refused."""
        return await self._ask(
            "POST", "/api/cdn:join", answers.joined, seconds, self._control, secret=secret, json=asked
        )

    async def changes(self, after: int, epoch: str) -> Stretch:
        """What has changed behind a cursor. Raises CoreDown, Refused, CursorTooOld."""
        asked = {"after": after, "epoch": epoch, "limit": PAGE}
        try:
            return await self._ask("GET", "/api/blob:changes", answers.stretch, params=asked)
        except Refused as error:
            if error.status == httpx.codes.GONE:
                raise CursorTooOld from error
            raise

    async def page(self, after: str | None) -> Page:
        """Blobs in the order of digests, from behind one. Raises CoreDown, Refused."""
        asked = {"limit": PAGE} | ({} if after is None else {"after": after})
        page: Page = await self._ask("GET", "/api/blob:list", answers.page, params=asked)
        if page.next is not None and page.next <= (after or ""):
            raise CoreDown("its list of blobs goes round in a circle")
        return page

    async def head(self) -> tuple[str, int]:
        """Which history of the feed there is, and how far it goes. Raises CoreDown, Refused."""
        page: Page = await self._ask("GET", "/api/blob:list", answers.page, params={"limit": 1})
        return page.epoch, page.head

    async def missing(self, digests: Sequence[str]) -> set[str]:
        """Those of these (ASKED at most) that the core does not have. Raises CoreDown, Refused."""

        def read(answer: Any) -> set[str]:
            return set(digests).intersection(answer["missing"])

        return await self._ask("POST", "/api/blob:missing", read, json={"digests": list(digests)})

    @property
    def cores(self) -> int:
        """How many there are to ask."""
        return len(self._urls)

    @asynccontextmanager
    async def own(self, method: str, digest: str, headers: dict[str, str]) -> AsyncIterator[httpx.Response]:
        """The core's own answer for a blob: 200 or 206, never another mirror's (C10).

        Raises CoreDown, Refused.
        """
        async with self._stream(method, f"/{digest}", headers={"via": VIA} | headers) as answer:
            if answer.status_code not in {200, 206}:
                raise CoreDown(f"{answer.url.host} answered {answer.status_code}: is `core` a mirror?")
            yield answer

    @asynccontextmanager
    async def bundle(self, digests: Sequence[str]) -> AsyncIterator[AsyncIterator[bytes]]:
        """A tar of these blobs, as far as the core has them. Raises CoreDown, Refused."""
        async with self._stream("POST", "/api/blob:bundle", json={"digests": list(digests)}) as answer:
            if not answer.headers.get("content-type", "").startswith("application/x-tar"):
                raise CoreDown(f"{answer.url.host} answered no bundle: is something between us and soup?")
            yield pieces(answer)

    @asynccontextmanager
    async def blob(self, digest: str, start: int, *, from_mirrors: bool) -> AsyncIterator["Coming"]:
        """A blob from a byte on, from the core or, if it likes, another mirror.

        Raises CoreDown, Refused, MirrorDown.
        """
        headers = {"range": f"bytes={start}-", "if-range": f'"{digest}"'} if start else {}
        asked = {"from": "mirrors"} if from_mirrors else {}
        async with self._stream("GET", f"/{digest}", params=asked, headers=headers) as answer:
            if not answer.has_redirect_location:
                yield _coming(answer, start, CORE)
                return
            link = answer.headers["location"]
        async with self._other(link, headers) as answer:
            yield _coming(answer, start, httpx.URL(link).host)

    @asynccontextmanager
    async def _other(self, link: str, headers: dict[str, str]) -> AsyncIterator[httpx.Response]:
        """Another mirror's answer. It is not shown our token, and may not send us on."""
        try:
            async with _beginning(link) as limit, self._http.stream("GET", link, headers=headers) as answer:
                if answer.status_code not in {200, 206}:
                    raise MirrorDown(f"{link} answered {answer.status_code}")
                limit.reschedule(None)
                yield answer
        except (CoreDown, UnicodeError) as error:  # the latter for a host that is none
            raise MirrorDown(str(error)) from error

    async def _ask(
        self,
        method: str,
        path: str,
        read: Callable[[Any], T],
        seconds: float = SECONDS,
        urls: list[str] | None = None,
        **how: Any,
    ) -> T:
        """What a core answers in JSON, all of it within so many seconds."""
        urls = urls or self._urls
        url = urls[0]
        try:
            async with asyncio.timeout(seconds), self._stream(method, path, urls=urls, **how) as answer:
                text = await _start(answer, LONGEST)
                try:
                    return read(json.loads(text))
                except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
                    told = f"{error or type(error).__name__}"[:200]
                    raise CoreDown(f"{url}{path}: not an answer of soup's: {told}") from error
        except TimeoutError as error:
            _next(urls, url)
            raise CoreDown(f"{url} did not answer within {seconds:g} s") from error

    @asynccontextmanager
    async def _stream(
        self,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        secret: str | None = None,
        urls: list[str] | None = None,
        **how: Any,
    ) -> AsyncIterator[httpx.Response]:
        """What a core answers, to the mirror's token if no other secret is given."""
        urls = urls or self._urls
        url = urls[0]
        sent = self._headers(secret) | (headers or {})
        try:
            async with (
                _beginning(url) as limit,
                self._http.stream(method, url + path, headers=sent, **how) as answer,
            ):
                if not answer.is_success:
                    body = await _start(answer, PROBLEM)
                    if method != "GET" or not answer.has_redirect_location:
                        _judge(answer, body)
                limit.reschedule(None)
                yield answer
        except CoreDown:
            _next(urls, url)
            raise
        except Refused as error:
            if error.status == httpx.codes.UNAUTHORIZED and secret is None:
                self._doubt(error)
            raise

    def _doubt(self, error: Refused) -> None:
        """The core does not know us. Raises CoreDown where we may be somebody else soon."""
        if self._who.unknown(str(error)):
            raise CoreDown(str(error)) from error

    def _headers(self, secret: str | None) -> dict[str, str]:
        try:
            secret = self._who.token if secret is None else secret
        except (OSError, ValueError) as error:
            raise Refused(f"the token cannot be read: {error}", 0) from error
        if not re.fullmatch("[!-~]+", secret):
            raise Refused("the token is empty or none", 0)
        return {"authorization": f"Bearer {secret}"}


@asynccontextmanager
async def _beginning(url: str) -> AsyncIterator[asyncio.Timeout]:
    """What is done here has SECONDS, until it takes the limit away. Raises CoreDown, for httpx too."""
    limit = asyncio.timeout(SECONDS)
    try:
        with _told(url):
            async with limit:
                yield limit
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise CoreDown(f"{url} did not answer within {SECONDS:g} s") from error


def _next(urls: list[str], url: str) -> None:
    """Ask another core the next time."""
    if urls[0] == url:
        urls.append(urls.pop(0))


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
    return Coming(0 if whole else start, source, pieces(answer))


async def pieces(answer: httpx.Response) -> AsyncIterator[bytes]:
    """A body as it comes. Raises CoreDown where it breaks off, or hardly comes at all."""
    loop, coming = asyncio.get_running_loop(), answer.aiter_raw()
    seconds, least = SLOWEST
    waited, size = 0.0, 0
    with _told(str(answer.url)):
        while True:
            asked = loop.time()
            try:
                async with asyncio.timeout(seconds):
                    piece = await anext(coming, None)
            except TimeoutError as error:  # a byte now and then, and none of them of the body
                raise CoreDown(f"{answer.url.host} sent nothing in {seconds:.0f} s") from error
            if piece is None:
                return
            waited, size = waited + loop.time() - asked, size + len(piece)
            if waited > seconds:
                if size < least:
                    raise CoreDown(f"{answer.url.host} sent {size} bytes in {waited:.0f} s")
                waited, size = 0.0, 0
            yield piece


async def _start(answer: httpx.Response, most: int) -> bytes:
    """A body that should be short; of a longer one, so many bytes."""
    text = bytearray()
    async for piece in answer.aiter_bytes():
        text += piece
        if len(text) >= most:
            break
    return bytes(text[:most])


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


def _judge(answer: httpx.Response, body: bytes) -> None:
    try:
        problem = dict(json.loads(body))
    except (ValueError, TypeError):
        problem = {}
    said = str(problem.get("detail", answer.reason_phrase))[:300]
    reason = f"{answer.url.host} answered {answer.status_code}: {said}"
    if problem.get("type") == "urn:soup:error:blob-missing":
        raise Refused(reason, answer.status_code)  # it cannot give this one; all else is well
    full = answer.status_code == httpx.codes.INSUFFICIENT_STORAGE  # as many mirrors have joined as may
    busy = answer.status_code == httpx.codes.TOO_MANY_REQUESTS or (answer.is_server_error and not full)
    if busy or answer.is_redirect:
        after = answer.headers.get("retry-after", "")
        raise CoreDown(reason, min(float(after), LEFT_ALONE) if after.isdecimal() else 0.0)
    raise Refused(reason, answer.status_code)
