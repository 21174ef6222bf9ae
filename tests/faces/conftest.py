"""A soup that mirrors may join, with names that have the addresses we say."""

import socket
from pathlib import Path

import pytest

from soup.core import names
from tests.conftest import Cook, Kitchen
from tests.faces.joining import secret_in

NAMES = {
    "a.example": ["1.1.1.1", "2606:4700::1111"],
    "b.example": ["1.1.1.2"],
    "c.example": ["1.1.1.3"],
    "inner.example": ["1.1.1.1", "10.0.0.7"],
    "cloud.example": ["1.1.1.1", "::ffff:169.254.169.254"],
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which names were looked up; others than those above have no address."""
    looked: list[str] = []

    def look(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        looked.append(host)
        if host not in NAMES and not host.startswith("many"):
            raise socket.gaierror(-2, "Name or service not known")
        return [(0, 0, 0, "", (address, 0)) for address in NAMES.get(host, ["1.1.1.1"])]

    monkeypatch.setattr(names.socket, "getaddrinfo", look)
    return looked


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return secret_in(tmp_path)


@pytest.fixture
async def joinable(cook: Cook, asked: list[str], file: Path) -> Kitchen:
    """A soup whose file has a secret."""
    del asked
    return await cook(cdn={"join": {"token_file": file}}, jobs={"lease_seconds": 86_400})
