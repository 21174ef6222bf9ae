"""Two cores behind one nginx, each stopped and started again in turn: nobody notices."""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.conftest import Server, bearer, sha256
from tests.databases import KIND, free_port
from tests.wire import nginx

CONF = Path(__file__).parents[2] / "nginx" / "front.conf"


@dataclass
class Clients:
    """Clients that ask without pause, and how they were answered: (what they asked, status)."""

    url: str
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def begin(self, name: str, ask: Callable[[httpx.Client], httpx.Response]) -> None:
        def run() -> None:
            with httpx.Client(base_url=self.url, timeout=20) as client:
                while not self._over.is_set():
                    try:
                        self.answers[name, ask(client).status_code] += 1
                    except httpx.HTTPError as error:
                        self.failures.append(f"{name}: {error!r}")

        self._threads.append(threading.Thread(target=run))
        self._threads[-1].start()

    def end(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def cores(serve, tmp_path) -> Iterator[tuple[list[Server], Callable[[int], Server], str]]:
    """Two cores, how to start one of them, and the address of an nginx in front."""
    ports, shared = [free_port(), free_port()], tmp_path / "shared"
    shared.mkdir()
    database = KIND.url(shared) or f"sqlite:///{shared / 'soup.db'}"

    def start(which: int) -> Server:
        return serve(
            tmp_path / f"core-{which}",
            server__port=ports[which],
            database=database,
            store__folder=shared / "blobs",
            server__drain_seconds=1,
        )

    both = [start(0), start(1)]
    first = "    server 127.0.0.1:8080 max_fails=0;"
    body = CONF.read_text()
    assert 1 == body.count(first)
    body = body.replace(first, "".join(f"    server 127.0.0.1:{port} max_fails=0;\n" for port in ports))
    body = body.replace("listen 80;", "listen 127.0.0.1:%(port)d;")
    with nginx(tmp_path / "nginx", body) as port:
        yield both, start, f"http://127.0.0.1:{port}"


def test_one_after_the_other(cores) -> None:
    """
    Downloads, redirects, misses, uploads, reports, lists: none fails while a core stops, is away, and comes.
    """
    both, start, url = cores
    admin = both[0].admin
    kept = both[0].keep(os.urandom(300_000))
    mirror = both[0].mirror("mirror.example")
    clients = Clients(url)
    time.sleep(1)  # now every worker has heard of it

    def send(client: httpx.Client) -> httpx.Response:
        body = os.urandom(2000)
        return client.put(f"/{sha256(body)}", content=body, headers=admin)

    report = f"/api/cdn/{mirror['id']}?status=1"
    clients.begin("redirect", lambda client: client.get(f"/{kept}"))
    clients.begin("direct", lambda client: client.get(f"/{kept}?direct=1"))
    clients.begin("miss", lambda client: client.get("/" + "0" * 64))
    clients.begin("upload", send)
    clients.begin("report", lambda client: client.patch(report, headers=bearer(mirror["token"])))
    clients.begin("list", lambda client: client.get("/api/blob:list?limit=5", headers=admin))

    for which in (0, 1):
        time.sleep(0.5)
        assert 0 == both[which].stop()
        time.sleep(0.5)
        both[which] = start(which)
    time.sleep(0.5)
    clients.end()

    print(dict(clients.answers))
    assert [] == clients.failures
    wanted = {"redirect": 307, "direct": 200, "miss": 404, "upload": 201, "report": 200, "list": 200}
    assert set(wanted.items()) == set(clients.answers)
    assert all(50 < count for count in clients.answers.values())
