"""Asking a mirror's web server: paths as they are, headers as they come."""

import http.client
import ssl
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.conftest import sha256
from tests.mirror_servers import WebServer
from tests.wire import MIB

LEEK = b"leek"
LARGE = Random(7).randbytes(3 * MIB)
D, NOBODY = sha256(LARGE), "0" * 64
TAG, OTHER = f'"{D}"', '"leek"'
FOREVER = "public, max-age=31536000, immutable"
VOLATILE = {"date", "server", "connection", "keep-alive"}


@dataclass
class Answer:
    """What came back, headers in lower case and in alphabetical order."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def lasting(self) -> list[tuple[str, str]]:
        """Those that are the same with every answer."""
        return [pair for pair in self.headers if pair[0] not in VOLATILE]

    def all(self, name: str) -> list[str]:
        """What it says under a name."""
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
