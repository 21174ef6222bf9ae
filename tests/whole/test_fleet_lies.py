"""Mirrors say that all is well while clients meet something else: soup finds out by itself (C31, D20)."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from tests.conftest import Server, bearer, sha256
from tests.fleet import fleet_of
from tests.mirror_servers import apache_mirror
from tests.runner.odd import Odd
from tests.wire import until

# What clients meet, and what the list has to say of it.
WAYS = {
    "hang": "no answer within 3 s",
    "refuse": "refused",
    "404": "answered 404",
    "500": "answered 500",
    "page": "sent 39 bytes",
    "short": "bytes of",
    "wrong": "wrong bytes of",
    "another blob": "wrong bytes of",
}
OUT, BACK = 20.0, 60.0  # seconds until nobody is sent there, and until everybody is again, without settings
BLOBS = [os.urandom(20_000), os.urandom(20_000), os.urandom(1 << 20), os.urandom(1 << 20)]
DIGESTS = [sha256(data) for data in BLOBS]
OTHERS = {DIGESTS[place]: BLOBS[place ^ 1] for place in range(4)}  # another blob's bytes, as many of them


class Stage:
    """Web servers that misbehave, on a thread of their own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.odds: list[Odd] = []

    def add(self) -> Odd:
        odd = Odd()
        for data in BLOBS:
            odd.add(data)
        self.do(odd.start())
        self.odds.append(odd)
        return odd

    def do(self, what: Any) -> None:
        asyncio.run_coroutine_threadsafe(what, self.loop).result(10)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for odd in self.odds:
            self.do(odd.stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@dataclass
class Liar:
    """A mirror that says what a mirror says that is well, and whose web server goes its way."""

    core: Server
    stage: Stage
    odd: Odd
    known: dict[str, Any]
    way: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.odd.port}"

    def listed(self) -> dict[str, Any]:
        every = self.core.client.get("/api/cdn:list", headers=self.core.admin).json()
        return dict(next(one for one in every if one["id"] == self.known["id"]))

    def turn_bad(self) -> None:
        if self.way == "refuse":
            self.stage.do(self.odd.stop())
        elif self.way == "another blob":
            self.odd.blobs = OTHERS
        else:
            self.odd.way = self.way

    def mend(self) -> None:
        if self.way == "refuse":
            self.stage.do(self.odd.start())
        self.odd.way, self.odd.blobs = "well", dict(zip(DIGESTS, BLOBS, strict=True))


@contextmanager
def reporting(core: Server, mirrors: list[dict[str, Any]]) -> Iterator[None]:
    """Each says every ten seconds that all is well and that it has everything."""
    over = threading.Event()

    def report() -> None:
        with httpx.Client(base_url=core.url, timeout=30) as client:
            feed = client.get("/api/blob:changes?limit=1", headers=core.admin).json()
            said = {"status": 1, "epoch": feed["epoch"], "synced_to": feed["head"]}
            while True:
                for mirror in mirrors:
                    url, token = f"/api/cdn/{mirror['id']}", bearer(mirror["token"])
                    assert 200 == client.patch(url, json=said, headers=token).status_code
                if over.wait(10):
                    return

    thread = threading.Thread(target=report)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def when(liars: list[Liar], true: Any, seconds: float) -> dict[str, float]:
    """After how many seconds it was true of each."""
    began, found = time.monotonic(), dict[str, float]()
    while len(found) < len(liars):
        every = liars[0].core.client.get("/api/cdn:list", headers=liars[0].core.admin).json()
        by_id = {one["id"]: one for one in every}
        for liar in liars:
            if liar.way not in found and true(by_id[liar.known["id"]]):
                found[liar.way] = round(time.monotonic() - began, 1)
        late = [liar.way for liar in liars if liar.way not in found]
        assert time.monotonic() - began < seconds or not late, f"not within {seconds} s: {late}"
        time.sleep(0.1)
    return found


def reads(core: Server, times: int) -> tuple[int, set[str]]:
    """How many of so many clients had wrong bytes or none, and where soup sent them: "" for nowhere."""
    bad, places = 0, set[str]()
    with httpx.Client(follow_redirects=True, timeout=5) as client:
        for turn in range(times):
            digest = DIGESTS[turn % len(DIGESTS)]
            answer = client.get(f"{core.url}/{digest}")
            places.add(str(answer.url).removesuffix(f"/{digest}") if answer.history else "")
            bad += answer.status_code != 200 or sha256(answer.content) != digest
    return bad, places


@pytest.mark.row("C31")
def test_eight_mirrors_lie_at_once_and_then_the_ninth(tmp_path: Path) -> None:
    """
    Each way to be bad is found out within 20 s, whatever the mirror says, with the reason in the list; the
    good one gets all requests. When that lies too, soup answers all itself. Mended, each is back in 60 s.
    """
    with fleet_of(tmp_path) as fleet, Stage() as stage, ExitStack() as stack:
        core = fleet.core
        for data in BLOBS:
            core.keep(data)
        liars = []
        for way in (*WAYS, "halfway"):
            odd = stage.add()
            known = core.mirror(**{"status": None, **odd.terms, "fqdn": "127.0.0.1"})
            liars.append(Liar(core, stage, odd, known, way))
        *eight, ninth = liars
        stack.enter_context(reporting(core, [liar.known for liar in liars]))
        when(liars, lambda one: one["audited_at"], OUT)
        assert {liar.url for liar in liars} == reads(core, 200)[1]

        for liar in eight:
            liar.turn_bad()
        out = when(eight, lambda one: one["why"] is not None, OUT)
        print(f"out after seconds: {out}")
        for liar in eight:
            listed = liar.listed()
            assert WAYS[liar.way] in listed["doubt"]["reason"], (liar.way, listed)
            assert (1, True) == (listed["status"], listed["online"])
        time.sleep(1)  # the other worker has heard too
        assert (0, {ninth.url}) == reads(core, 100)

        ninth.turn_bad()
        print(f"the ninth: {when([ninth], lambda one: one['why'] is not None, OUT)}")
        time.sleep(1)
        assert (0, {""}) == reads(core, 100)

        for liar in liars:
            liar.mend()
        back = when(liars, lambda one: one["why"] is None and one["doubt"] is None, BACK)
        print(f"back after seconds: {back}")
        time.sleep(1)
        assert (0, {liar.url for liar in liars}) == reads(core, 200)


@pytest.mark.sqlite
@pytest.mark.row("C31")
def test_an_agent_that_sees_no_fault(tmp_path: Path) -> None:
    """
    It looks at one web server, clients are sent to another over the same folder. That one stands still,
    without a word; the agent says 1 all the while.
    """
    with fleet_of(tmp_path) as fleet:
        for data in BLOBS:
            fleet.core.keep(data)
        mirror = fleet.mirror()
        with apache_mirror(tmp_path / "outside", mirror.blobs) as outside:
            moved = {"fqdn": "127.0.0.1", "port": outside.port}
            fleet.core.client.patch(f"/api/cdn/{mirror.id}", json=moved, headers=fleet.core.admin)
            mirror.well()
            until(lambda: mirror.listed()["audited_at"], OUT)
            os.killpg(outside.process.pid, signal.SIGSTOP)
            try:
                out = until(lambda: mirror.listed()["why"] is not None, OUT)
                listed = mirror.listed()
                time.sleep(1)  # the other worker has heard too
                assert (0, {""}) == reads(fleet.core, 20)
            finally:
                os.killpg(outside.process.pid, signal.SIGCONT)
            back = until(lambda: mirror.listed()["why"] is None, BACK)
            time.sleep(1)
            assert (0, {outside.url}) == reads(fleet.core, 20)

    print(f"{listed['why']}: out after {out:.1f} s, back after {back:.1f} s")
    assert 1 == listed["status"]
