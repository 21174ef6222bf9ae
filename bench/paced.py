"""Redirects at a steady rate: how long each took, counted from the moment it was due.

`python -m bench.paced 127.0.0.1 8080 digests --rate 10000` prints percentiles as JSON. An open loop: requests
do not wait for answers to others, so a server that pauses is not asked less meanwhile. The core is never
left: a clock that sleeps would add its own milliseconds.
"""

import argparse
import asyncio
import gc
import json
import sys
from collections import deque
from pathlib import Path
from time import perf_counter
from typing import cast

import uvloop

CONNECTIONS = 64
WARM = 0.3  # seconds that do not count
PATIENCE = 10.0  # seconds for what is still missing in the end
END = b"\r\n\r\n"
REDIRECT = b"HTTP/1.1 307"


class Line(asyncio.Protocol):
    """A connection, with one request under way at most."""

    def __init__(self, load: "Load") -> None:
        self._load, self._read = load, b""
        self.due, self.digest = 0.0, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It can be used."""
        self._write = cast("asyncio.Transport", transport).write
        self._load.free.append(self)

    def ask(self, due: float, digest: bytes) -> None:
        """Send what was due then."""
        self.due, self.digest = due, digest
        self._write(self._load.head + digest + self._load.tail)

    def data_received(self, data: bytes) -> None:
        """An answer, which has no body when it is right."""
        self._read = self._read + data if self._read else data
        if END in self._read:
            self._load.heard(self, self._read)
            self._read = b""

    def connection_lost(self, _: Exception | None) -> None:
        """Nobody may leave before the end."""
        self._load.lost()


class Load:
    """All connections, what waits for one, and how long each request took."""

    def __init__(self, port: int, digests: list[bytes]) -> None:
        self.head, self.tail = b"GET /", b" HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % port
        self.free: list[Line] = []
        self.took: list[float] = []
        self.fault = ""
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._digests, self._asked, self._over = digests, 0, False

    def heard(self, line: Line, answer: bytes) -> None:
        """Take the time, and ask the next that waits."""
        self.took.append(perf_counter() - line.due)
        if not answer.startswith(REDIRECT) or line.digest not in answer:
            self.fault = self.fault or f"{line.digest.decode()}: {answer[:300]!r}"
        if self._waiting:
            line.ask(*self._waiting.popleft())
        else:
            self.free.append(line)

    def lost(self) -> None:
        """A connection was closed."""
        if not self._over:
            self.fault = self.fault or "a connection was closed"

    async def run(self, rate: float, seconds: float) -> None:
        """Ask so often a second for so long, then wait for the last answers."""
        total, step = round(rate * seconds), 1 / rate
        began = perf_counter()
        while self._asked < total:
            now = perf_counter()
            many = min(total, int((now - began) / step) + 1)
            while self._asked < many:
                due, digest = began + self._asked * step, self._digests[self._asked % len(self._digests)]
                self._asked += 1
                if self.free:
                    self.free.pop().ask(due, digest)
                else:
                    self._waiting.append((due, digest))
            await asyncio.sleep(0)
        until = perf_counter() + PATIENCE
        while len(self.took) < total and perf_counter() < until:  # noqa: ASYNC110 - as above, without a pause
            await asyncio.sleep(0)
        if len(self.took) < total:
            self.fault = self.fault or f"{total - len(self.took)} requests were never answered"
        self._over = True


def percentiles(took: list[float]) -> dict[str, float]:
    """In milliseconds."""
    ordered = sorted(took)
    places = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}
    found = {
        name: 1000 * ordered[min(len(ordered) - 1, int(at * len(ordered)))] for name, at in places.items()
    }
    return found | {"max": 1000 * ordered[-1], "requests": len(ordered)}


async def paced(host: str, port: int, digests: list[bytes], rate: float, seconds: float) -> Load:
    """One round; the first moment of it does not count."""
    load = Load(port, digests)
    loop = asyncio.get_running_loop()
    for _ in range(CONNECTIONS):
        await loop.create_connection(lambda: Line(load), host, port)
    gc.freeze()
    gc.disable()
    await load.run(rate, WARM + seconds)
    load.took = load.took[round(rate * WARM) :]
    return load


def main() -> int:
    """Print percentiles; the exit status is 1 where an answer was wrong."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("host")
    arguments.add_argument("port", type=int)
    arguments.add_argument("digests", type=Path, help="a file of digests, a line each")
    arguments.add_argument("--rate", type=float, required=True, help="requests a second")
    arguments.add_argument("--seconds", type=float, default=2)
    given = arguments.parse_args()
    wanted = round(given.rate * (WARM + given.seconds))
    with given.digests.open("rb") as file:
        digests = [line.rstrip() for line, _ in zip(file, range(wanted), strict=False)]
    load = uvloop.run(paced(given.host, given.port, digests, given.rate, given.seconds))
    if load.fault:
        print(load.fault, file=sys.stderr)
        return 1
    print(json.dumps(percentiles(load.took)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
