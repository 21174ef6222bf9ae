"""A mirror in mode pull beside a real soup: it is chosen for any blob, and follows the feed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cdn_agent.spigot import PullMirror, pull_mirror
from tests.conftest import Server, Servers, sha256
from tests.mirror_servers import WebServer
from tests.wire import counter, until

pytestmark = [pytest.mark.sqlite, pytest.mark.row("C10")]


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    servers = Servers(tmp_path_factory.mktemp("core"))
    with servers.stack:
        yield servers(cdn__report_seconds=0.5)


@contextmanager
def beside(
    core: Server, folder: Path, kind: str = "nginx", **settings: Any
) -> Iterator[tuple[PullMirror, int]]:
    """A mirror of this core, and its id; it is chosen."""
    known: dict[str, Any] = {}

    def add(web: WebServer) -> dict[str, Any]:
        known.update(core.mirror(web.address, None, scheme="http", port=web.port, mode="pull"))
        return known

    with pull_mirror(folder, core.url, kind, add, **settings) as mirror:
        until(lambda: listed(core, known["id"])["why"] is None)
        yield mirror, known["id"]
    core.client.delete(f"/api/cdn/{known['id']}", headers=core.admin)


def listed(core: Server, id: int) -> dict[str, Any]:
    return dict(core.client.get(f"/api/cdn/{id}", headers=core.admin).json())


@pytest.fixture(params=["nginx", "apache"])
def mirror(request: pytest.FixtureRequest, core: Server, tmp_path: Path) -> Iterator[PullMirror]:
    with beside(core, tmp_path, request.param) as (mirror, _):
        yield mirror


def got(core: Server, digest: str) -> httpx.Response:
    return httpx.get(f"{core.url}/{digest}", follow_redirects=True)


def test_an_empty_mirror_is_chosen_for_a_blob_of_just_now(core: Server, tmp_path: Path) -> None:
    """
    It says that it is well and not how far it has synced; the client is sent there, and the blob follows.
    """
    with beside(core, tmp_path) as (mirror, id):
        data = os.urandom(100_000)
        answer = got(core, core.keep(data))

        assert answer.url.port == mirror.web.port
        assert data == answer.content
        until(lambda: mirror.agent.has(sha256(data)))
        until(lambda: listed(core, id)["status"] == 1)
        told = listed(core, id)
        assert (1, None, "pull") == (told["status"], told["synced_to"], told["mode"])
        assert told["disk"]["free"]


def test_a_blob_that_was_not_there_a_moment_ago(core: Server, mirror: PullMirror) -> None:
    """
    404 while the core has it not; uploaded, it is found at once.
    """
    for _ in range(3):
        data = os.urandom(1000)
        assert 404 == httpx.get(f"{mirror.url}/{sha256(data)}").status_code
        core.keep(data)
        assert data == httpx.get(f"{mirror.url}/{sha256(data)}").content


@pytest.mark.parametrize("how", ["deleted", "blocked"])
def test_what_the_core_takes_back_goes(core: Server, mirror: PullMirror, how: str) -> None:
    """
    The file goes by the feed, and whoever asks is told by the core why.
    """
    kept, gone = core.keep(os.urandom(1000)), core.keep(os.urandom(1000))
    for digest in (kept, gone):
        assert 200 == httpx.get(f"{mirror.url}/{digest}").status_code
    until(lambda: mirror.agent.has(kept, gone))

    if how == "deleted":
        core.client.delete(f"/api/blob/{gone}", headers=core.admin)
    else:
        core.client.patch(f"/api/blob/{gone}", json={"blocked": True}, headers=core.admin)
    until(lambda: not mirror.agent.has(gone))

    assert mirror.agent.has(kept)
    assert {"deleted": 404, "blocked": 410}[how] == httpx.get(f"{mirror.url}/{gone}").status_code
    assert not mirror.agent.has(gone)


def test_deleted_while_the_agent_was_away(core: Server, tmp_path: Path) -> None:
    """
    The feed tells the next agent from where the last one was.
    """
    with beside(core, tmp_path) as (mirror, _):
        kept, gone = core.keep(os.urandom(1000)), core.keep(os.urandom(1000))
        for digest in (kept, gone):
            assert 200 == httpx.get(f"{mirror.url}/{digest}").status_code
        until(lambda: mirror.agent.has(kept, gone))
    core.client.delete(f"/api/blob/{gone}", headers=core.admin)
    with beside(core, tmp_path) as (mirror, _):
        until(lambda: mirror.agent.files() == {kept})


def test_another_core_with_the_same_blobs(serve: Servers, core: Server, tmp_path: Path) -> None:
    """
    Of another epoch: what it has too stays, the little that it has not goes.
    """
    both, old = b"both" * 100, b"old" * 100
    with beside(core, tmp_path) as (mirror, _):
        for data in (both, old):
            assert 200 == httpx.get(f"{mirror.url}/{core.keep(data)}").status_code
        until(lambda: mirror.agent.has(sha256(both), sha256(old)))
    other = serve(cdn__report_seconds=0.5)
    other.keep(both)
    with beside(other, tmp_path) as (mirror, _):
        until(lambda: mirror.agent.files() == {sha256(both)})
        assert 0 == counter(other, "soup_blobs_missing_total")


def test_from_full_to_pull_and_back(core: Server, tmp_path: Path) -> None:
    """
    The same folder in another mode: nothing that is right is fetched again, and in the end all of it is here.
    """
    digests = {core.keep(b"%d" % number * 500) for number in range(5)}
    with beside(core, tmp_path) as (mirror, _):
        for digest in sorted(digests)[:2]:
            assert 200 == httpx.get(f"{mirror.url}/{digest}").status_code
        until(lambda: mirror.agent.has(*sorted(digests)[:2]))
    with beside(core, tmp_path, mode="full") as (mirror, _):
        until(lambda: mirror.agent.has(*digests))
        until(lambda: mirror.agent.metric("blobs_wanted") == 0)
        everything = mirror.agent.files()
        come = ("fetched_total", "adopted_total")
        until(lambda: len(everything) - 2 == sum(mirror.agent.metric(one) for one in come))
    with beside(core, tmp_path) as (mirror, _):
        until(lambda: mirror.agent.metric("blobs") == len(everything))
        assert everything == mirror.agent.files()
        assert (0, 0) == (mirror.agent.metric("adopted_total"), mirror.agent.metric("pulls_total"))
