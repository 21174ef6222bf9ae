"""Mirrors that join a real soup: two workers, real web servers, and every interval as it is by default."""

import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.beside import beside, rows
from tests.conftest import Server, Servers, bearer, program, sha256
from tests.faces.joining import SECRET
from tests.mirror_servers import WebServer, apache_mirror, nginx_mirror
from tests.wire import until

LIMIT = 30.0  # seconds from the first join to the pool (S33)


@pytest.fixture(params=["nginx", "apache"])
def web(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[WebServer]:
    """A mirror's web server; its blobs are in `blobs`."""
    made = nginx_mirror if request.param == "nginx" else apache_mirror
    (tmp_path / "blobs").mkdir()
    with ExitStack() as stack:
        yield stack.enter_context(made(tmp_path / "web", tmp_path / "blobs", None, "127.0.0.2"))


def join(core: Server, token: str = SECRET, **terms: Any) -> tuple[int, dict[str, Any]]:
    answer = core.client.post("/api/cdn:join", json={"scheme": "http", **terms}, headers=bearer(token))
    return answer.status_code, answer.json()


def at(web: WebServer) -> dict[str, Any]:
    return {"fqdn": web.address, "port": web.port}


def report(core: Server, mirror: dict[str, Any]) -> int:
    url = f"/api/cdn/{mirror['id']}?status=1"
    return core.client.patch(url, headers=bearer(mirror["token"])).status_code


def listed(core: Server, id: int) -> dict[str, Any]:
    return dict(core.client.get(f"/api/cdn/{id}", headers=core.admin).json())


@pytest.mark.row("S33")
def test_online_without_any_blob(core: Server, web: WebServer, tmp_path: Path) -> None:
    """
    Within half a minute of its first join a mirror is chosen, and nothing else was done; then it carries.
    """
    began = time.monotonic()
    code, mirror = join(core, **at(web))
    assert (201, 200) == (code, report(core, mirror))
    until(lambda: listed(core, mirror["id"])["why"] is None, LIMIT)
    print(f"chosen {time.monotonic() - began:.1f} s after it joined, without any blob")
    data = b"leek"
    folder = tmp_path / "blobs" / sha256(data)[:3]
    folder.mkdir()
    (folder / sha256(data)).write_bytes(data)

    digest = core.keep(data)

    assert time.monotonic() - began < LIMIT
    until(lambda: f"{web.url}/{digest}" == core.client.get(f"/{digest}").headers.get("location"))
    curl = [program("curl"), "-sfL", f"{core.url}/{digest}"]
    answer = subprocess.run(curl, capture_output=True, check=True)
    assert data == answer.stdout
    assert 200 == join(core, **at(web))[0]
    assert None is listed(core, mirror["id"])["why"]


@pytest.mark.row("S33")
@pytest.mark.parametrize("web", ["nginx"], indirect=True)
def test_a_web_server_that_is_late(core: Server, web: WebServer) -> None:
    """
    One that answers only after the mirror has joined is chosen soon after, within the same half minute.
    """
    web.stop()
    began = time.monotonic()
    _, mirror = join(core, **at(web))
    report(core, mirror)
    until(lambda: "no answer" in str(listed(core, mirror["id"])["why"]), LIMIT)
    web.start()

    until(lambda: listed(core, mirror["id"])["why"] is None, LIMIT)

    print(f"chosen {time.monotonic() - began:.1f} s after it joined, the web server came later")
    assert time.monotonic() - began < LIMIT


@pytest.mark.row("S33")
@pytest.mark.parametrize("kept", [[], [b"leek"]], ids=["no blob", "a blob"])
def test_a_core_that_joins_as_a_mirror(core: Server, kept: list[bytes]) -> None:
    """
    It would send clients to itself, and round in a circle: it never passes, and says why.
    """
    digests = [core.keep(data) for data in kept]
    _, mirror = join(core, fqdn="127.0.0.1", port=core.port)
    report(core, mirror)

    until(lambda: "a core of soup answers there" in listed(core, mirror["id"])["why"], LIMIT)
    time.sleep(1)
    assert None is listed(core, mirror["id"])["audited_at"]
    assert [200] * len(kept) == [core.client.get(f"/{digest}").status_code for digest in digests]


def test_many_at_once(core: Server) -> None:
    """
    Whichever worker is asked, one address is one mirror.
    """
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda number: join(core, fqdn="127.0.0.3", port=8000 + number % 2), range(32)))

    assert [200] * 30 + [201] * 2 == sorted(code for code, _ in found)
    assert {1, 2} == {mirror["id"] for _, mirror in found}
    assert 2 == len(core.client.get("/api/cdn:list", headers=core.admin).json())


def test_a_secret_that_changes(core: Server, secret: Path) -> None:
    """
    A running soup takes up what the file has now, in every worker; the secret of before is nobody's.
    """
    secret.write_text("a-wholly-other-secret")

    until(lambda: {401} == {join(core, fqdn="127.0.0.3")[0] for _ in range(6)}, 20)

    assert {200, 201} >= {join(core, "a-wholly-other-secret", fqdn="127.0.0.3")[0] for _ in range(6)}
    secret.unlink()
    until(lambda: {401} == {join(core, "a-wholly-other-secret", fqdn="127.0.0.3")[0] for _ in range(6)}, 20)
    assert "join.no_secret" in core.log.read_text()


def test_settings_that_change(serve: Servers, secret: Path, tmp_path: Path) -> None:
    """
    Joining is switched off in a running soup within a second, and mirrors that joined stay.
    """
    file = tmp_path / "soup.yaml"
    written = f"cdn: {{join: {{token_file: {secret}, allow_private: true, enabled: true}}}}\n"
    file.write_text(written)
    core = serve(config=file)
    code, mirror = join(core, fqdn="127.0.0.3")
    assert (201, 200) == (code, report(core, mirror))
    file.write_text(written.replace("enabled: true", "enabled: false"))

    core.process.send_signal(signal.SIGHUP)

    took = until(lambda: {403} == {join(core, fqdn="127.0.0.3")[0] for _ in range(6)}, 5)
    print(f"switched off in {took:.2f} s")
    assert took < 1
    assert 200 == report(core, mirror)
    assert "cdn.join.enabled" in core.log.read_text()


def test_beside_a_running_soup(core: Server) -> None:
    """
    The command line lists who has joined, throws one out for good, lists that, and lets it in again.
    """
    token = beside(core, "token", "new", "join").stdout.strip()
    code, mirror = join(core, token, fqdn="127.0.0.3")
    assert 201 == code
    assert ["1", "http://127.0.0.3", "yes"] == [rows(beside(core, "mirror", "ls"))[1][n] for n in (0, 1, -1)]

    ended = beside(core, "mirror", "rm", str(mirror["id"]), "--bar")

    assert (0, "mirror 1 is removed, and may not join again\n") == (ended.returncode, ended.stdout)
    until(lambda: 403 == join(core, token, fqdn="127.0.0.3")[0], 5)
    head, (fqdn, port, _) = rows(beside(core, "mirror", "barred"))
    assert (["fqdn", "port", "since"], "127.0.0.3", "80") == (head, fqdn, port)
    assert 0 == beside(core, "mirror", "add", "127.0.0.3", "--scheme", "http").returncode
    assert [["fqdn", "port", "since"]] == rows(beside(core, "mirror", "barred"))
    assert 409 == join(core, token, fqdn="127.0.0.3")[0]
    assert 0 == beside(core, "mirror", "rm", "2").returncode
    assert 201 == join(core, token, fqdn="127.0.0.3")[0]
