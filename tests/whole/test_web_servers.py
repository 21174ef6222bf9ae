"""What a mirror's web server answers: one contract, kept by nginx and Apache with the files soup ships."""

import http.client
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from soup.faces.cors import CORS
from tests.conftest import Servers, program, sha256
from tests.mirror_servers import ROOT, Certificate, WebServer, apache_mirror, certificate, nginx_mirror
from tests.wire import MIB, until

pytestmark = pytest.mark.sqlite  # rows have no part in it

LEEK = b"leek"
LARGE = Random(7).randbytes(3 * MIB)
D, EMPTY, NOBODY = sha256(LARGE), sha256(b""), "0" * 64
TAG, OTHER = f'"{D}"', '"leek"'
FOREVER = "public, max-age=31536000, immutable"
METHODS = "GET, HEAD, OPTIONS"
VOLATILE = {"date", "server", "connection", "keep-alive"}


@dataclass
class Answer:
    """What came back, headers in lower case and in alphabetical order."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for header, value in self.headers if header == name]


def ask(
    mirror: WebServer,
    path: str,
    method: str = "GET",
    tls: ssl.SSLContext | None = None,
    body: bytes | None = None,
    **headers: str,
) -> Answer:
    """A request whose path is sent as it is; `If_Range` is If-Range."""
    if tls:
        client: http.client.HTTPConnection = http.client.HTTPSConnection(
            mirror.address, mirror.tls_port, timeout=20, context=tls
        )
    else:
        client = http.client.HTTPConnection(mirror.address, mirror.plain_port, timeout=20)
    with closing(client):
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        client.request(method, path, body=body, headers=sent)
        answer = client.getresponse()
        told = sorted((name.lower(), value) for name, value in answer.getheaders())
        return Answer(answer.status, told, answer.read())


def keep(blobs: Path, data: bytes) -> str:
    digest = sha256(data)
    (blobs / digest[:3]).mkdir(parents=True, exist_ok=True)
    (blobs / digest[:3] / digest).write_bytes(data)
    return digest


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    blobs = tmp_path_factory.mktemp("mirror") / "blobs"
    for data in (LEEK, LARGE, b""):
        keep(blobs, data)
    (blobs / ".soup-cdn").mkdir()
    (blobs / ".soup-cdn" / "state").write_text("the agent's own")
    (blobs / ".soup-cdn" / D).write_bytes(LARGE)
    (blobs / NOBODY[:3]).mkdir()
    (blobs / NOBODY[:3] / ("0" * 63 + "1")).symlink_to("/etc/passwd")
    return blobs


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def mirrors(
    tmp_path_factory: pytest.TempPathFactory, blobs: Path, authority: Certificate
) -> Iterator[dict[str, WebServer]]:
    folder = tmp_path_factory.mktemp("servers")
    with (
        nginx_mirror(folder / "nginx", blobs, authority) as nginx,
        apache_mirror(folder / "apache", blobs, authority) as apache,
    ):
        yield {"nginx": nginx, "apache": apache}


@pytest.fixture(params=["nginx", "apache"])
def mirror(request: pytest.FixtureRequest, mirrors: dict[str, WebServer]) -> WebServer:
    return mirrors[request.param]


@pytest.mark.row("S20", "S22", "S24", "S31")
@pytest.mark.parametrize("data", [LEEK, LARGE, b""], ids=["small", "large", "empty"])
def test_a_blob_is_at_its_digest(mirror: WebServer, data: bytes) -> None:
    """
    A folder and a web server are a mirror: the path is the digest, wherever the file lies.
    """
    answer = ask(mirror, f"/{sha256(data)}")

    assert (200, data) == (answer.status, answer.body)
    assert [str(len(data))] == answer.all("content-length")


@pytest.mark.row("S25", "S26", "S27", "S31")
def test_what_it_says_of_a_blob(mirror: WebServer) -> None:
    """
    Each header once: keep it for a year, it is bytes and nothing else, its tag is its digest.
    """
    answer = ask(mirror, f"/{D}")

    assert [FOREVER] == answer.all("cache-control")
    assert ["nosniff"] == answer.all("x-content-type-options")
    assert ["application/octet-stream"] == answer.all("content-type")
    assert [TAG] == answer.all("etag")
    assert ["bytes"] == answer.all("accept-ranges")


@pytest.mark.row("S31")
@pytest.mark.parametrize("asked", [{}, {"Range": "bytes=5-9"}, {"Accept_Encoding": "gzip"}])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_both_say_the_same(mirrors: dict[str, WebServer], method: str, asked: dict[str, str]) -> None:
    """
    Nobody can tell by a blob's headers which web server sent it.

    An nginx that sends a part does not say as well that it could.
    """
    nginx, apache = (ask(server, f"/{D}", method, **asked) for server in mirrors.values())

    left_out = VOLATILE | ({"accept-ranges"} if nginx.status == 206 else set())
    told = [[pair for pair in answer.headers if pair[0] not in left_out] for answer in (nginx, apache)]
    assert told[0] == told[1]
    assert (nginx.status, nginx.body) == (apache.status, apache.body)


def test_head(mirror: WebServer) -> None:
    """
    HEAD says what GET would have said.
    """
    head, get = ask(mirror, f"/{D}", "HEAD"), ask(mirror, f"/{D}")

    assert (200, b"") == (head.status, head.body)
    assert [pair for pair in get.headers if pair[0] not in VOLATILE] == [
        pair for pair in head.headers if pair[0] not in VOLATILE
    ]


NO_BLOB = {
    "upper case": f"/{D.upper()}",
    "63 digits": f"/{D[:-1]}",
    "65 digits": f"/{D}0",
    "a letter that is no digit": f"/{D[:-1]}g",
    "the place on disk": f"/{D[:3]}/{D}",
    "the folder": f"/{D[:3]}/",
    "the folder itself": f"/{D[:3]}",
    "the root": "/",
    "a line after it": f"/{D}%0a",
    "a line before it": f"/%0a{D}",
    "a slash after it": f"/{D}/",
    "an encoded slash": f"/{D}%2f",
    "two slashes": f"//{D}",
    "more after it": f"/{D}/x",
    "a folder with a dot": "/.soup-cdn/state",
    "a folder with a dot, listed": "/.soup-cdn/",
    "a blob in a folder with a dot": f"/.soup-cdn/{D}",
    "the health of something": "/healthz/x",
    "not quite health": "/healthz/",
    "above the root": "/../etc/passwd",
    "above the root, encoded": "/%2e%2e/etc/passwd",
    "above a folder": f"/{D[:3]}/../../../../etc/passwd",
    "zero": f"/{D}%00",
}


@pytest.mark.row("S23", "S24", "S29", "S30", "S31")
@pytest.mark.parametrize("path", NO_BLOB.values(), ids=NO_BLOB)
def test_nothing_else_is_served(mirror: WebServer, path: str) -> None:
    """
    What is no digest is not found and not kept by anybody; no folder is ever listed.
    """
    answer = ask(mirror, path)

    assert answer.status == 404 or (answer.status == 400 and (".." in path or "%" in path))
    assert [] == answer.all("cache-control")
    assert b"passwd" not in answer.body
    assert b"root:" not in answer.body


def test_a_link_is_not_followed(mirror: WebServer) -> None:
    """
    A symbolic link in the folder leads nowhere.
    """
    answer = ask(mirror, f"/{'0' * 63}1")

    assert answer.status in {403, 404}
    assert b"root:" not in answer.body
    assert [] == answer.all("cache-control")


@pytest.mark.row("S23")
@pytest.mark.parametrize("host", ["mirror.example", "127.0.0.1", "other.example:8080"])
def test_any_name(mirror: WebServer, host: str) -> None:
    """
    It answers whatever it is called.
    """
    assert 200 == ask(mirror, f"/{D}", Host=host).status


@pytest.mark.row("S28", "S32")
def test_health(mirror: WebServer) -> None:
    """
    `ok` as plain text, with one Content-Type, and nothing of it in the access log.
    """
    answer = ask(mirror, "/healthz")
    ask(mirror, "/and-something-else")

    assert (200, b"ok\n") == (answer.status, answer.body)
    assert ["text/plain"] == answer.all("content-type")
    until(lambda: b"GET /and-something-else " in mirror.log.read_bytes())
    assert b"GET /healthz " not in mirror.log.read_bytes()


@pytest.mark.row("S35")
@pytest.mark.parametrize("asked", [{}, {"If_None_Match": "*"}, {"If_None_Match": f'"{NOBODY}"'}])
def test_a_blob_that_is_not_here(mirror: WebServer, asked: dict[str, str]) -> None:
    """
    It is not found, not even not modified; that is not kept, and a page may read it.
    """
    answer = ask(mirror, f"/{NOBODY}", **asked)

    assert 404 == answer.status
    assert [] == answer.all("cache-control") + answer.all("x-content-type-options") + answer.all("etag")
    assert ["*"] == answer.all("access-control-allow-origin")


@pytest.mark.row("S35")
def test_a_file_written_just_now(mirror: WebServer, blobs: Path) -> None:
    """
    Its tag is as strong as that of an old one: the download may be resumed.
    """
    digest = keep(blobs, mirror.kind.encode())

    assert [f'"{digest}"'] == ask(mirror, f"/{digest}").all("etag")
    assert 206 == ask(mirror, f"/{digest}", Range="bytes=1-", If_Range=f'"{digest}"').status


@pytest.mark.row("S37")
@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=100-199", 100, 199),
        ("bytes=3145727-", 3145727, 3145727),
        ("bytes=-100", 3145628, 3145727),
        ("bytes=1048576-99999999", 1048576, 3145727),
    ],
)
def test_a_range(mirror: WebServer, asked: str, first: int, last: int) -> None:
    """
    A part, for as long as the whole.
    """
    answer = ask(mirror, f"/{D}", Range=asked)

    assert (206, LARGE[first : last + 1]) == (answer.status, answer.body)
    assert [f"bytes {first}-{last}/{len(LARGE)}"] == answer.all("content-range")
    assert ([FOREVER], ["nosniff"], [TAG]) == (
        answer.all("cache-control"),
        answer.all("x-content-type-options"),
        answer.all("etag"),
    )


@pytest.mark.row("S37")
@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "bytes=-5,0-0,7-8", "leeks=0-1"])
def test_ranges_that_get_the_whole(mirror: WebServer, asked: str) -> None:
    """
    Several at once, or of another unit.
    """
    answer = ask(mirror, f"/{D}", Range=asked)

    assert (200, LARGE) == (answer.status, answer.body)


def test_a_range_behind_the_end(mirror: WebServer) -> None:
    """
    416 with the size, each header once, and nobody keeps that.
    """
    answer = ask(mirror, f"/{D}", Range="bytes=3145728-")

    assert 416 == answer.status
    assert [f"bytes */{len(LARGE)}"] == answer.all("content-range")
    assert ["*"] == answer.all("access-control-allow-origin")
    # nginx says the year before it looks at the range, and then what outweighs it.
    assert set(answer.all("cache-control")) == ({FOREVER, "no-store"} if mirror.kind == "nginx" else set())


CONDITIONS = {
    "known": ({"If_None_Match": TAG}, 304),
    "known among others": ({"If_None_Match": f'{OTHER}, W/{TAG},"x"'}, 304),
    "known among others, first": ({"If_None_Match": f"{TAG},{OTHER}"}, 304),
    "known at all": ({"If_None_Match": "*"}, 304),
    "known, and a part": ({"If_None_Match": TAG, "Range": "bytes=0-1"}, 304),
    "not known": ({"If_None_Match": OTHER}, 200),
    "not known, but at a time": ({"If_None_Match": OTHER, "If_Modified_Since": "{time}"}, 200),
    "no tag": ({"If_None_Match": D}, 200),
    "the digest in another tag": ({"If_None_Match": f'"x{D}"'}, 200),
    "since then": ({"If_Modified_Since": "{time}"}, 200),
    "since a day to come": ({"If_Modified_Since": "Sat, 21 Nov 2076 12:00:00 GMT"}, 200),
    "a part of this": ({"Range": "bytes=0-1", "If_Range": TAG}, 206),
    "a part of something else": ({"Range": "bytes=0-1", "If_Range": OTHER}, 200),
    "a part of something alike": ({"Range": "bytes=0-1", "If_Range": f"W/{TAG}"}, 200),
    "a part of another day": ({"Range": "bytes=0-1", "If_Range": "Sat, 21 Nov 1976 12:00:00 GMT"}, 200),
    "anything": ({"If_Match": "*"}, 200),
    "something else alone": ({"If_Match": OTHER}, 412),
    "something alike alone": ({"If_Match": f"W/{TAG}"}, 412),
}


@pytest.mark.row("S35", "S37")
@pytest.mark.parametrize("what", CONDITIONS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_conditions(mirror: WebServer, method: str, what: str) -> None:
    """
    They are judged by the digest, as the core judges them, and never by the time of the file.
    """
    asked, status = CONDITIONS[what]
    time = ask(mirror, f"/{D}", "HEAD").all("last-modified")[0]

    answer = ask(mirror, f"/{D}", method, **{name: value.format(time=time) for name, value in asked.items()})

    sent = {200: LARGE, 206: LARGE[:2], 304: b""}
    assert status == answer.status
    assert ["*"] == answer.all("access-control-allow-origin")
    if status == 412:
        assert [] == answer.all("cache-control")
    else:
        assert (b"" if method == "HEAD" else sent[status]) == answer.body
        assert ([FOREVER], [TAG]) == (answer.all("cache-control"), answer.all("etag"))
        assert ["nosniff"] == answer.all("x-content-type-options")


def test_only_this_one(mirrors: dict[str, WebServer]) -> None:
    """
    If-Match with the digest: Apache goes on, nginx cannot and refuses, which is safe.
    """
    answers = {kind: ask(mirror, f"/{D}", If_Match=TAG).status for kind, mirror in mirrors.items()}

    assert {"nginx": 412, "apache": 200} == answers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE"])
def test_other_methods(mirror: WebServer, method: str) -> None:
    """
    A mirror is read. What it does not do, it says, and does not answer with the bytes.
    """
    answer = ask(mirror, f"/{D}", method, body=b"leek" if method != "TRACE" else None)

    assert 405 == answer.status
    assert len(answer.body) < 1000
    assert [] == answer.all("cache-control")
    if method != "TRACE":  # nginx refuses it before it looks at the path
        assert METHODS == ", ".join(filter(None, answer.all("allow")))
        assert ["*"] == answer.all("access-control-allow-origin")


@pytest.mark.parametrize("digest", [D, NOBODY])
def test_what_a_browser_asks_first(mirror: WebServer, digest: str) -> None:
    """
    A page of any site may ask for a part, with conditions, and need not ask again for a day.
    """
    asked = {"Access_Control_Request_Method": "GET", "Access_Control_Request_Headers": "range,if-range"}
    answer = ask(mirror, f"/{digest}", "OPTIONS", Origin="https://game.example", **asked)

    assert (204, b"") == (answer.status, answer.body)
    assert ["*"] == answer.all("access-control-allow-origin")
    assert [METHODS] == answer.all("access-control-allow-methods")
    assert ["86400"] == answer.all("access-control-max-age")
    allowed = answer.all("access-control-allow-headers")[0].split(", ")
    assert {"Authorization", "If-Match", "If-None-Match", "If-Range", "Range"} <= set(allowed)
    assert [] == answer.all("cache-control")


@pytest.mark.parametrize("asked", [{}, {"Range": "bytes=0-1"}, {"If_None_Match": TAG}, {"If_Match": OTHER}])
def test_what_a_page_may_read(mirror: WebServer, asked: dict[str, str]) -> None:
    """
    Every answer of a blob's path, with those headers of it that the core would show as well.
    """
    answer = ask(mirror, f"/{D}", Origin="https://game.example", **asked)

    exposed = answer.all("access-control-expose-headers")[0].split(", ")
    assert ["*"] == answer.all("access-control-allow-origin")
    assert ["Accept-Ranges", "Content-Range", "ETag"] == exposed
    assert set(exposed) <= set(dict(CORS)[b"access-control-expose-headers"].decode().split(", "))


def test_bytes_are_not_changed_on_the_way(mirror: WebServer) -> None:
    """
    A server that packs everything else leaves blobs as they are, for those too who take packed ones.
    """
    answer = ask(mirror, f"/{D}", Accept_Encoding="gzip, deflate, br")

    assert LARGE == answer.body
    assert [] == answer.all("content-encoding") + answer.all("vary")


@pytest.mark.row("S35", "S37")
def test_a_download_that_moves(mirrors: dict[str, WebServer], serve: Servers) -> None:
    """
    A download that begins at nginx goes on at Apache and at the core, by the tag that the first one gave.
    """
    core = serve(cdn__redirects=False)
    core.keep(LARGE)
    began = ask(mirrors["nginx"], f"/{D}", Range="bytes=0-999999")
    tag = began.all("etag")[0]

    second = ask(mirrors["apache"], f"/{D}", Range="bytes=1000000-1999999", If_Range=tag)
    third = core.client.get(f"/{D}", headers={"Range": "bytes=2000000-2999999", "If-Range": tag})
    last = ask(mirrors["nginx"], f"/{D}", Range="bytes=3000000-", If_Range=third.headers["etag"])

    assert [206] * 4 == [began.status, second.status, third.status_code, last.status]
    assert began.body + second.body + third.content + last.body == LARGE


@pytest.mark.row("S22", "S31")
def test_https(mirror: WebServer, authority: Certificate) -> None:
    """
    With a certificate the same blobs, health and refusals are there on another port.
    """
    trusting = ssl.create_default_context(cafile=str(authority.authority))

    for path in (f"/{D}", "/healthz", f"/{NOBODY}", "/"):
        plain, secure = ask(mirror, path), ask(mirror, path, tls=trusting)
        assert (plain.status, plain.body) == (secure.status, secure.body)
        assert [pair for pair in plain.headers if pair[0] not in VOLATILE] == [
            pair for pair in secure.headers if pair[0] not in VOLATILE
        ]


def test_curl_and_a_private_authority(mirror: WebServer, authority: Certificate, tmp_path: Path) -> None:
    """
    A client that trusts the authority is served over TLS 1.2 and 1.3; older ones and doubtful ones are not.
    """
    url, trusting = f"{mirror.url}/{D}", ("--cacert", authority.authority)

    def curl(*words: object) -> int:
        command = [program("curl"), "-sS", "-o", tmp_path / "got", *map(str, words), url]
        return subprocess.run(command, check=False, capture_output=True, timeout=30).returncode

    assert 0 == curl(*trusting)
    assert LARGE == (tmp_path / "got").read_bytes()
    assert 0 == curl(*trusting, "--tls-max", "1.2")
    assert 60 == curl()  # "cannot verify the peer"
    assert 35 == curl(*trusting, "--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0")  # "handshake failed"


@pytest.mark.row("S23", "S24", "S25", "S26", "S27", "S28", "S29", "S30", "S31", "S32")
@pytest.mark.parametrize(
    ("file", "lines"),
    [
        (
            "nginx/mirror.conf",
            [
                "listen 80;",
                "server_name _;",
                "autoindex off;",
                "alias /data/blobs/",
                f'add_header Cache-Control "{FOREVER}";',
                'add_header X-Content-Type-Options "nosniff";',
                "default_type application/octet-stream;",
                "location = /healthz {",
                "access_log off;",
                'return 200 "ok\\n";',
                "location / {\n        return 404;\n    }",
            ],
        ),
        ("apache/mirror.conf", ["<VirtualHost *:80>", "</VirtualHost>"]),
        (
            "apache/soup-mirror.inc",
            [
                'DocumentRoot "/nonexistent"',
                "Options -Indexes",
                r'AliasMatch "^/([0-9a-f]{3})([0-9a-f]{61})\z" "/data/blobs/$1/$1$2"',
                f'Header set Cache-Control "{FOREVER}"',
                'Header set X-Content-Type-Options "nosniff"',
                "ForceType application/octet-stream",
                'Alias "/healthz" "/srv/healthz/ok"',
                'Header set Content-Type "text/plain"',
                'SetEnvIf Request_URI "^/healthz$" no_log',
                "env=!no_log",
            ],
        ),
    ],
)
def test_the_files_say_so_themselves(file: str, lines: list[str]) -> None:
    """
    Whoever knows the configurations of old finds their lines again.
    """
    text = (ROOT / file).read_text()

    assert [] == [line for line in lines if line not in text]
