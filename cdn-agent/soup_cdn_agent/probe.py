"""Looking at the mirror as a client would: a real blob, through its own web server (C47)."""

import asyncio
import hashlib
import os
import random
import sqlite3
import ssl

import httpx
import structlog

from soup_cdn_agent.core import AGENT
from soup_cdn_agent.folder import Folder
from soup_cdn_agent.index import Index, Wanted
from soup_cdn_agent.known import Known, Threads
from soup_cdn_agent.scrub import Scrub

log = structlog.get_logger(__name__)

WHOLE = 4 << 20  # bytes up to which a blob is read whole; of a larger one, a range
RANGE = 256 << 10
SECONDS = 5.0  # for an answer, all of it
TRIES = 3
LOOKS = f"{AGENT} probe"  # what it reads is no delivery: `accesslog` leaves it out


class Probe:
    """Reads a blob that should be here through the web server, and says what was wrong."""

    def __init__(
        self, web: str, verify: ssl.SSLContext, index: Index, folder: Folder, threads: Threads, known: Known,
        scrub: Scrub, *, may_be_empty: bool = False,
    ) -> None:  # fmt: skip
        """`may_be_empty`: a mirror without a blob is well if its web server answers at all."""
        self._web, self._may_be_empty = web, may_be_empty
        self._index, self._folder, self._threads, self._known, self._scrub = (
            index,
            folder,
            threads,
            known,
            scrub,
        )
        self._http = httpx.AsyncClient(
            timeout=SECONDS,
            verify=verify,
            trust_env=False,
            headers={"user-agent": LOOKS, "accept-encoding": "identity"},
            limits=httpx.Limits(
                max_keepalive_connections=0
            ),  # a connection that lives says nothing of the next
        )

    async def close(self) -> None:
        """Let go of connections."""
        await self._http.aclose()

    async def look(self) -> None:
        """Look once, and write down what was seen. Who cannot even look does not say that all is well."""
        try:
            await self._look()
        except (OSError, sqlite3.Error) as error:
            self._known.probe = f"no blob can be looked at: {error}"
            log.error("web.unseen", reason=str(error))  # noqa: TRY400 - it says all

    async def _look(self) -> None:
        """A blob that is wrong on disk is damage, and no fault of the web server: another is looked at."""
        known = self._known
        known.unwritable = await self._threads.run(self._folder.unwritable)
        fault, looked, missing = None, False, 0
        for _ in range(TRIES):
            blob = await self._threads.ledger(self._index.any, WHOLE)
            if blob is None:
                if self._may_be_empty:
                    fault, looked = await self._silence(), True
                break
            fault = await self._fault(blob)
            looked = True
            if fault is None or await self._web_is_at_fault(blob):
                break
            fault = f"{fault}: its file is not right either"
            missing += await self._threads.run(self._folder.size, blob.digest) is None
        if missing > 1:
            known.scanned = False  # nothing is claimed until it is known what is left
            known.scan.ring()
            known.report.ring()
        if fault != known.probe:
            log.log(30 if fault else 20, "web.wrong" if fault else "web.right", reason=fault)
        known.probe, known.looked = fault, looked

    async def _silence(self) -> str | None:
        """Why the web server says nothing; None where it says anything."""
        url = f"{self._web}/healthz"
        try:
            async with asyncio.timeout(SECONDS):
                await self._http.get(url)
        except (TimeoutError, httpx.TimeoutException):
            return f"{url} did not answer within {SECONDS:g} s"
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return f"{url}: {error or type(error).__name__}"
        return None

    async def _web_is_at_fault(self, blob: Wanted) -> bool:
        """Whether the file is right, so that what was seen is the web server's fault."""
        if not await self._threads.ledger(self._index.here, blob.digest):
            return False  # it was removed meanwhile
        if await self._threads.run(self._folder.size, blob.digest) is None:
            self._known.scan.ring()  # who has lost one may have lost more
            await self._scrub.check(blob, slowly=False)
            return False
        return blob.size > WHOLE or await self._scrub.check(blob, slowly=False)

    async def _fault(self, blob: Wanted) -> str | None:
        """What is wrong with how the web server serves a blob."""
        url = f"{self._web}/{blob.digest}"
        try:
            async with asyncio.timeout(SECONDS):
                return await (self._whole(url, blob) if blob.size <= WHOLE else self._range(url, blob))
        except (TimeoutError, httpx.TimeoutException):
            return f"{url} did not answer within {SECONDS:g} s"
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return f"{url}: {error or type(error).__name__}"

    async def _whole(self, url: str, blob: Wanted) -> str | None:
        sha, size = hashlib.sha256(), 0
        async with self._http.stream("GET", url) as answer:
            if answer.status_code != httpx.codes.OK:
                return f"{url} answered {answer.status_code}"
            async for piece in answer.aiter_raw():
                sha.update(piece)
                size += len(piece)
                if size > blob.size:
                    break
        if size != blob.size:
            return f"{url} gave {'more than ' if size > blob.size else f'{size} of '}{blob.size} bytes"
        return None if sha.hexdigest() == blob.digest else f"{url} gave other bytes"

    async def _range(self, url: str, blob: Wanted) -> str | None:
        start = random.randrange(blob.size - RANGE)  # noqa: S311 - which one is no secret
        headers = {"range": f"bytes={start}-{start + RANGE - 1}"}
        async with self._http.stream("GET", url, headers=headers) as answer:
            if answer.status_code != httpx.codes.PARTIAL_CONTENT:
                return f"{url} answered {answer.status_code} to a range"
            given = bytearray()
            async for piece in answer.aiter_raw():
                given += piece
                if len(given) > RANGE:
                    break
        held = await self._threads.run(_held, self._folder, blob.digest, start)
        return None if bytes(given) == held else f"{url} gave other bytes in {headers['range']}"


def _held(folder: Folder, digest: str, start: int) -> bytes | None:
    try:
        fd = os.open(folder.path(digest), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return os.pread(fd, RANGE, start)
    except OSError:
        return None
    finally:
        os.close(fd)
