"""A connection to each worker of a real server."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx

from tests.conftest import Server


def worker(answer: httpx.Response) -> str:
    """Which worker this answer is from: its ids of requests begin alike."""
    return answer.headers["x-request-id"][:12]


@contextmanager
def each_worker(server: Server, count: int = 2) -> Iterator[list[httpx.Client]]:
    """Clients that are connected to a worker each, and stay so."""
    found: dict[str, httpx.Client] = {}
    with ExitStack() as stack:
        end = time.monotonic() + 20
        while len(found) < count:
            assert time.monotonic() < end, f"only {len(found)} workers answer"
            client = stack.enter_context(_client(server))
            name = worker(client.get("/healthz"))
            if name not in found:
                client.event_hooks = {"response": [_from(name)]}
                found[name] = client
        yield list(found.values())


def _client(server: Server) -> httpx.Client:
    limits = httpx.Limits(max_connections=1, keepalive_expiry=600)
    return httpx.Client(base_url=server.url, timeout=30, limits=limits)


class _from:  # noqa: N801 - reads as a word where it is used
    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, answer: httpx.Response) -> None:
        assert self.name == worker(answer), "the connection is to another worker now"
