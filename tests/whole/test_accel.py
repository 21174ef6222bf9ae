"""nginx/front.conf in front of soup: nginx sends the files, and clients see no difference."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.conftest import Server, Servers, sha256
from tests.wire import MIB, counter, kept, nginx

pytestmark = pytest.mark.sqlite  # rows have no part in it

CONF = Path(__file__).parents[2] / "nginx" / "front.conf"
SMALL = b"minestrone"
LARGE = bytes(range(256)) * 2000
VOLATILE = {"date", "server", "connection", "x-request-id", "x-amz-request-id"}
BOTH = pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])


@dataclass
class Front:
    """A soup behind an nginx; `client` talks to nginx, `plain` to a soup of the same data without one."""

    server: Server
    client: httpx.Client
    plain: Server


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("front")
    servers = Servers(folder)
    with servers.stack:
        server = servers(serve__accel="nginx", upload__largest=8 * MIB)
        plain = servers(data=server.data)
        body = adapted(CONF.read_text(), server.port, server.data / "blobs")
        port = servers.stack.enter_context(nginx(folder / "nginx", body))
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20)
        yield Front(server, servers.stack.enter_context(client), plain)


def adapted(conf: str, soup: int, blobs: Path) -> str:
    """The file with another port, another listener and another folder: what its head says to adapt."""
    changes = {
        "server 127.0.0.1:8080 ": f"server 127.0.0.1:{soup} ",
        "listen 80;": "listen 127.0.0.1:%(port)d;",
        "alias /var/lib/soup/blobs/;": f"alias {blobs}/;",
    }
    for old, new in changes.items():
        assert 1 == conf.count(old)
        conf = conf.replace(old, new)
    return conf


def told(answer: httpx.Response) -> list[tuple[str, str]]:
    """Its headers, but for those that differ with every answer, and the date nginx knows of a file.

    An nginx that sends a part does not say as well that it could.
    """
    left_out = VOLATILE | {"last-modified"} | ({"accept-ranges"} if answer.status_code == 206 else set())
    return sorted((name, value) for name, value in answer.headers.multi_items() if name not in left_out)


REQUESTS = {
    "whole": {},
    "a part": {"Range": "bytes=10-109"},
    "the end": {"Range": "bytes=-7"},
    "a part of this": {"Range": "bytes=1-5", "If-Range": '"{digest}"'},
    "a part of something else": {"Range": "bytes=1-5", "If-Range": '"leek"'},
    "a part of a day": {"Range": "bytes=1-5", "If-Range": "Sat, 21 Nov 2026 12:00:00 GMT"},
    "outside": {"Range": "bytes=99999999-"},
    "overlapping": {"Range": "bytes=0-5,3-9"},
    "two parts": {"Range": "bytes=0-1,5-6"},
    "another unit": {"Range": "leeks=0-1"},
    "known": {"If-None-Match": '"{digest}"'},
    "known among others": {"If-None-Match": '"leek", W/"{digest}"'},
    "known at all": {"If-None-Match": "*"},
    "not known": {"If-None-Match": '"leek"'},
    "this one": {"If-Match": '"{digest}"'},
    "another one": {"If-Match": '"leek"'},
    "this part": {"If-Match": '"{digest}"', "Range": "bytes=0-1"},
    "since": {"If-Modified-Since": "Sat, 21 Nov 2076 12:00:00 GMT"},
    "not since": {"If-Unmodified-Since": "Sat, 21 Nov 1976 12:00:00 GMT"},
}


@pytest.mark.parametrize("what", REQUESTS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@BOTH
def test_nobody_sees_a_difference(front: Front, data: bytes, method: str, what: str) -> None:
    """
    Status, headers and bytes are those of soup alone.
    """
    digest = front.plain.keep(data)
    headers = {name: value.format(digest=digest) for name, value in REQUESTS[what].items()}

    through = front.client.request(method, f"/{digest}", headers=headers)
    alone = front.plain.client.request(method, f"/{digest}", headers=headers)

    assert alone.status_code == through.status_code
    assert told(alone) == told(through)
    assert alone.content == through.content


def test_nginx_sends_the_file(front: Front) -> None:
    """
    Soup says where a large blob is and sends none of it.
    """
    digest = front.server.keep(LARGE)
    before = counter(front.server, "soup_blob_sent_bytes_total")

    straight = front.server.client.get(f"/{digest}")
    through = front.client.get(f"/{digest}")

    assert f"/soup-blobs/{digest[:3]}/{digest}" == straight.headers["x-accel-redirect"]
    assert b"" == straight.content
    assert LARGE == through.content
    assert "x-accel-redirect" not in through.headers
    assert before == counter(front.server, "soup_blob_sent_bytes_total")


def test_the_folder_is_not_open(front: Front) -> None:
    """
    The inner address is no address for clients.
    """
    digest = front.server.keep(LARGE)

    assert 404 == front.client.get(f"/soup-blobs/{digest[:3]}/{digest}").status_code
    assert 404 == front.client.get("/soup-blobs/soup-store.json").status_code
    assert 404 == front.client.get("/soup-blobs/").status_code


@BOTH
def test_a_name_for_the_download(front: Front, data: bytes) -> None:
    """
    The name a client asked for comes through.
    """
    digest = front.server.keep(data)

    answer = front.client.get(f"/{digest}?download=s%C3%BCp%20%22.txt")

    wanted = "attachment; filename=\"s_p _.txt\"; filename*=UTF-8''s%C3%BCp%20%22.txt"
    assert (data, wanted) == (answer.content, answer.headers["content-disposition"])


def test_an_upload_through_it(front: Front) -> None:
    """
    Bytes go through as they come, with a length or in chunks, and nginx does not keep a copy.
    """
    whole, chunks = os.urandom(4 * MIB), os.urandom(4 * MIB)

    first = front.client.put("/api/blob", content=whole, headers=front.server.admin)
    second = front.client.put(
        f"/{sha256(chunks)}", content=iter([chunks[:100], chunks[100:]]), headers=front.server.admin
    )

    assert [201, 201] == [first.status_code, second.status_code]
    assert f"{front.client.base_url}/{sha256(whole)}" == first.json()["url"]
    assert chunks == front.client.get(f"/{sha256(chunks)}").content


def test_the_scheme_is_what_nginx_says(front: Front) -> None:
    """
    A link in an answer has the scheme clients use with nginx, whatever a client claims.
    """
    claim = {"X-Forwarded-Proto": "https"}
    claimed = front.client.put("/api/blob", content=b"leek", headers=front.server.admin | claim)
    told_by_proxy = front.server.client.put("/api/blob", content=b"leek", headers=front.server.admin | claim)

    assert re.match("http://", claimed.json()["url"])
    assert re.match("https://", told_by_proxy.json()["url"])


def test_refusals_through_it(front: Front) -> None:
    """
    An upload is refused as early, and in the same words.
    """
    before = kept(front.server)

    for content in (bytes(20 * MIB), iter([bytes(MIB)] * 20)):
        assert 401 == front.client.put("/api/blob", content=content).status_code
    large = front.client.put("/api/blob", content=bytes(20 * MIB), headers=front.server.admin)
    other = front.client.put(f"/{'0' * 64}", content=SMALL, headers=front.server.admin)

    assert (413, "application/problem+json") == (large.status_code, large.headers["content-type"])
    assert (422, "application/problem+json") == (other.status_code, other.headers["content-type"])
    assert before == kept(front.server)


def test_redirects_and_misses_through_it(front: Front) -> None:
    """
    What has no file comes from soup untouched.
    """
    digest = front.server.keep(LARGE)
    mirror = front.server.mirror("m.example")
    redirect = front.client.get(f"/{digest}")
    direct = front.client.get(f"/{digest}?direct=1")
    front.server.client.delete(f"/api/cdn/{mirror['id']}", headers=front.server.admin)
    miss = front.client.get(f"/{'0' * 64}")

    assert (307, f"https://m.example/{digest}") == (redirect.status_code, redirect.headers["location"])
    assert (200, LARGE) == (direct.status_code, direct.content)
    assert (404, "0" * 64) == (miss.status_code, miss.json()["digest"])


def test_a_file_that_is_gone(front: Front) -> None:
    """
    The nginx is not sent after a file that is not right.
    """
    digest = front.server.keep(LARGE + b"gone")
    (front.server.data / "blobs" / digest[:3] / digest).unlink()

    assert 503 == front.client.get(f"/{digest}").status_code
