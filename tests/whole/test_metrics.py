"""/metrics of real servers: what moves when something happens, over workers and their ends."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Server, Servers, bearer
from tests.databases import KIND
from tests.scrape import eventually, rise, scraped
from tests.workers import each_worker

MISS = "/" + "0" * 64
EVERYBODY = 'soup_workers{which="all"}'


def head(server: Server) -> int:
    """The number of the last change."""
    return int(server.client.get("/api/blob:list", headers=server.admin).json()["head"])


@pytest.fixture(scope="module")
def lone(tmp_path_factory):
    """One worker, whose jobs run often."""
    servers = Servers(tmp_path_factory.mktemp("lone"))
    with servers.stack:
        yield servers(
            server__workers=1,
            jobs__blobs_count_seconds=0.2,
            jobs__lease_seconds=1,
            serve__direct_slots=1,
            upload__largest="64MiB",
        )


@contextmanager
def sending(server: Server, request: str) -> Iterator[socket.socket]:
    """A connection on which this has been sent."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(request.encode())
        yield connection


def upload(server: Server) -> str:
    """The beginning of an upload."""
    token = f"Authorization: Bearer {server.token}\r\n"
    return f"POST /api/blob HTTP/1.1\r\nHost: soup\r\n{token}Content-Length: 9\r\n\r\nleek"


@contextmanager
def polling(server: Server) -> Iterator[None]:
    """A reader of the feed that waits until the block ends, when a blob is kept."""
    with httpx.Client(base_url=server.url, timeout=30) as client:
        reader = threading.Thread(target=poll, args=(server, client))
        reader.start()
        try:
            yield
        finally:
            server.keep(os.urandom(8))
            reader.join()


@pytest.mark.parametrize(
    ("path", "status", "answer"),
    [("{kept}", 200, "direct"), ("{kept}?direct=2", 400, "refused"), (MISS, 404, "refused")],
)
def test_the_time_of_an_answer(lone, path, status, answer) -> None:
    """
    Each request for a blob is in the histogram once, within its bounds, and takes some time.
    """
    path = path.format(kept="/" + lone.keep(b"soup"))
    name = "soup_blob_request_seconds"

    def ask() -> None:
        assert status == lone.client.get(path).status_code

    assert 3 == rise(lone, lambda: [ask() for _ in range(3)], f'{name}_count{{answer="{answer}"}}')
    assert 1 == rise(lone, ask, f'{name}_bucket{{answer="{answer}",le="+Inf"}}')
    assert 1 == rise(lone, ask, f'{name}_bucket{{answer="{answer}",le="10.0"}}')
    assert 10 > rise(lone, ask, f'{name}_sum{{answer="{answer}"}}') > 0


def test_the_time_of_a_redirect(serve) -> None:
    """
    Redirects have a histogram of their own, which says that it is one.
    """
    server = serve(server__workers=1)
    server.mirror("a.example")
    path = f"/{server.keep(b'soup')}"

    assert 307 == server.client.get(path).status_code

    assert 1 == scraped(server)['soup_blob_request_seconds_count{answer="redirect"}']
    families = text_string_to_metric_families(server.client.get("/metrics").text)
    types = {family.name: family.type for family in families}
    assert "histogram" == types["soup_blob_request_seconds"]


def test_the_time_of_the_rest(lone) -> None:
    """
    By method; a long poll is left out, and a method that a client has made up is one of many.
    """
    name = 'soup_api_request_seconds_count{method="GET"}'
    changes = f"/api/blob:changes?after={head(lone)}"

    assert 2 == rise(lone, lambda: lone.client.get("/healthz"), name)  # the scrape before it is the other
    assert 2 == rise(lone, lambda: lone.client.get(changes, headers=lone.admin), name)
    assert 1 == rise(lone, lambda: lone.client.get(f"{changes}&wait=0.01", headers=lone.admin), name)
    made_up = 'soup_api_requests_total{method="other",status="405"}'
    assert 2 == rise(lone, lambda: [lone.client.request(x, "/healthz") for x in ("BREW", "STIR")], made_up)


def test_what_is_under_way(lone) -> None:
    """
    Uploads and long polls are counted while they last, and not after.
    """
    with sending(lone, upload(lone)) as connection:
        eventually(lambda: 1 == scraped(lone)["soup_uploads"])
        connection.sendall(b" pie!")
        assert connection.recv(1000).startswith(b"HTTP/1.1 201")
    assert 0 == scraped(lone)["soup_uploads"]

    with polling(lone):
        eventually(lambda: 1 == scraped(lone)["soup_polls"])
    assert 0 == scraped(lone)["soup_polls"]


def test_refused_for_want_of_slots(lone) -> None:
    """
    A body more than may be sent at once.
    """
    path = f"/{lone.keep(os.urandom(1024) * 32_768)}"
    with sending(lone, f"GET {path} HTTP/1.1\r\nHost: soup\r\n\r\n"):
        eventually(lambda: 1 == scraped(lone)["soup_direct_bodies"])

        refused = rise(lone, lambda: lone.client.get(path), 'soup_refused_total{reason="slots"}')

    assert 1 == refused
    eventually(lambda: 0 == scraped(lone)["soup_direct_bodies"])


def test_refused_for_its_size(lone) -> None:
    """
    An upload that is larger than the largest is counted once.
    """
    request = f"POST /api/blob HTTP/1.1\r\nHost: soup\r\nAuthorization: Bearer {lone.token}\r\n"

    def announce() -> None:
        with sending(
            lone, f"{request}Expect: 100-continue\r\nContent-Length: 67108865\r\n\r\n"
        ) as connection:
            assert connection.recv(1000).startswith(b"HTTP/1.1 413")

    assert 1 == rise(lone, announce, 'soup_refused_total{reason="largest"}')


def test_refused_for_want_of_room(serve) -> None:
    """
    An upload that would leave too little free; the room there is, is told.
    """
    server = serve(server__workers=1, store__keep_free=1 << 60)
    eventually(lambda: 'soup_store_bytes{which="kept"}' in scraped(server))

    def keep() -> None:
        assert 507 == server.client.post("/api/blob", content=b"leek", headers=server.admin).status_code

    assert 1 == rise(server, keep, 'soup_refused_total{reason="keep_free"}')
    said, disk = scraped(server), os.statvfs(server.data)
    assert 1 << 60 == said['soup_store_bytes{which="kept"}']
    assert disk.f_blocks * disk.f_frsize == said['soup_store_bytes{which="all"}']
    assert 0 < said['soup_store_bytes{which="free"}'] <= said['soup_store_bytes{which="all"}']


def test_unknown_tokens(lone) -> None:
    """
    A token that nobody has is counted; none at all is not.
    """
    name = "soup_tokens_unknown_total"

    def ask(headers: dict[str, str]) -> None:
        assert 401 == lone.client.get("/api/blob:list", headers=headers).status_code

    assert 1 == rise(lone, lambda: ask(bearer("soup_turnip")), name)
    assert 0 == rise(lone, lambda: ask({}), name)


def test_what_there_is(lone) -> None:
    """
    Blobs and their bytes, counted by a job; the head of the feed; how long writing down took.
    """
    eventually(lambda: "soup_blobs" in scraped(lone))
    before = scraped(lone)

    digest = lone.keep(os.urandom(1000))

    eventually(lambda: before["soup_blobs"] + 1 == scraped(lone)["soup_blobs"])
    eventually(lambda: before["soup_blob_bytes"] + 1000 == scraped(lone)["soup_blob_bytes"])
    eventually(lambda: head(lone) == scraped(lone)["soup_feed_head"])
    assert before["soup_commit_seconds_count"] + 1 == scraped(lone)["soup_commit_seconds_count"]
    lone.client.delete(f"/api/blob/{digest}", headers=lone.admin)
    eventually(lambda: before["soup_blobs"] == scraped(lone)["soup_blobs"])


def test_jobs(lone) -> None:
    """
    Who runs them, how long they take, and when each last went well.
    """
    eventually(lambda: 'soup_job_success_time_seconds{job="blobs.count"}' in scraped(lone))
    said = scraped(lone)

    assert 1 == said["soup_lease_held"]
    assert 60 > abs(time.time() - said['soup_job_success_time_seconds{job="blobs.count"}'])
    assert 0 < said['soup_job_seconds_count{job="blobs.count"}']
    assert 0 < said['soup_job_seconds_sum{job="blobs.count"}']


def test_lookups(lone) -> None:
    """
    Queries that find blobs are timed on PostgreSQL; SQLite has none.
    """
    queries = rise(lone, lambda: lone.client.get(MISS), "soup_lookup_seconds_count")

    assert (1 if KIND.name == "postgresql" else 0) == queries


def test_what_runs(lone) -> None:
    """
    The version, the start, the workers, and noughts that an alarm can see rise.
    """
    eventually(lambda: 1 == scraped(lone).get('soup_workers{which="database"}'))
    said = scraped(lone)

    assert 1 == sum(value for name, value in said.items() if name.startswith('soup_build_info{version="'))
    assert 1 == said[EVERYBODY]
    assert 0 < time.time() - said["soup_start_time_seconds"] < 600
    assert (
        0 == said['soup_refused_total{reason="full"}'] == said['soup_database_errors_total{kind="timeout"}']
    )


@pytest.mark.sqlite
def test_a_database_that_is_out_of_reach(serve) -> None:
    """
    Workers that do not reach it are told from those that do, and its errors are counted.
    """
    server = serve(server__workers=1)
    file = server.data / "soup.db"
    with file.open("r+b") as spoilt:
        spoilt.write(os.urandom(file.stat().st_size))

    eventually(lambda: 0 == scraped(server)['soup_workers{which="database"}'])

    assert 1 == scraped(server)[EVERYBODY]
    assert 1 <= scraped(server)['soup_database_errors_total{kind="refused"}']


def test_over_workers(serve, monkeypatch, tmp_path) -> None:
    """
    Sums are of all workers. One that is killed leaves what it counted and takes along what it was doing; the
    next soup counts from zero, and nothing of the one before is left.
    """
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    server = serve(jobs__lease_seconds=1)
    eventually(lambda: 1 == scraped(server)["soup_lease_held"])
    with each_worker(server) as clients:
        for client in clients:
            for _ in range(5):
                client.get(MISS)
        eventually(lambda: (10, 10) == misses(server))
        readers = [threading.Thread(target=poll, args=(server, client)) for client in clients]
        for reader in readers:
            reader.start()
        eventually(lambda: 2 == scraped(server)["soup_polls"])

        os.kill(server.workers()[0], signal.SIGKILL)

        eventually(lambda: 1 == scraped(server)["soup_polls"])
        eventually(lambda: 2 == scraped(server)[EVERYBODY])
        assert (10, 10) == misses(server)
        assert 1 == scraped(server)["soup_worker_restarts_total"]
        eventually(lambda: 1 == scraped(server)["soup_lease_held"])
        assert 1 == scraped(server)["soup_polls"]
        server.keep(b"something new")
        for reader in readers:
            reader.join()
    assert 0 == scraped(server)["soup_polls"]

    server.stop()
    assert [] == list(tmp_path.glob("soup-*/"))
    again = serve(server.data)
    assert (0, 0) == misses(again)
    eventually(lambda: 2 == scraped(again)[EVERYBODY])


def misses(server: Server) -> tuple[float, float]:
    """Requests for unknown blobs, as they were counted and as they were timed."""
    said = scraped(server)
    counted = 'soup_blob_requests_total{status="404"}'
    return said.get(counted, 0), said.get('soup_blob_request_seconds_count{answer="refused"}', 0)


def poll(server: Server, client: httpx.Client) -> None:
    """Wait for news, or for the end of the worker."""
    with suppress(httpx.TransportError):
        client.get(f"/api/blob:changes?after={head(server)}&wait=20", headers=server.admin)
