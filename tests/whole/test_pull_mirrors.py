"""Mirrors in mode pull as clients meet them: empty ones, a crowd, and a core that sends rubbish (C10, D8)."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cdn_agent.spigot import PullMirror, pull_mirror, spigot
from tests.conftest import Server, Servers, program, sha256
from tests.mirror_servers import WebServer
from tests.wire import MIB, counter, until

CROWD = {False: (25, 24 * MIB), True: (100, 200 * MIB)}  # clients, and bytes for each; the second with --long
pytestmark = [pytest.mark.sqlite, pytest.mark.row("C10")]


def add(core: Server, stack: ExitStack, folder: Path, kind: str) -> PullMirror:
    """One more empty mirror of a core, which chooses it when this returns."""
    known: dict[str, Any] = {}

    def added(web: WebServer) -> dict[str, Any]:
        known.update(core.mirror(web.address, None, scheme="http", port=web.port, mode="pull"))
        return known

    mirror = stack.enter_context(pull_mirror(folder, core.url, kind, added))
    url = f"/api/cdn/{known['id']}"
    until(lambda: core.client.get(url, headers=core.admin).json()["why"] is None, 20)
    return mirror


@pytest.fixture
def core(serve: Servers) -> Iterator[Server]:
    # Audits read blobs too, and here it is counted who does.
    return serve(cdn__report_seconds=1, cdn__audit="off")


@pytest.mark.timeout(300)
def test_two_empty_mirrors(core: Server, tmp_path: Path) -> None:
    """
    Twenty clients each ask for forty blobs: all are sent to one of two mirrors that have nothing, which ask
    the core, and are answered with bytes. Each asks for each blob once.
    """
    blobs = {core.keep(data): data for data in (os.urandom(20_000) for _ in range(40))}
    with ExitStack() as stack:
        mirrors = [add(core, stack, tmp_path / kind, kind) for kind in ("nginx", "apache")]
        until(lambda: {_sent(core, next(iter(blobs))) for _ in range(20)} == {one.url for one in mirrors})
        for _ in range(20):
            for digest, data in blobs.items():
                answer = httpx.get(f"{core.url}/{digest}", follow_redirects=True)
                assert (200, 1, data) == (answer.status_code, len(answer.history), answer.content)

        pulls = [mirror.agent.metric("pulls_total") for mirror in mirrors]
        assert all(set(blobs) == mirror.agent.files() for mirror in mirrors)
        assert [40, 40] == pulls
        assert [0, 0] == [mirror.agent.metric("pull_refused_total") for mirror in mirrors]


def _sent(core: Server, digest: str) -> str:
    location = core.client.get(f"/{digest}").headers.get("location", "")
    return str(location.removesuffix(f"/{digest}"))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["nginx", "apache"])
def test_a_crowd_asks_for_one_cold_blob(
    core: Server, tmp_path: Path, kind: str, pytestconfig: pytest.Config
) -> None:
    """
    A hundred at once, 200 MiB each: the core sends them once, all are right, and the agent does not grow.
    """
    crowd, size = CROWD[pytestconfig.getoption("long")]
    data = os.urandom(size)
    digest = core.keep(data)
    sink = (program("sh"), "-c", f"curl -sf --max-time 300 $0/{digest} | sha256sum")
    with ExitStack() as stack:
        mirror = add(core, stack, tmp_path, kind)
        before, sent = mirror.agent.anonymous(), counter(core, "soup_blob_sent_bytes_total")
        began, most = time.monotonic(), 0
        clients = [
            subprocess.Popen([*sink, mirror.url], stdout=subprocess.PIPE, text=True) for _ in range(crowd)
        ]
        while any(client.poll() is None for client in clients):
            most = max(most, mirror.agent.anonymous())
            time.sleep(0.1)
        seconds = time.monotonic() - began
        got = {client.communicate()[0].split()[0] for client in clients}

        assert {digest} == got
        assert (1, size) == (mirror.agent.metric("pulls_total"), mirror.agent.metric("pulled_bytes_total"))
        assert size == counter(core, "soup_blob_sent_bytes_total") - sent
        grown = (most - before) / MIB
        print(f"the agent took {_cpu(mirror):.1f} s of a core")
        print(f"{crowd} clients in {seconds:.1f} s, the agent grew by {grown:.1f} MiB")
        assert grown < 32


def _cpu(mirror: PullMirror) -> float:
    fields = Path(f"/proc/{mirror.agent.process.pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("kind", ["nginx", "apache"])
def test_a_core_that_sends_rubbish(tmp_path: Path, kind: str) -> None:
    """
    Wholes and parts, with curl and with aria2c: nobody has a complete body, and nothing is kept.
    """
    data = os.urandom(5 * MIB)
    with spigot() as core, pull_mirror(tmp_path / "mirror", core.url, kind) as mirror:
        digest = core.keep(data, instead=data[: 3 * MIB] + bytes(2 * MIB))
        aria2c = [program("aria2c"), "-q", "--no-conf", "--max-tries=2", "--retry-wait=1", "-s4", "-k1M"]
        commands = [
            ["curl", "-sf", "-o", "curl"],
            ["curl", "-sf", "--retry", "1", "-o", "again"],
            [*aria2c, "-o", "aria2c"],
        ]
        for command in commands:
            run = subprocess.run([*command, f"{mirror.url}/{digest}"], cwd=tmp_path, check=False, timeout=60)
            assert run.returncode

        for name in ("curl", "again"):
            file = tmp_path / name
            assert not file.exists() or file.stat().st_size <= len(data) - (64 << 10)
        assert set() == mirror.agent.files()
        assert [] == mirror.left()
        right = core.keep(data)  # it is mended
        until(lambda: httpx.get(f"{mirror.url}/{right}").status_code == 200, 15)
        until(lambda: mirror.agent.has(right))
        assert sha256(mirror.agent.blobs.joinpath(right[:3], right).read_bytes()) == right
