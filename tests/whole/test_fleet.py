"""A fleet that is well: nginx, Apache and https, filled and asked through real clients."""

import os
import subprocess
import urllib.request
from collections.abc import Iterator
from math import sqrt
from pathlib import Path

import pytest

from tests.conftest import Servers, bearer, program, sha256
from tests.fleet import Fleet
from tests.wire import until

SMALL = [os.urandom(1000 + place) for place in range(40)]
LARGE = os.urandom(9 << 20)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three mirrors: nginx, Apache, and nginx with https from a private authority."""
    folder = tmp_path_factory.mktemp("fleet")
    servers = Servers(folder)
    with servers.stack:
        ca = folder / "tls" / "authority.crt"
        core = None
        fleet = Fleet(core, folder)  # type: ignore[arg-type]
        assert fleet.authority == ca
        fleet.core = servers(cdn__report_seconds=2, cdn__ca_file=ca)
        with fleet:
            for data in (*SMALL, LARGE):
                fleet.core.keep(data)
            fleet.mirror("nginx")
            fleet.mirror("apache")
            fleet.mirror("nginx", tls=True)
            fleet.well()
            yield fleet


@pytest.mark.row("S21", "S20")
def test_every_mirror_has_every_blob_under_its_name(fleet: Fleet) -> None:
    """
    A folder of three digits, a file of 64, the bytes of the core, and the date of the blob.
    """
    for mirror in fleet.mirrors:
        for data in (*SMALL, LARGE):
            digest = sha256(data)
            assert data == mirror.file(digest).read_bytes()
            answer = fleet.get(f"{mirror.url}/{digest}")
            assert (200, f'"{digest}"') == (answer.status_code, answer.headers["etag"])


@pytest.mark.row("S7", "S8")
def test_three_mirrors_share_three_thousand_requests(fleet: Fleet) -> None:
    """
    Each is asked a thousand times, give or take four sigma, and nobody else ever.
    """
    places = fleet.places(sha256(SMALL[0]), 3000)

    print(dict(places))
    assert {mirror.url for mirror in fleet.mirrors} == set(places)
    sigma = sqrt(3000 * (1 / 3) * (2 / 3))
    assert all(abs(count - 1000) < 4 * sigma for count in places.values())


@pytest.mark.row("S9")
def test_plain_clients_follow_to_any_of_them(fleet: Fleet, tmp_path: Path) -> None:
    """
    curl, wget, aria2c, urllib and httpx get the right bytes, https from a private authority included.
    """
    digest = sha256(LARGE)
    url = f"{fleet.core.url}/{digest}"
    for _ in range(6):
        assert digest == fleet.curl(digest).digest
        assert (0, digest) == ((got := fleet.aria2c(digest)).code, got.digest)
        file = tmp_path / "got"
        subprocess.run(
            [program("wget"), "-q", f"--ca-certificate={fleet.authority}", "-O", file, url], check=True
        )
        assert digest == sha256(file.read_bytes())
        with urllib.request.urlopen(url, context=fleet.trusts, timeout=30) as answer:
            assert digest == sha256(answer.read())
        assert digest == sha256(fleet.get(url).content)


@pytest.mark.row("S37", "C14b")
def test_a_download_is_resumed_anywhere(fleet: Fleet) -> None:
    """
    What began at the core goes on at nginx, at Apache, at https: 206 to the same If-Range, and one file.
    """
    digest = sha256(LARGE)
    urls = [fleet.core.url, *(mirror.url for mirror in fleet.mirrors)]
    got, step = b"", len(LARGE) // len(urls) + 1
    for url in urls:
        span = f"bytes={len(got)}-{len(got) + step - 1}"
        answer = fleet.get(f"{url}/{digest}?direct=1", range=span, if_range=f'"{digest}"')
        assert 206 == answer.status_code, url
        got += answer.content

    assert digest == sha256(got)


def test_what_is_uploaded_deleted_and_blocked_reaches_every_folder(fleet: Fleet) -> None:
    """
    A new blob appears everywhere; a deleted and a blocked one leave every folder; an unblocked one returns.
    """
    core = fleet.core
    kept, deleted, blocked = (core.keep(os.urandom(3000)) for _ in range(3))
    appeared = until(lambda: all(mirror.agent.has(kept, deleted, blocked) for mirror in fleet.mirrors), 30)

    core.client.delete(f"/api/blob/{deleted}", headers=core.admin)
    core.client.patch(f"/api/blob/{blocked}", json={"blocked": True}, headers=core.admin)
    left = until(lambda: not any(mirror.agent.files() & {deleted, blocked} for mirror in fleet.mirrors), 30)
    for mirror in fleet.mirrors:
        assert 404 == fleet.get(f"{mirror.url}/{blocked}").status_code
        assert mirror.agent.has(kept)

    core.client.patch(f"/api/blob/{blocked}", json={"blocked": False}, headers=core.admin)
    until(lambda: all(mirror.agent.has(blocked) for mirror in fleet.mirrors), 30)
    print(f"new blobs were everywhere after {appeared:.1f} s, removed ones nowhere after {left:.1f} s")
    fleet.well()


def test_nobody_is_sent_to_a_mirror_without_a_fresh_upload(fleet: Fleet) -> None:
    """
    A hundred requests right after an upload: each is answered with the right bytes at once.
    """
    wrong = 0
    for _ in range(10):
        data = os.urandom(5000)
        digest = fleet.core.keep(data)
        for _ in range(10):
            wrong += fleet.get(f"{fleet.core.url}/{digest}").content != data
    assert 0 == wrong
    fleet.well()


def test_what_was_delivered_is_counted(fleet: Fleet) -> None:
    """
    Bytes that a web server sent are in the core's list within two reports.
    """
    mirror = fleet.mirrors[1]
    before = mirror.listed()["delivered"]["bytes"]
    for _ in range(3):
        assert 200 == fleet.get(f"{mirror.url}/{sha256(LARGE)}").status_code

    until(lambda: mirror.listed()["delivered"]["bytes"] - before >= 3 * len(LARGE), 30)


@pytest.mark.row("C14a")
def test_a_credential_goes_to_trusted_mirrors_only(fleet: Fleet) -> None:
    """
    Two mirrors are not trusted: who shows a credential is sent to the third, and nobody else's is changed.
    """
    core = fleet.core
    for mirror in fleet.mirrors[:2]:
        core.client.patch(f"/api/cdn/{mirror.id}", json={"trusted": False}, headers=core.admin)
    try:
        digest = sha256(SMALL[1])
        asked = {
            core.client.get(f"/{digest}", headers={"x-api-key": "k"}).headers["location"] for _ in range(40)
        }
        assert {f"{fleet.mirrors[2].url}/{digest}"} == asked
        assert 3 == len(fleet.places(digest, 60))
    finally:
        for mirror in fleet.mirrors[:2]:
            core.client.patch(f"/api/cdn/{mirror.id}", json={"trusted": True}, headers=core.admin)


def test_a_drained_mirror_gets_no_more_requests_until_it_is_undrained(fleet: Fleet) -> None:
    """
    An administrator takes it out at once and back at once; it goes on syncing all the while.
    """
    core, mirror, digest = fleet.core, fleet.mirrors[0], sha256(SMALL[2])
    core.client.patch(f"/api/cdn/{mirror.id}", json={"drained": True}, headers=core.admin)

    assert mirror.url not in fleet.places(digest, 60)
    fresh = core.keep(os.urandom(100))
    until(lambda: mirror.agent.has(fresh), 30)

    core.client.patch(f"/api/cdn/{mirror.id}", json={"drained": False}, headers=core.admin)
    assert mirror.url in fleet.places(digest, 60)
    fleet.well()


def test_a_weight_of_three_gets_three_times_as_many(fleet: Fleet) -> None:
    """
    Weights 3, 1 and 1: three fifths of the requests, give or take four sigma.
    """
    core, mirror = fleet.core, fleet.mirrors[0]
    core.client.patch(f"/api/cdn/{mirror.id}", json={"weight": 3}, headers=core.admin)
    try:
        heavy = fleet.places(sha256(SMALL[3]), 1000)[mirror.url]
    finally:
        core.client.patch(f"/api/cdn/{mirror.id}", json={"weight": 1}, headers=core.admin)
    assert abs(heavy - 600) < 4 * sqrt(1000 * 0.6 * 0.4)


@pytest.mark.row("C10")
def test_a_mirror_is_given_bytes_or_another_mirror_and_never_itself(fleet: Fleet) -> None:
    """
    With its token a mirror gets the bytes; who asks for `from=mirrors` is sent to one of the two others.
    """
    digest, mirror = sha256(SMALL[4]), fleet.mirrors[0]
    headers = bearer(mirror.known["token"])
    assert {200} == {fleet.core.client.get(f"/{digest}", headers=headers).status_code for _ in range(20)}

    sent = [fleet.core.client.get(f"/{digest}?from=mirrors", headers=headers) for _ in range(40)]

    others = {f"{other.url}/{digest}" for other in fleet.mirrors[1:]}
    assert others == {answer.headers["location"] for answer in sent}
