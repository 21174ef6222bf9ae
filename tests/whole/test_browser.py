"""A page of another site reads a blob in a real browser, through the redirect to a mirror."""

import http.server
import json
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Server, Servers, program
from tests.wire import nginx

pytestmark = pytest.mark.sqlite  # rows have no part in it

LARGE = bytes(range(256)) * 500

# What C12 and C14b ask of a mirror: the digest as the tag, and leave for every page to ask and to read.
MIRROR = """
server {
    listen 127.0.0.1:%%(port)d;
    location ~ "^/(?<folder>[0-9a-f]{3})(?<rest>[0-9a-f]{61})$" {
        if ($request_method = OPTIONS) { return 204; }
        alias %s/$folder/$folder$rest;
        etag off;
        add_header ETag '"$folder$rest"';
        add_header Access-Control-Allow-Origin * always;
        add_header Access-Control-Allow-Headers "Range, If-None-Match, X-Request-Id" always;
        add_header Access-Control-Expose-Headers "ETag, Content-Range, Accept-Ranges" always;
    }
}
"""

PAGE = """<!doctype html><meta charset="utf-8"><title>a page</title><pre id="said"></pre><script>
async function ask(url, sent, method) {
    try {
        const answer = await fetch(url, {headers: sent, method, cache: "no-store"});
        const bytes = new Uint8Array(await answer.arrayBuffer());
        const tell = ["etag", "content-range", "accept-ranges", "x-request-id", "repr-digest"];
        const headers = Object.fromEntries(tell.map(name => [name, answer.headers.get(name)]));
        return {status: answer.status, redirected: answer.redirected, url: answer.url, size: bytes.length,
                first: bytes[0], headers};
    } catch (error) { return {error: String(error)}; }
}
(async () => {
    const said = [];
    for (const [url, headers, method] of %s) said.push(await ask(url, headers, method));
    document.getElementById("said").textContent = JSON.stringify(said);
})();
</script>"""


@contextmanager
def page(text: str) -> Iterator[str]:
    """A site of its own with one page."""

    class Site(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as site:
        thread = threading.Thread(target=site.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{site.server_address[1]}/"
        site.shutdown()
        thread.join()


def browse(requests: list[tuple[str, dict[str, str], str]], profile: Path) -> list[dict[str, Any]]:
    """What a page of another site reads when it sends these requests, one after the other."""
    with page(PAGE % json.dumps(requests)) as url:
        ended = subprocess.run(
            [
                program("chromium"),
                *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions"),
                *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
                f"--user-data-dir={profile}",
                "--virtual-time-budget=20000",
                "--dump-dom",
                url,
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )
    said = re.search('<pre id="said">(.+?)</pre>', ended.stdout)
    assert said, f"{ended.stdout}\n{ended.stderr[-2000:]}"
    found: list[dict[str, Any]] = json.loads(unescape(said[1]))
    return found


@pytest.fixture(scope="module")
def soup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    """A server with one blob; nobody else has it."""
    servers = Servers(tmp_path_factory.mktemp("soup"))
    with servers.stack:
        server = servers(cdn__silence_seconds=600)
        yield server, server.keep(LARGE)


def test_a_page_reads_from_soup(soup: tuple[Server, str], tmp_path: Path) -> None:
    """
    With nobody online a page reads the bytes, the tag and the range from soup, and what went wrong as well.
    """
    server, digest = soup
    url = f"{server.url}/{digest}"

    whole, part, asked_first, known, outside, miss, refused = browse(
        [
            (url, {}, "GET"),
            (url, {"Range": "bytes=5-104"}, "GET"),
            (url, {"X-Request-Id": "abc", "Range": "bytes=-7"}, "GET"),
            (url, {"If-None-Match": f'"{digest}"'}, "GET"),
            (url, {"Range": "bytes=999999-"}, "GET"),
            (f"{server.url}/{'0' * 64}", {}, "GET"),
            (url, {}, "PUT"),
        ],
        tmp_path,
    )

    assert (200, len(LARGE), f'"{digest}"') == (whole["status"], whole["size"], whole["headers"]["etag"])
    assert whole["headers"]["repr-digest"]
    assert "bytes" == whole["headers"]["accept-ranges"]
    assert (206, 100, 5) == (part["status"], part["size"], part["first"])
    assert f"bytes 5-104/{len(LARGE)}" == part["headers"]["content-range"]
    assert (206, 7) == (asked_first["status"], asked_first["size"])
    assert 304 == known["status"]
    assert (416, f"bytes */{len(LARGE)}") == (outside["status"], outside["headers"]["content-range"])
    assert [404, 401] == [miss["status"], refused["status"]]


@pytest.mark.row("S9", "S37")
def test_a_page_reads_from_a_mirror(soup: tuple[Server, str], tmp_path: Path) -> None:
    """
    Through the redirect as well: plain, with a range, and where the browser asks both for leave first.
    """
    server, digest = soup
    url = f"{server.url}/{digest}"
    with nginx(tmp_path / "web", MIRROR % (server.data / "blobs")) as port:
        mirror = server.mirror("localhost", scheme="http", port=port)

        whole, part, asked_first = browse(
            [
                (url, {}, "GET"),
                (url, {"Range": "bytes=5-104"}, "GET"),
                (url, {"X-Request-Id": "abc", "Range": "bytes=5-104"}, "GET"),
            ],
            tmp_path / "profile",
        )
        server.client.delete(f"/api/cdn/{mirror['id']}", headers=server.admin)
        log = (tmp_path / "web" / "access.log").read_text()

    for answer in (whole, part, asked_first):
        assert (True, f"http://localhost:{port}/{digest}") == (answer.get("redirected"), answer.get("url"))
        assert f'"{digest}"' == answer["headers"]["etag"]
    assert (200, len(LARGE)) == (whole["status"], whole["size"])
    for answer in (part, asked_first):
        assert (206, 100, 5) == (answer["status"], answer["size"], answer["first"])
        assert f"bytes 5-104/{len(LARGE)}" == answer["headers"]["content-range"]
    assert f'"OPTIONS /{digest} HTTP/1.1" 204' in log
