"""A machine with one command: the agent runs the web server and joins a real soup."""

import json
import shlex
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests import agents
from tests.agents import Agent
from tests.conftest import Server, program, sha256
from tests.mirror_servers import SIGNALS, WebServer, apache_mirror, nginx_mirror
from tests.wire import until

NOBODY = {"id": "", "token": ""}
LIMIT = 30.0  # seconds from the start to the pool (S33)
LEEK = b"leek" * 1000


@pytest.fixture(params=["nginx", "apache"])
def web(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[WebServer]:
    """What the agent is to run; nobody has started it."""
    made = {"nginx": nginx_mirror, "apache": apache_mirror}[request.param]
    (tmp_path / "blobs").mkdir()
    with made(tmp_path / "web", tmp_path / "blobs", None, "127.0.0.2") as server:
        server.stop()
        yield server


def run(tmp_path: Path, core: str, web: WebServer, secret: Path, **more: Any) -> Agent:
    """The one command. `fqdn` is given because there are more addresses than one here."""
    settings = {"join_token_file": secret, "fqdn": web.address, "scheme": "http", "port": web.port}
    settings |= {"beside": shlex.join(map(str, web.command)), "interval": 2} | SIGNALS[web.kind] | more
    return agents.start(tmp_path / "agent", core, NOBODY, tmp_path / "blobs", web.url, **settings)


def listed(core: Server) -> list[dict[str, Any]]:
    return list(core.client.get("/api/cdn:list", headers=core.admin).json())


def pool(core: Server) -> list[int]:
    """Ids of mirrors that are online and have passed an audit: clients are sent there for what they have."""
    return [mirror["id"] for mirror in listed(core) if mirror["online"] and mirror["audited_at"]]


@pytest.mark.row("S33")
def test_one_command_is_a_mirror(core: Server, web: WebServer, secret: Path, tmp_path: Path) -> None:
    """
    Nothing else is done: within 30 s it is online, also where soup has no blob yet; what is uploaded then
    comes from it. A new start is the same mirror, and the secret is not asked for again.
    """
    with ExitStack() as stack:
        agent = run(tmp_path, core.url, web, secret)
        stack.callback(agent.stop)
        took = until(lambda: pool(core), LIMIT)
        print(f"{web.kind}: online and audited after {took:.1f} s")
        digest = core.keep(LEEK)
        until(lambda: agent.has(digest), 40)
        location = f"{web.url}/{digest}"
        until(lambda: core.client.get(f"/{digest}").headers.get("location") == location, 40)
        got = subprocess.run(
            [program("curl"), "-sfL", "--max-time", "20", f"{core.url}/{digest}"],
            capture_output=True,
            check=True,
        )
        assert sha256(LEEK) == sha256(got.stdout)

        before = pool(core)
        assert 0 == agent.stop()
        until(lambda: listed(core)[0]["leaving"])
        secret.unlink()
        again = run(tmp_path, core.url, web, secret)
        stack.callback(again.stop)
        until(lambda: pool(core), LIMIT)

        assert before == pool(core)
        assert not again.events("join.refused")


@pytest.mark.row("S33")
@pytest.mark.parametrize("web", ["nginx"], indirect=True)
def test_a_mirror_that_was_deleted_joins_again_unless_barred(
    core: Server, web: WebServer, secret: Path, tmp_path: Path
) -> None:
    """
    Deleted it comes back under another id; barred it says why it cannot, and goes on trying.
    """
    agent = run(tmp_path, core.url, web, secret)
    try:
        (first,) = until_some(core)
        remove(core, f"{first}")
        until(lambda: [mirror["id"] for mirror in listed(core)] not in ([], [first]), LIMIT)
        (second,) = [mirror["id"] for mirror in listed(core)]
        until(lambda: agent.status()["mirror"]["id"] == second)
        kept = json.loads((tmp_path / "blobs/.soup-cdn/joined.json").read_text())
        assert second == kept["id"]

        time.sleep(3.5)  # who has just joined is given time
        remove(core, f"{second}?bar=true")

        until(lambda: agent.events("join.refused"), LIMIT)
        assert "403" in agent.events("join.refused")[0]["reason"]
        assert "403" in agent.status()["message"]
        assert [] == listed(core)
    finally:
        agent.stop()


def remove(core: Server, which: str) -> None:
    assert 204 == core.client.delete(f"/api/cdn/{which}", headers=core.admin).status_code


def until_some(core: Server) -> list[int]:
    """Ids of mirrors in the pool, once there are any."""
    until(lambda: pool(core), LIMIT)
    return pool(core)
