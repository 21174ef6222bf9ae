"""Mirrors as clients meet them: over the address that clients are given, with TLS verified."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from soup.core.errors import MirrorSilent
from soup.core.names import Names
from soup.core.span import Span
from soup.mirrors.address import judge
from soup.stores.disk import Disk

SECONDS = 3.0  # for an answer that is looked at
SILENCE = 10.0  # without a byte, after which a mirror is given up
LOOKS = "soup audit"  # what is read only to be looked at is no delivery: agents leave it out of their counts
HEADERS = {"accept": "*/*", "accept-encoding": "identity"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, as far as it was wanted and as far as it came."""

    status: int
    content_range: str
    body: bytes
    soup: bool = False  # it came from a core, of this soup or another


class Outside:
    """Asks mirrors. `ca_file` has certificate authorities that are to be trusted beside the system's.

    `private`: mirrors that joined by themselves may have addresses of private networks. Their names are
    judged each time they are asked, and the address that was judged is the one that is asked: a name may
    point elsewhere by now.

    Each request has a connection of its own, as each client has: one that was kept would hide that no new one
    can be made. Redirects are not followed, and no proxy of the environment is used.
    """

    def __init__(self, disk: Disk, ca_file: Path | None, *, private: bool = False) -> None:
        self._disk, self._ca_file, self._private = disk, ca_file, private
        self._client: httpx.AsyncClient | None = None
        self._making = asyncio.Lock()
        self._names = Names()

    def become(self, ca_file: Path | None, *, private: bool = False) -> None:
        """Trust other authorities, and ask others, from the next request on."""
        self._private = private
        if ca_file != self._ca_file:
            self._ca_file, self._client = ca_file, None

    async def _made(self) -> httpx.AsyncClient:
        async with self._making:
            while self._client is None:
                ca_file = self._ca_file
                made = await self._disk.run(_client, ca_file)
                if ca_file == self._ca_file:  # it may be another by now
                    self._client = made
            return self._client

    async def ask(
        self, url: str, span: Span | None, most: int, *, turn: int = 0, joined: bool = False
    ) -> Answer:
        """The answer to a GET, up to so many bytes of its body. Raises MirrorSilent where there is none.

        A name may have several addresses: each `turn` takes another. Raises AddressRefused where one of a
        mirror that joined is none for it.
        """
        asking = self.open(url, span, turn=turn, name=LOOKS, joined=joined)
        try:
            async with asyncio.timeout(SECONDS), asking as response:
                body = bytearray()
                with suppress(httpx.TransportError):  # cut off in the middle of it: that is an answer too
                    async for piece in response.aiter_raw():
                        body += piece
                        if len(body) >= most:
                            break
                headers = response.headers
                # A core gives each answer an id, under both names that people look for.
                soup = headers.get("x-request-id", "") == headers.get("x-amz-request-id")
                return Answer(
                    response.status_code, headers.get("content-range", ""), bytes(body[:most]), soup
                )
        except TimeoutError as error:
            raise MirrorSilent(f"no answer within {SECONDS:g} s") from error

    @asynccontextmanager
    async def open(
        self,
        url: str,
        span: Span | None = None,
        *,
        turn: int = 0,
        name: str = "soup",
        joined: bool = False,
    ) -> AsyncIterator[httpx.Response]:
        """An answer whose body is still to be read. Raises MirrorSilent, from where it is read too.

        Raises AddressRefused where one of a mirror that joined is none for it.
        """
        client = await self._made()
        with translated():
            target = httpx.URL(url)
            host = target.raw_host.decode()  # `host` has names of other scripts as people read them
            addresses = await self._names.addresses(host)
            if joined:
                judge(addresses, private=self._private)
            headers = {"host": target.netloc.decode(), "user-agent": name}
            if span is not None:
                headers["range"] = f"bytes={span.first}-{span.last}"
            there = target.copy_with(host=addresses[turn % len(addresses)])
            named = {"sni_hostname": host}
            async with client.stream("GET", there, headers=headers, extensions=named) as response:
                yield response


def _client(ca_file: Path | None) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        verify=authorities(ca_file),
        trust_env=False,
        follow_redirects=False,
        timeout=SILENCE,
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
        headers=HEADERS,
    )


def authorities(ca_file: Path | None) -> ssl.SSLContext:
    """Whom to trust: the system's, and those of a file. Raises OSError where it has none that can be read."""
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context


@contextmanager
def translated() -> Iterator[None]:
    """Nothing leaves but soup's own errors; the cause stays attached."""
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
        if isinstance(error, TimeoutError):
            raise  # somebody's own limit
        raise MirrorSilent(f"no answer: {_deepest(error)}") from error


def _deepest(error: BaseException) -> str:
    """What went wrong in the end: each layer has said less about it than the one below."""
    while (below := error.__cause__ or error.__context__) is not None:
        error = below
    if isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return " ".join(str(error).split())[:200] or type(error).__name__
