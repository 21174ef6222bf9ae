"""Clients that download one blob after the other, and what became of each download."""

import threading
import time
from dataclasses import dataclass, field
from random import Random
from typing import Protocol, Self

from tests.fleet import Mirror
from tests.got import Got
from tests.wire import until

PAUSE = 0.2  # seconds between two downloads of a client: other tests want the cores too


@dataclass(frozen=True, slots=True)
class Download:
    """One download: which client, when, its exit status, whether the bytes were right, who sent them last."""

    client: str
    began: float
    ended: float
    code: int
    right: bool
    source: str = ""

    @property
    def wrong(self) -> bool:
        """The client thinks that all is well, and has other bytes."""
        return self.code == 0 and not self.right


class Clients(Protocol):
    """Two clients that ask a core for a blob."""

    def curl(self, digest: str, *words: str) -> Got: ...

    def aria2c(self, digest: str, *words: str) -> Got: ...


@dataclass
class Downloads:
    """So many curl and aria2c at once, each with blobs drawn from `digests`, until the block ends."""

    clients: Clients
    digests: list[str]
    curls: int = 2
    aria2cs: int = 2
    done: list[Download] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        clients = ["curl"] * self.curls + ["aria2c"] * self.aria2cs
        self._threads = [
            threading.Thread(target=self._run, args=(client, Random(place)))
            for place, client in enumerate(clients)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, client: str, dice: Random) -> None:
        while not self.over.is_set():
            digest, began = dice.choice(self.digests), time.monotonic()
            if client == "curl":
                got = self.clients.curl(digest, "--fail", "-w", "%{stderr}%{url_effective}")
            else:
                got = self.clients.aria2c(digest)
            right, source = got.digest == digest, got.said.removesuffix(f"/{digest}")
            self.done.append(Download(client, began, time.monotonic(), got.code, right, source))
            self.over.wait(PAUSE)

    def wait(self, more: int, seconds: float = 60) -> None:
        """Until each kind of client has finished so many downloads more."""
        before = {client: self._count(client) for client in ("curl", "aria2c")}
        end = time.monotonic() + seconds
        wanted = {"curl": more if self.curls else 0, "aria2c": more if self.aria2cs else 0}
        while any(self._count(client) - before[client] < wanted[client] for client in before):
            assert time.monotonic() < end, "clients got nothing more"
            time.sleep(0.05)

    def reach(self, mirror: Mirror, seconds: float = 60) -> None:
        """Until a curl that begins now was sent to this mirror, and got its blob."""
        began = time.monotonic()
        until(
            lambda: any(
                one.source == mirror.url and one.right and one.began > began for one in list(self.done)
            ),
            seconds,
        )

    def _count(self, client: str) -> int:
        return sum(one.client == client for one in list(self.done))

    def of(self, client: str) -> list[Download]:
        return [one for one in self.done if one.client == client]

    @property
    def wrong(self) -> list[Download]:
        return [one for one in self.done if one.wrong]

    def failed(self, client: str) -> list[Download]:
        return [one for one in self.of(client) if one.code != 0]

    def sources(self, began: float, ended: float) -> set[str]:
        """Who served, or should have served, the curls that began in this time."""
        return {one.source for one in self.of("curl") if began <= one.began < ended}
