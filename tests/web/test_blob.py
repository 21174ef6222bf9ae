"""A blob and its mirror's health: one contract, kept by nginx and Apache with the files soup ships."""

import ssl
import subprocess
from pathlib import Path

import pytest

from tests.conftest import program, sha256
from tests.mirror_servers import ROOT, Certificate, WebServer
from tests.web.asking import FOREVER, LARGE, LEEK, NOBODY, TAG, D, ask, keep
from tests.wire import until

pytestmark = pytest.mark.sqlite  # rows have no part in it


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

    if apache.status == 206:
        apache.headers.remove(("accept-ranges", "bytes"))
    assert nginx.lasting == apache.lasting
    assert (nginx.status, nginx.body) == (apache.status, apache.body)


def test_head(mirror: WebServer) -> None:
    """
    HEAD says what GET would have said.
    """
    head, get = ask(mirror, f"/{D}", "HEAD"), ask(mirror, f"/{D}")

    assert (200, b"") == (head.status, head.body)
    assert get.lasting == head.lasting


def test_bytes_are_not_changed_on_the_way(mirror: WebServer) -> None:
    """
    A server that packs everything else leaves blobs as they are, for those too who take packed ones.
    """
    answer = ask(mirror, f"/{D}", Accept_Encoding="gzip, deflate, br")

    assert LARGE == answer.body
    assert [] == answer.all("content-encoding") + answer.all("vary")


@pytest.mark.row("S35")
def test_a_file_written_just_now(mirror: WebServer, blobs: Path) -> None:
    """
    Its tag is as strong as that of an old one: the download may be resumed.
    """
    digest = keep(blobs, mirror.kind.encode())

    assert [f'"{digest}"'] == ask(mirror, f"/{digest}").all("etag")
    assert 206 == ask(mirror, f"/{digest}", Range="bytes=1-", If_Range=f'"{digest}"').status


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


@pytest.mark.row("S22", "S31")
def test_https(mirror: WebServer, authority: Certificate) -> None:
    """
    With a certificate the same blobs, health and refusals are there on another port.
    """
    trusting = ssl.create_default_context(cafile=str(authority.authority))

    for path in (f"/{D}", "/healthz", f"/{NOBODY}", "/"):
        plain, secure = ask(mirror, path), ask(mirror, path, tls=trusting)
        assert (plain.status, plain.body) == (secure.status, secure.body)
        assert plain.lasting == secure.lasting


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
