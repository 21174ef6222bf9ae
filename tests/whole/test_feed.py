"""The feed of a real soup while many write: nobody who follows misses a change (D7)."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import httpx
import pytest

from tests.conftest import Server, Servers
from tests.databases import KIND

SECONDS = {False: 4, True: 20}  # in short and long
READERS = 3

Change = tuple[int, str, str]


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    servers = Servers(tmp_path_factory.mktemp("feed"))
    with servers.stack:
        yield servers()


def write(server: Server, writer: int, until: float) -> dict[str, str]:
    """Put blobs, some of them twice, delete and block some; the last state of each."""
    dice, states = Random(writer), dict[str, str]()
    with httpx.Client(base_url=server.url, headers=server.admin, timeout=30) as client:
        while time.monotonic() < until:
            data = b"%d %d" % (writer, dice.randrange(10**9))
            answer = client.post("/api/blob", content=data)
            assert 201 == answer.status_code, answer.text
            digest = answer.json()["digest"]
            states[digest] = "present"
            chance = dice.random()
            if chance < 0.3:
                assert 204 == client.delete(f"/api/blob/{digest}").status_code
                states[digest] = "gone"
            elif chance < 0.4:
                assert 200 == client.patch(f"/api/blob/{digest}", json={"blocked": True}).status_code
                states[digest] = "blocked"
            if chance < 0.1:
                assert 201 == client.put(f"/api/blob/{digest}", content=data).status_code
                states[digest] = "present"
    return states


def follow(server: Server, limit: int, over: threading.Event) -> list[Change]:
    """Every change from the first on, until the writers are done and nothing more comes."""
    query: dict[str, Any] = {"after": 0, "limit": limit, "wait": 1}
    seen: list[Change] = []
    with httpx.Client(base_url=server.url, headers=server.admin, timeout=30) as client:
        while True:
            last = over.is_set()
            answer = client.get("/api/blob:changes", params=query)
            assert 200 == answer.status_code, answer.text
            found = answer.json()
            assert query.get("epoch", found["epoch"]) == found["epoch"]
            new = [(one["seq"], one["digest"], one["state"]) for one in found["changes"]]
            assert all(query["after"] < seq <= found["next"] for seq, _, _ in new)
            seen += new
            query |= {"after": found["next"], "epoch": found["epoch"]}
            if last and not new:
                return seen


def test_many_write_and_some_follow(busy: Server, pytestconfig: pytest.Config) -> None:
    """
    Readers who follow from the start, in pages of different sizes, end with exactly what the writers left;
    none is told a change twice, all are told in the same order, and the numbers have no end but head.
    """
    writers = {"sqlite": 8, "postgresql": 24}[KIND.name]
    over, until = threading.Event(), time.monotonic() + SECONDS[pytestconfig.getoption("long")]
    with ThreadPoolExecutor(writers + READERS) as pool:
        readers = [pool.submit(follow, busy, limit, over) for limit in (7, 100, 10_000)]
        writing = [pool.submit(write, busy, number, until) for number in range(writers)]
        try:
            written = {digest: state for one in writing for digest, state in one.result().items()}
        finally:
            over.set()
        told = [reader.result() for reader in readers]

    print(f"{writers} writers, {len(written)} blobs; changes told: {[len(seen) for seen in told]}")
    assert len(written) > writers
    head = busy.client.get("/api/blob:changes?limit=1", headers=busy.admin).json()["head"]
    where: dict[int, str] = {}
    for seen in told:
        numbers = [seq for seq, _, _ in seen]
        assert numbers == sorted(set(numbers)), "repeated, or out of order"
        assert written == {digest: state for _, digest, state in seen}, "missed"
        assert head == numbers[-1]
        for seq, digest, _ in seen:
            assert digest == where.setdefault(seq, digest), "one number, two blobs"
