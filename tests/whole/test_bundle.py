"""Bundles from a real server: a folder filled by hand, and archives that break off."""

import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from tests.conftest import Server, Servers, bearer, program, sha256
from tests.scrape import rise
from tests.whole.test_download import reader
from tests.wire import MIB, Wire, counter, until

URL = "/api/blob:bundle"


@pytest.fixture(scope="module")
def lone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with one worker and one place for a mirror, and little patience, that has 48 MiB to send."""
    servers = Servers(tmp_path_factory.mktemp("lone"))
    with servers.stack:
        server = servers(server__workers=1, cdn__sync_slots=1, serve__idle_seconds=1.5)
        server.keep(bytes(48 * MIB))
        yield server


def asking(server: Server) -> Wire:
    """A client that has asked for a bundle and reads nothing yet."""
    until(lambda: counter(server, "soup_direct_bodies") == 0)
    return reader(server, URL, f"Authorization: Bearer {server.token}")


def rest(connection: Wire) -> bytes:
    """What still comes until the connection ends, one way or the other."""
    got = bytearray(connection.read)
    try:
        while piece := connection.socket.recv(MIB):
            got += piece
    except ConnectionResetError:
        pass
    return bytes(got)


def unpack(archive: bytes) -> int:
    """What tar ends with."""
    return subprocess.run([program("tar"), "-t"], input=archive, capture_output=True, check=False).returncode


def test_a_mirror_by_hand(serve: Servers, tmp_path: Path) -> None:
    """
    A folder is filled by curl and tar with everything that soup has, where mirrors look for it.
    """
    server, folder = serve(), tmp_path / "mirror"
    folder.mkdir()
    sizes = (0, 1, 511, 512, 513, 65_536, 65_537, MIB, MIB + 1, 9 * MIB)
    digests = {server.keep(data): data for data in map(os.urandom, sizes)}
    line = f"curl -sS -H 'Authorization: Bearer {server.token}' {server.url}{URL} | tar x -C '{folder}'"

    ended = subprocess.run(
        [program("bash"), "-c", f"set -o pipefail; {line}"], capture_output=True, check=False, timeout=60
    )

    assert (0, b"") == (ended.returncode, ended.stderr)
    found = {path.relative_to(folder).as_posix(): path for path in folder.glob("*/*")}
    assert {f"{digest[:3]}/{digest}" for digest in digests} == set(found)
    kept = server.client.get("/api/blob:list", headers=server.admin).json()["blobs"]
    for blob in kept:
        file = found[f"{blob['digest'][:3]}/{blob['digest']}"]
        assert digests[blob["digest"]] == file.read_bytes()
        created = datetime.fromtimestamp(file.stat().st_mtime, UTC)
        assert blob["created_at"].startswith(f"{created:%Y-%m-%dT%H:%M:%S}")


def test_a_file_that_becomes_shorter(lone: Server) -> None:
    """
    In the middle of a member there is no true way on: the answer breaks off, and tar says so.
    """
    digest = sha256(bytes(48 * MIB))
    file = lone.data / "blobs" / digest[:3] / digest
    before = counter(lone, "soup_blobs_missing_total")

    with asking(lone) as connection:
        code, headers = connection.head()
        os.truncate(file, 24 * MIB)
        got = rest(connection)

    lone.keep(bytes(48 * MIB))  # that mends it
    assert (200, "chunked") == (code, headers["transfer-encoding"])
    assert 0 < len(got) < 32 * MIB
    assert not got.endswith(b"0\r\n\r\n")
    assert before + 1 == counter(lone, "soup_blobs_missing_total")
    whole = lone.client.get(URL, headers=lone.admin).content
    assert 0 == unpack(whole)
    assert 2 == unpack(whole[: 24 * MIB])


def test_a_mirror_that_reads_nothing(lone: Server) -> None:
    """
    It is cut when it has taken nothing for a while; the archive does not look whole.
    """
    with asking(lone) as connection:
        until(lambda: counter(lone, "soup_direct_bodies") == 1)
        took = until(lambda: counter(lone, "soup_direct_bodies") == 0)
        got = rest(connection)

    assert 1 < took < 6
    assert len(got) < 32 * MIB
    assert not got.endswith(b"0\r\n\r\n")


def test_a_mirror_that_leaves(lone: Server) -> None:
    """
    When it has left, no more is read for it, and its place is free.
    """
    before = counter(lone, "soup_blob_sent_bytes_total")

    with asking(lone) as connection:
        until(lambda: counter(lone, "soup_direct_bodies") == 1)
        assert 200 == connection.head()[0]

    until(lambda: counter(lone, "soup_direct_bodies") == 0, seconds=1.4)
    assert counter(lone, "soup_blob_sent_bytes_total") - before < 32 * MIB


def test_one_mirror_too_many(lone: Server) -> None:
    """
    It is told to come back within some seconds; who is no mirror has places of his own.
    """
    digest = lone.keep(b"leek")
    token = bearer(lone.mirror("m.example", None)["token"])

    def ask() -> None:
        refused = [
            httpx.get(f"{lone.url}{URL}", headers=token),
            httpx.post(f"{lone.url}{URL}", headers=lone.admin, json={"digests": [digest]}),
            httpx.get(f"{lone.url}/{digest}", headers=token),
        ]
        assert {503} == {answer.status_code for answer in refused}
        assert {int(answer.headers["retry-after"]) for answer in refused} <= {1, 2, 3, 4, 5}
        assert {"urn:soup:error:busy"} == {answer.json()["type"] for answer in refused}
        assert 200 == httpx.get(f"{lone.url}/{digest}").status_code
        assert 200 == httpx.head(f"{lone.url}/{digest}").status_code

    with asking(lone):
        until(lambda: counter(lone, "soup_direct_bodies") == 1)
        assert 3 == rise(lone, ask, 'soup_refused_total{reason="sync"}')
    until(lambda: httpx.get(f"{lone.url}/{digest}", headers=token).status_code == 200)
