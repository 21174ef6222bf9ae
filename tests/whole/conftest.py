from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Server, Servers, sha256
from tests.faces.joining import secret_in
from tests.wire import kept, standing

LEEK = b"leek"
D = sha256(LEEK)


@pytest.fixture(scope="module")
def soup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that knows one blob and one mirror, whose redirects are off."""
    servers = Servers(tmp_path_factory.mktemp("soup"))
    with servers.stack:
        server = servers(cdn__redirects=False)
        server.keep(LEEK)
        server.mirror("m.example")
        yield server


@pytest.fixture
def unchanged(soup: Server) -> Iterator[None]:
    """Everything is after the test as it was before."""
    before = (kept(soup), standing(soup, D))
    yield
    assert before == (kept(soup), standing(soup, D))


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    return secret_in(tmp_path)


@pytest.fixture
def core(serve: Servers, secret: Path) -> Server:
    """A core that mirrors of this machine may join."""
    return serve(cdn__join__token_file=secret, cdn__join__allow_private="true")
