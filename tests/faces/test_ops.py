"""Health, metrics, the description, and the id of a request."""

import json
import os
import re
import shutil
import signal
import socket
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from soup.faces.ops import LIVE, READY
from tests.conftest import Servers, bearer, sha256
from tests.scrape import eventually, rise, scraped

NAMES = [
    "/healthz", "/health", "/healthcheck", "/helthcheck",
    "/readyz", "/health/ready", "/readiness", "/redines",
]  # fmt: skip
IDS = ("x-request-id", "x-amz-request-id")


@pytest.fixture(scope="module")
def lone(tmp_path_factory):
    """One worker: whoever asks it for metrics gets what it has counted up to this request."""
    servers = Servers(tmp_path_factory.mktemp("lone"))
    with servers.stack:
        yield servers(server__workers=1)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", NAMES)
def test_health_by_every_name(server, path, method) -> None:
    """
    Every name that older systems gave to these two questions is answered, the misspelt ones as well (C15).
    """
    answer = server.client.request(method, path)

    assert (200, "application/json") == (answer.status_code, answer.headers["content-type"])
    assert ({"status": "ok"} if method == "GET" else None) == (answer.json() if answer.content else None)
    assert sorted(NAMES) == sorted([*LIVE, *READY])


async def test_the_store_is_gone(kitchen) -> None:
    """
    Without its folder soup is alive and not ready: 503 with the reason, as JSON. It is ready again with it.
    """
    blobs = kitchen.settings.blobs_folder
    blobs.rename(blobs.with_name("unmounted"))

    answers = [await kitchen.anyone.get(path) for path in READY]

    assert {503} == {answer.status_code for answer in answers}
    assert {"application/json"} == {answer.headers["content-type"] for answer in answers}
    assert {"degraded"} == {answer.json()["status"] for answer in answers}
    assert ["", ""] != [answer.json()["reason"] for answer in answers[:2]]
    assert 200 == (await kitchen.anyone.get("/healthz")).status_code
    blobs.with_name("unmounted").rename(blobs)
    assert 200 == (await kitchen.anyone.get("/readyz")).status_code


@pytest.mark.sqlite
@pytest.mark.parametrize("how", ["gone", "replaced", "spoilt"])
def test_the_database_is_unusable(serve, how) -> None:
    """
    A database file that was moved away, put in another's place or overwritten: 503 as JSON, and no 500.
    """
    server = serve()
    eventually(lambda: len({httpx.get(server.url).headers[IDS[0]][:12] for _ in range(8)}) == 2)
    file = server.data / "soup.db"
    if how == "spoilt":
        with file.open("r+b") as spoilt:
            spoilt.write(os.urandom(file.stat().st_size))
    else:
        file.rename(file.with_name("elsewhere.db"))
        if how == "replaced":
            shutil.copy(file.with_name("elsewhere.db"), file)

    eventually(lambda: httpx.get(f"{server.url}/readyz").status_code != 200, seconds=5)

    answer = httpx.get(f"{server.url}/readyz")
    assert server.process.poll() is None
    assert 503 == answer.status_code
    assert "degraded" == answer.json()["status"]


def test_metrics_of_two_workers(server) -> None:
    """
    A hundred requests over as many connections are counted as a hundred, whichever worker is asked.
    """
    name = 'soup_blob_requests_total{status="404"}'
    miss = f"{server.url}/{'0' * 64}"
    before = scraped(server).get(name, 0)

    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda _: httpx.get(miss), range(100)))

    assert 2 == len({answer.headers["x-request-id"][:12] for answer in answers})
    eventually(lambda: scraped(server)[name] == before + 100)
    assert {before + 100} == {scraped(server)[name] for _ in range(8)}


def test_metrics_have_help(server) -> None:
    """
    Every metric says what it is, and all have soup's prefix.
    """
    server.client.get("/" + "0" * 64)

    answer = server.client.get("/metrics")

    assert answer.headers["content-type"].startswith("text/plain; version=")
    families = list(text_string_to_metric_families(answer.text))
    assert families
    assert [] == [
        one.name for one in families if not one.name.startswith("soup_") or len(one.documentation) < 10
    ]


def test_metrics_of_blobs(lone) -> None:
    """
    Uploads, known and new, and bytes that went out: each in its own count.
    """
    data = os.urandom(1000)
    path = "/" + sha256(data)

    assert 1 == rise(lone, lambda: lone.keep(data), 'soup_blobs_received_total{result="new"}')
    assert 1 == rise(lone, lambda: lone.keep(data), 'soup_blobs_received_total{result="known"}')
    assert 1000 == rise(lone, lambda: lone.keep(data), "soup_blob_received_bytes_total")
    sent = "soup_blob_sent_bytes_total"
    assert 1000 == rise(lone, lambda: lone.client.get(path), sent)
    assert 10 == rise(lone, lambda: lone.client.get(path, headers={"Range": "bytes=0-9"}), sent)
    assert 0 == rise(lone, lambda: lone.client.head(path), sent)


@pytest.mark.parametrize(
    ("headers", "query", "status"),
    [
        ({}, "", 200),
        ({"Range": "bytes=0-1"}, "", 206),
        ({"If-None-Match": "*"}, "", 304),
        ({"If-Match": '"other"'}, "", 412),
        ({"Range": "bytes=99-"}, "", 416),
        ({}, "?direct=2", 400),
    ],
)
def test_metrics_of_answers(lone, headers, query, status) -> None:
    """
    Every answer to a request for a blob is counted under its status.
    """
    path = f"/{lone.keep(b'soup')}{query}"

    def ask() -> None:
        assert status == lone.client.get(path, headers=headers).status_code

    assert 1 == rise(lone, ask, f'soup_blob_requests_total{{status="{status}"}}')


def test_metrics_of_redirects_mirrors_and_jobs(serve) -> None:
    """
    Redirects, reports, mirrors and those online, runs of jobs.
    """
    server = serve(
        server__workers=1, cdn__silence_seconds=2, jobs__mirrors_sweep_seconds=0.2, jobs__lease_seconds=1
    )
    path = f"/{server.keep(b'soup')}"

    mirror = server.mirror("a.example", status=None)
    eventually(lambda: scraped(server).get('soup_mirrors{which="all"}') == 1)
    report = f"/api/cdn/{mirror['id']}?status=1"
    token = bearer(mirror["token"])
    assert 1 == rise(server, lambda: server.client.patch(report, headers=token), "soup_reports_total")
    eventually(lambda: scraped(server).get('soup_mirrors{which="online"}') == 1)
    assert 1 == rise(server, lambda: server.client.get(path), 'soup_blob_requests_total{status="307"}')
    eventually(lambda: scraped(server).get('soup_mirrors{which="online"}') == 0)
    assert 1 <= scraped(server)['soup_job_runs_total{job="mirrors.sweep",result="done"}']


@pytest.mark.parametrize("name", ["soup_blobs_missing_total", 'soup_blob_requests_total{status="503"}'])
def test_metrics_of_what_is_missing(lone, name) -> None:
    """
    A blob whose file is gone is counted as missing, and its 503 as an answer.
    """
    digest = lone.keep(b"about to vanish")
    (lone.data / "blobs" / digest[:3] / digest).unlink()

    assert 1 == rise(lone, lambda: lone.client.get(f"/{digest}"), name)


@pytest.mark.parametrize(("path", "status"), [("/api/blob:list", 401), ("/no/such/thing", 404)])
def test_metrics_of_the_rest(lone, path, status) -> None:
    """
    Requests for anything else are counted by method and status.
    """
    name = f'soup_api_requests_total{{method="GET",status="{status}"}}'

    assert 1 == rise(lone, lambda: lone.client.get(path), name)


def test_metrics_of_a_worker_that_was_killed(serve) -> None:
    """
    What it has counted still counts; what it was doing, nobody is doing any more.
    """
    server = serve(server__workers=1)
    digest = server.keep(os.urandom(1024) * 32_768)
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(f"GET /{digest} HTTP/1.1\r\nHost: soup\r\n\r\n".encode())
        eventually(lambda: scraped(server)["soup_direct_bodies"] == 1)
        eventually(lambda: scraped(server)['soup_blob_requests_total{status="200"}'] == 1)

        os.kill(server.workers()[0], signal.SIGKILL)

    server.wait()
    eventually(lambda: scraped(server).get("soup_direct_bodies", 0) == 0)
    assert 1 == scraped(server)['soup_blob_requests_total{status="200"}']
    assert 1 == scraped(server)['soup_blobs_received_total{result="new"}']


def test_the_description_as_a_page(server) -> None:
    """
    A browser gets one plain page: every request is on it, no script, nothing from elsewhere.
    """
    answer = server.client.get("/schema", headers={"Accept": "text/html,*/*;q=0.8"})

    paths = server.client.get("/schema/openapi.json").json()["paths"]
    assert 200 == answer.status_code
    assert "text/html; charset=utf-8" == answer.headers["content-type"]
    assert [] == [path for path in paths if path not in answer.text]
    assert [] == re.findall(r"https?://|<script|<link|src=|@import|url\(", answer.text)


@pytest.mark.parametrize("accept", ["application/json", "*/*", "application/vnd.oai.openapi+json"])
def test_the_description_for_programs(server, accept) -> None:
    """
    Whoever does not ask for HTML gets the same as JSON.
    """
    answer = server.client.get("/schema", headers={"Accept": accept})

    assert 200 == answer.status_code
    assert answer.headers["content-type"].partition(";")[0].endswith("json")
    assert server.client.get("/schema/openapi.json").json() == answer.json()


def test_what_is_described(server) -> None:
    """
    OpenAPI 3 with every request, the one that the framework does not serve among them, and no outside links.
    """
    answer = server.client.get("/schema/openapi.json")
    described = answer.json()

    assert described["openapi"].startswith("3.")
    assert {"get", "head", "options", "put"} <= set(described["paths"]["/{digest}"])
    statuses = {"200", "206", "304", "307", "404", "410", "412", "416", "503"}
    assert statuses <= set(described["paths"]["/{digest}"]["get"]["responses"])
    assert {"/api/cdn:list", "/api/cdn/{id}", "/api/blob:missing", "/metrics", *NAMES} <= set(
        described["paths"]
    )
    assert [] == re.findall(r"https?://[^\"]+", json.dumps(described))
    assert [] == [
        (method, path)
        for path, item in described["paths"].items()
        for method, operation in item.items()
        if method in {"get", "put", "post", "patch", "delete"} and not operation.get("description")
    ]


def test_head_of_everything(server) -> None:
    """
    Whatever answers GET answers HEAD with the same status and headers, and without a body (RFC 9110, 9.1).
    """
    digest, id = server.keep(b"soup"), server.mirror("a.example")["id"]
    described = server.client.get("/schema/openapi.json").json()["paths"]
    looks = [path for path, item in described.items() if "get" in item]
    own = {"date", "content-length", "transfer-encoding", *IDS}

    assert [] == [path for path in looks if "head" not in described[path]]
    assert {"/metrics", "/api/cdn", "/api/blob/{digest}", "/api/blob:bundle", "/{digest}"} <= set(looks)
    for path in looks:
        url = path.format(digest=digest, id=id)
        got, head = [server.client.request(one, url, headers=server.admin) for one in ("GET", "HEAD")]
        assert (got.status_code, b"") == (head.status_code, head.content), path
        assert "content-length" in got.headers or head.headers.get("content-length") is None, path
        assert [(name, value) for name, value in got.headers.items() if name not in own] == [
            (name, value) for name, value in head.headers.items() if name not in own
        ], path


def test_what_a_cache_may_keep(server) -> None:
    """
    Answers are of their moment, and some hold a token: no cache keeps them. The description may be kept.
    """
    digest = server.keep(b"soup")
    paths = ["/healthz", "/readyz", "/metrics", "/api/cdn:list", f"/api/blob/{digest}", "/schema/x", "/x"]
    answers = [server.client.get(path, headers=server.admin) for path in paths]
    answers.append(server.client.post("/api/cdn", json={"fqdn": "b.example"}, headers=server.admin))
    answers.append(server.client.put("/api/blob", content=b"soup", headers=server.admin))
    answers.append(server.client.put("/api/blob", content=b"soup"))
    answers.append(server.client.delete("/healthz"))

    assert [200] * 5 + [404, 404, 201, 200, 401, 405] == [answer.status_code for answer in answers]
    assert [["no-store"]] * 11 == [answer.headers.get_list("cache-control") for answer in answers]
    for path in ("/schema", "/schema/openapi.json"):
        assert "cache-control" not in server.client.get(path).headers


def test_only_our_pages(server) -> None:
    """
    The framework's own pages, which load scripts from elsewhere, are not there.
    """
    for name in ("swagger", "redoc", "elements", "rapidoc", "scalar", "openapi.yaml"):
        assert 404 == server.client.get(f"/schema/{name}", headers={"Accept": "text/html"}).status_code


@pytest.mark.parametrize(
    "path", ["/healthz", "/{kept}", "/" + "0" * 64, "/api/cdn:list", "/no/such", "/schema"]
)
def test_a_request_has_an_id(server, path) -> None:
    """
    Every answer carries the id of its request under both names, each request another (C19).
    """
    asked = path.format(kept=server.keep(b"soup"))

    first, second = server.client.get(asked).headers, server.client.get(asked).headers

    assert first[IDS[0]] == first[IDS[1]]
    assert re.fullmatch("[0-9a-f]{1,64}", first[IDS[0]])
    assert first[IDS[0]] != second[IDS[0]]


def test_an_id_on_a_redirect(serve) -> None:
    """
    The hot path keeps the id that the client chose.
    """
    server = serve()
    server.mirror("a.example")
    path = f"/{server.keep(b'soup')}"

    answer = server.client.get(path, headers={"X-Request-Id": "0123456789abcdefABCDEF"})

    assert 307 == answer.status_code
    assert ["0123456789abcdefABCDEF"] * 2 == [answer.headers[name] for name in IDS]


@given(st.text("0123456789abcdefABCDEFg-'", min_size=1, max_size=70))
@example("a" * 64)
@example("a" * 65)
@example("00000000-0000-4000-8000-000000000000")
@example("' or 1 = 1")
def test_any_id(lone, asked) -> None:
    """
    Up to 64 hexadecimal digits are kept as they are; anything else is replaced by one of ours.
    """
    answer = lone.client.get("/healthz", headers={"X-Request-Id": asked})

    ids = {answer.headers[name] for name in IDS}
    kept = re.fullmatch("[0-9a-fA-F]{1,64}", asked) is not None
    assert 1 == len(ids)
    assert kept == (ids == {asked})
    assert re.fullmatch("[0-9a-fA-F]{1,64}", ids.pop())
