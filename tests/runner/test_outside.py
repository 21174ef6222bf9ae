"""Mirrors over TLS: whom soup trusts."""

import asyncio
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from soup.core import names
from soup.core.errors import MirrorSilent, Refused
from soup.runner import outside as module
from soup.runner.outside import Outside
from soup.settings import Settings
from soup.stores.disk import Disk
from tests.conftest import program
from tests.runner.odd import odd

LEEK = b"leek"


def authority(folder: Path, name: str) -> tuple[Path, ssl.SSLContext]:
    """A certificate authority of our own, and what a server of that name has from it."""

    def openssl(*arguments: object) -> None:
        command = [program("openssl"), *map(str, arguments)]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Soup CA", "-days", "2")
    openssl("req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", f"/CN={name}")
    (folder / "names").write_text(f"subjectAltName=DNS:{name}\n")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names", "-days", "2")
    openssl("x509", "-req", "-in", "server.csr", "-out", "server.pem", *signed)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "server.pem", folder / "server.key")
    return folder / "ca.pem", server


@contextmanager
def asking(ca_file: Path | None) -> Iterator[Outside]:
    disk = Disk(threads=1)
    yield Outside(disk, ca_file)
    disk.close()


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the one context that other tests share: here it matters whom it trusts."""
    monkeypatch.setattr(ssl, "create_default_context", ssl.create_default_context.__wrapped__)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "trusted", "reason"),
    [
        ("localhost", True, None),
        ("localhost", False, "certificate verify failed"),
        ("other.example", True, "certificate is not valid for 'localhost'"),
    ],
)
async def test_whom_it_trusts(tmp_path: Path, name: str, trusted: bool, reason: str | None) -> None:  # noqa: FBT001
    """
    A certificate counts where an authority of ours or of the system has signed it for this very name.
    """
    ca_file, tls = authority(tmp_path, name)
    async with odd(tls) as server:
        digest = server.add(LEEK)
        url = f"https://localhost:{server.port}/{digest}"
        with asking(ca_file if trusted else None) as outside:
            if reason is None:
                answer = await outside.ask(url, None, 100)
                assert (200, LEEK) == (answer.status, answer.body)
            else:
                with pytest.raises(MirrorSilent, match=reason):
                    await outside.ask(url, None, 100)
            outside.become(None)
            with pytest.raises(MirrorSilent):
                await outside.ask(url, None, 100)


@pytest.mark.parametrize("content", [None, "", "soup", "-----BEGIN CERTIFICATE-----\nsoup\n"])
def test_a_file_of_authorities_that_is_none(tmp_path: Path, content: str | None) -> None:
    """
    It is a fault of the settings: soup does not start like this, nor take it while it runs.
    """
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)

    with pytest.raises(Refused, match=f"cdn.ca_file.*{file}"):
        Settings.load({"SOUP_CDN__CA_FILE": str(file)})


async def test_other_authorities_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    While those of before are still being read, others count already; for many who ask they are read once.
    """
    ca_file, tls = authority(tmp_path, "localhost")
    read: list[Path | None] = []
    begun, go, make = threading.Event(), threading.Event(), module._client

    def slow(file: Path | None) -> httpx.AsyncClient:
        read.append(file)
        begun.set()
        assert go.wait(5)
        return make(file)

    monkeypatch.setattr(module, "_client", slow)
    async with odd(tls) as server:
        url = f"https://localhost:{server.port}/{server.add(LEEK)}"
        with asking(None) as outside:
            asked = [asyncio.create_task(outside.ask(url, None, 100)) for _ in range(3)]
            await asyncio.to_thread(begun.wait, 5)
            outside.become(ca_file)
            go.set()

            assert [LEEK] * 3 == [answer.body for answer in await asyncio.gather(*asked)]
    assert [None, ca_file] == read


async def test_the_name_it_asks_for() -> None:
    """
    A server that has many names is told which is meant.
    """
    async with odd() as server:
        digest = server.add(LEEK)
        with asking(None) as outside:
            await outside.ask(f"http://localhost:{server.port}/{digest}", None, 100)

    assert f"host: localhost:{server.port}".encode() in server.asked[0].lower().split(b"\r\n")


@pytest.mark.parametrize("name", ["xn--strae-oqa.example", "xn--ls8h.example", "xn--0.example"])
async def test_names_of_other_scripts(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """
    It looks up what clients are sent to, letter by letter, even where that stands for no text at all.
    """
    asked: list[str] = []

    def look(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        asked.append(host)
        return [(0, 0, 0, "", ("127.0.0.1", 0))]

    monkeypatch.setattr(names.socket, "getaddrinfo", look)
    async with odd() as server:
        digest = server.add(LEEK)
        with asking(None) as outside:
            try:
                answer = await outside.ask(f"http://{name}:{server.port}/{digest}", None, 100)
            except MirrorSilent:
                assert name == "xn--0.example"
            else:
                assert (LEEK, [name]) == (answer.body, asked)


async def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A proxy of the environment is for others.
    """
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    async with odd() as server:
        digest = server.add(LEEK)
        with asking(None) as outside:
            answer = await outside.ask(f"http://127.0.0.1:{server.port}/{digest}", None, 100)

    assert LEEK == answer.body
