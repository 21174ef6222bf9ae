"""Clients that come at their own pace, whatever they are told, and what they were told."""

import asyncio
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.conftest import Server, sha256


@dataclass(frozen=True, slots=True)
class Told:
    """One answer: when it was asked for, how many seconds it took, and what it was.

    503 with Retry-After is `come back`, whatever was asked.
    """

    began: float
    took: float
    what: str


@dataclass
class Load:
    """So many requests a second, each on a connection of its own.

    Of five one uploads a blob, one reports as a mirror, one reads an upload of before, and two ask for what
    nobody has.
    """

    server: Server
    rate: float
    told: list[Told] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        mirror = self.server.mirror("load.example", None)
        self._report = f"/api/cdn/{mirror['id']}?status=1", mirror["token"]
        self._admin = self.server.token
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._thread.join()

    async def _run(self) -> None:
        began, number = time.monotonic(), 0
        async with asyncio.TaskGroup() as group:
            while not self.over.is_set():
                while number < (time.monotonic() - began) * self.rate:
                    group.create_task(self._one(number))
                    number += 1
                await asyncio.sleep(0.005)

    async def _one(self, number: int) -> None:
        data = b"%d of the load" % number
        digest = sha256(data)
        match number % 5:
            case 0:
                if 201 == await self._ask("PUT", f"/{digest}", self._admin, data):
                    self.kept.append(digest)
            case 1:
                await self._ask("PATCH", *self._report)
            case 2 if self.kept:
                await self._ask("GET", f"/{self.kept[-1]}?direct=1", self._admin)
            case _:
                await self._ask("GET", f"/{digest[::-1]}")

    async def _ask(self, method: str, path: str, token: str = "", data: bytes = b"") -> int:
        began = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        try:
            authorization = f"Authorization: Bearer {token}\r\n" if token else ""
            head = f"{method} {path} HTTP/1.1\r\nHost: soup\r\nConnection: close\r\n{authorization}"
            writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
            async with asyncio.timeout(30):
                answer = await reader.read()
        finally:
            writer.close()
        headers = answer.partition(b"\r\n\r\n")[0].lower()
        code = int(headers.split()[1])
        come_back = 503 == code and b"\nretry-after:" in headers
        what = "come back" if come_back else f"{method} {code}"
        self.told.append(Told(began, time.monotonic() - began, what))
        return code

    def between(self, began: float, ended: float) -> Counter[str]:
        """What was told to those who asked in this time."""
        return Counter(told.what for told in list(self.told) if began <= told.began < ended)

    def slowest(self, what: str = "") -> float:
        """Seconds that somebody had to wait for this answer, or for any."""
        return max(told.took for told in list(self.told) if what in {"", told.what})

    def lost(self) -> list[str]:
        """Blobs that were acknowledged and are not there."""
        client = self.server.client
        return [one for one in self.kept if 200 != client.get(f"/{one}?direct=1").status_code]


def resident(server: Server) -> int:
    """Bytes of its own that the hungriest worker has in memory."""
    return max(_anonymous(pid) for pid in server.workers())


def _anonymous(pid: int) -> int:
    lines: Any = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("RssAnon")]
    return 1024 * int(line.split()[1])
