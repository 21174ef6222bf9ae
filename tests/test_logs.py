"""What soup says, and what it never says."""

import io
import json
import sqlite3
import subprocess
import sys
import time
from typing import Any

import pytest

from soup import logs
from tests.conftest import Server, Servers, bearer

pytestmark = pytest.mark.sqlite  # rows have no part in it

SAY = """
import logging, sys, structlog
from soup import logs
logs.set_up(sys.argv[1], sys.argv[2])
log = structlog.get_logger("kitchen")
log.info("soup.ready", blobs=3)
log.debug("soup.stirred")
log.warning("soup.hot", path=chr(10) + '{"event": "forged"}', text="caf" + chr(233))
logging.getLogger("elsewhere").warning("from a library: %s", 5)
logging.getLogger("apscheduler.x").info("a job will run soon")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("soup.burnt")
"""


def said(form: str, level: str = "info") -> list[str]:
    ended = subprocess.run(
        [sys.executable, "-c", SAY, form, level], capture_output=True, text=True, check=True
    )
    assert "" == ended.stdout
    return ended.stderr.splitlines()


def events(server: Server) -> list[dict[str, Any]]:
    """The lines of a server's log that are events."""
    return [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]


def requests(server: Server, id: str) -> list[dict[str, Any]]:
    """The lines of a request. They may come a moment after its answer."""
    until = time.monotonic() + 3
    while time.monotonic() < until:
        if found := [one for one in events(server) if one.get("request") == id]:
            return found
        time.sleep(0.02)
    return []


@pytest.fixture(scope="module")
def talkative(tmp_path_factory):
    """A server that logs each request, at the lowest level there is."""
    servers = Servers(tmp_path_factory.mktemp("talkative"))
    with servers.stack:
        yield servers(log__requests=True, log__level="debug")


def test_json() -> None:
    """
    One line is one event: soup's, its libraries', and exceptions with their trace inside.
    """
    found = [json.loads(line) for line in said("json")]

    assert ["soup.ready", "soup.hot", "from a library: 5", "soup.burnt"] == [one["event"] for one in found]
    assert [{"level", "logger", "timestamp"} <= set(one) for one in found] == [True] * 4
    assert (3, "info", "kitchen") == (found[0]["blobs"], found[0]["level"], found[0]["logger"])
    assert found[0]["timestamp"].endswith("Z")
    assert "ZeroDivisionError" in found[3]["exception"]


def test_console() -> None:
    """
    For people: a line an event, without colours where nobody can see them.
    """
    lines = said("console")

    assert "soup.ready" in lines[0]
    assert "blobs=3" in lines[0]
    assert "\x1b" not in "".join(lines)
    assert [] == [line for line in lines if line.startswith("{")]


def test_auto_is_json_where_nobody_looks() -> None:
    """
    `auto` is for people on a terminal only.
    """
    assert [json.loads(line)["event"] for line in said("auto")]


def test_auto_on_a_terminal(monkeypatch) -> None:
    """
    On a terminal it is for people.
    """
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", screen)

    last = logs.dictconfig("auto", "info")["formatters"]["soup"]["processors"][-1]

    assert "ConsoleRenderer" in type(last).__name__


@pytest.mark.parametrize(("level", "count"), [("debug", 5), ("info", 4), ("warning", 3), ("error", 1)])
def test_levels(level, count) -> None:
    """
    `log.level` is the least that is said.
    """
    assert count == len([json.loads(line) for line in said("json", level)])


def test_levels_are_those_of_the_settings(serve) -> None:
    """
    A real soup that is told to say errors only says nothing when all is well.
    """
    server = serve(log__level="error", log__format="json")

    assert [] == events(server)


def test_who_writes_into_a_log_writes_one_line(talkative) -> None:
    """
    A path with line breaks in it makes no line of its own in the log.
    """
    forged = '{"event": "forged"}'
    talkative.raw(
        b"GET /a%0a%7B%22event%22:%20%22forged%22%7D%0a HTTP/1.1\r\nHost: soup\r\nConnection: close\r\n\r\n"
    )

    lines = talkative.log.read_text().splitlines()
    assert [] == [line for line in lines if line.strip() == forged]


def test_who_writes_into_a_log_for_people(serve) -> None:
    """
    The same on the console.
    """
    server = serve(log__format="console", log__requests=True)
    server.raw(b"GET /a%0aforged%0a HTTP/1.1\r\nHost: soup\r\nConnection: close\r\n\r\n")
    server.stop()

    lines = server.log.read_text().splitlines()
    assert [line for line in lines if "request" in line and "forged" in line]
    assert [] == [line for line in lines if line.strip() == "forged"]


def test_a_line_for_each_request(talkative) -> None:
    """
    With `log.requests` each has its line: what was asked, what was answered, how long it took, its id.
    """
    ids = {"X-Request-Id": "ab12"}

    talkative.client.get("/api/cdn:list", headers=talkative.admin | ids)

    (line,) = requests(talkative, "ab12")
    assert ("request", "GET", "/api/cdn:list", 200) == (
        line["event"],
        line["method"],
        line["path"],
        line["status"],
    )
    assert 0 <= line["seconds"] < 10


@pytest.mark.parametrize(
    ("number", "path", "status"),
    [("b1", "/" + "0" * 64, 404), ("b2", "/{kept}", 200), ("b3", "/healthz", 200), ("b4", "/no/such", 404)],
)
def test_a_line_for_blobs_too(talkative, number, path, status) -> None:
    """
    A line for each request is a line for each: redirects, bytes and misses among them.
    """
    asked = path.format(kept=talkative.keep(b"a blob"))

    talkative.client.get(asked, headers={"X-Request-Id": number})

    assert [(asked, status)] == [(one["path"], one["status"]) for one in requests(talkative, number)]


def test_no_line_without_being_asked(serve) -> None:
    """
    By default requests leave no line.
    """
    server = serve()
    for path in ("/healthz", "/" + "0" * 64, "/api/cdn:list"):
        server.client.get(path)
    server.stop()

    assert [] == [one for one in events(server) if one["event"] == "request"]


def test_what_is_never_said(talkative) -> None:
    """
    No token, no body and no query is in any line, whatever goes wrong with a request.
    """
    client, admin = talkative.client, talkative.admin
    mirror = talkative.mirror("quiet.example")
    digest = talkative.keep(b"body-cumin")
    secrets = [
        "body-cumin",
        "form-cumin",
        "query-cumin",
        "token-cumin",
        "key-cumin",
        talkative.token,
        mirror["token"],
    ]

    client.get(
        f"/{digest}?direct=1&sig=query-cumin", headers={"X-Api-Key": "key-cumin", "Cookie": "key-cumin"}
    )
    client.get("/api/cdn:list?token=query-cumin", headers=bearer("token-cumin"))
    client.get("/no/such?query-cumin", headers=admin)
    client.post("/api/blob", content=b"body-cumin", headers={"Content-Encoding": "gzip"} | admin)
    client.put("/" + "0" * 64, content=b"body-cumin", headers=admin)
    client.post("/api/cdn", content=b'{"fqdn": "form-cumin"', headers=admin)
    client.post("/api/cdn", json={"fqdn": "a b", "form-cumin": 1}, headers=admin)
    client.patch(f"/api/cdn/{mirror['id']}?status=query-cumin", headers=bearer(mirror["token"]))
    client.patch(f"/api/cdn/{mirror['id']}", json={"status": "form-cumin"}, headers=bearer(mirror["token"]))
    client.post(f"/api/cdn/{mirror['id']}/token", headers=admin)
    talkative.raw(b"GET /healthz?query-cumin HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
    client.delete(f"/api/cdn/{mirror['id']}", headers=admin | {"X-Request-Id": "5eed"})

    assert requests(talkative, "5eed")
    log = talkative.log.read_text()
    assert '"event": "request"' in log
    assert [] == [secret for secret in secrets if secret in log]


def spoil(server: Server) -> None:
    """Put into the database what no code of soup's would."""
    database = sqlite3.connect(server.data / "soup.db")
    with database:
        database.execute("update blob set created_at = 'yesterday'")
    database.close()


@pytest.mark.parametrize("path", ["/api/blob:list", "/api/blob/{digest}"])
def test_what_nobody_expected(serve, path) -> None:
    """
    500 as a problem document that shows nothing of the inside; the log has the trace under the request's id.
    """
    server = serve()
    digest = server.keep(b"spoilt")
    spoil(server)

    answer = server.client.get(path.format(digest=digest), headers=server.admin | {"X-Request-Id": "ab12cd"})

    assert 500 == answer.status_code
    assert "application/problem+json" == answer.headers["content-type"]
    assert "ab12cd" == answer.headers["x-request-id"]
    assert {"type", "title", "status", "detail"} == set(answer.json())
    assert "yesterday" not in answer.text
    assert "Traceback" not in answer.text
    (line,) = requests(server, "ab12cd")
    assert "request.failed" == line["event"]
    assert "ValueError" in line["exception"]


def test_what_nobody_expected_is_counted(serve) -> None:
    """
    Each such request is one more in the count of errors.
    """
    server = serve(server__workers=1)
    digest = server.keep(b"spoilt")
    spoil(server)

    server.client.get(f"/api/blob/{digest}", headers=server.admin)

    assert "soup_errors_total 1.0" in server.client.get("/metrics").text
