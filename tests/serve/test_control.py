"""`server.control`: a listener for reports, health and metrics alone."""

import socket
import time
from contextlib import ExitStack

import httpx
import pytest

from tests.command import refusal, soup
from tests.conftest import Server, bearer
from tests.databases import free_port
from tests.serve.processes import ready
from tests.wire import until

pytestmark = pytest.mark.sqlite  # rows have no part in it

DIGEST = "a" * 64


@pytest.fixture(scope="module")
def both_listeners(tmp_path_factory):
    """A soup with both, and the address of the second."""
    from tests.conftest import Servers  # noqa: PLC0415 - the class, not a fixture

    servers, port = Servers(tmp_path_factory.mktemp("control")), free_port()
    with servers.stack:
        server = servers(server__control=f"127.0.0.1:{port}", server__workers=1, server__backlog=128)
        until(lambda: ready(f"http://127.0.0.1:{port}"))
        yield server, f"http://127.0.0.1:{port}"


def test_what_is_there(both_listeners) -> None:
    """
    Mirrors, health and metrics are there; blobs are not, in no form.
    """
    server, control = both_listeners
    digest = server.keep(b"broth")

    def status(method: str, path: str) -> int:
        return httpx.request(method, control + path, headers=server.admin).status_code

    assert [200] * 4 == [status("GET", path) for path in ("/healthz", "/readyz", "/metrics", "/api/cdn:list")]
    assert [404] * 4 == [
        status("GET", path) for path in (f"/{digest}", "/api/blob:list", f"/api/blob/{digest}", "/")
    ]
    assert 404 == status("PUT", f"/api/blob/{DIGEST}")
    assert 401 == httpx.get(f"{control}/api/cdn:list").status_code
    assert "/{digest}" not in httpx.get(f"{control}/schema/openapi.json").json()["paths"]


def test_a_report_counts_everywhere(both_listeners) -> None:
    """
    What a mirror says at one listener is true at the other at once.
    """
    server, control = both_listeners
    digest = server.keep(b"leek")
    mirror = server.mirror("mirror.example", status=None)
    report = f"{control}/api/cdn/{mirror['id']}"

    for said, code in ((1, 307), (0, 200)):
        answer = httpx.patch(f"{report}?status={said}", headers=bearer(mirror["token"]))
        assert 200 == answer.status_code
        assert code == httpx.get(f"{server.url}/{digest}").status_code


def test_while_the_public_one_is_full(both_listeners) -> None:
    """
    More connections than the public listener takes: nobody new is answered there, a report is.
    """
    server, control = both_listeners
    mirror = server.mirror("busy.example", status=None)
    with ExitStack() as stack:
        with pytest.raises(TimeoutError):  # noqa: PT012 - one of many
            for _ in range(600):
                stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=1))

        began = time.monotonic()
        url = f"{control}/api/cdn/{mirror['id']}?status=1"
        answer = httpx.patch(url, headers=bearer(mirror["token"]), timeout=5)

        assert 200 == answer.status_code
        assert 2 > time.monotonic() - began
        assert 200 == httpx.get(f"{control}/readyz", timeout=5).status_code
    until(lambda: ready(server.url))


def test_metrics_are_the_same(both_listeners) -> None:
    """
    Either listener tells of all workers.
    """
    server, control = both_listeners
    digest = server.keep(b"onion")
    for _ in range(3):
        httpx.get(f"{server.url}/{digest}")

    def requests(url: str) -> list[str]:
        lines = httpx.get(f"{url}/metrics").text.splitlines()
        return [line for line in lines if line.startswith("soup_blob_requests_total")]

    assert requests(server.url)
    until(lambda: requests(server.url) == requests(control))


@pytest.mark.parametrize(
    ("control", "reason"),
    [
        ("8081", "server.control"),
        ("127.0.0.1:http", "server.control"),
        ("127.0.0.1:0", "a port is a number from 1 to 65535"),
        ("127.0.0.1:70000", "a port is a number from 1 to 65535"),
        ("no.such.host.invalid:81", "server.control: 'no.such.host.invalid' is no address"),
    ],
)
def test_no_address(control, reason, tmp_path) -> None:
    """
    What is no address is refused under the name of its setting, before anything is made.
    """
    ended = soup("serve", cwd=tmp_path, SOUP_SERVER__CONTROL=control, SOUP_SERVER__PORT=str(free_port()))

    assert reason in refusal(ended)
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # noqa: S104 - that is what is tried
def test_the_same_port_twice(host, tmp_path) -> None:
    """
    Both listeners on one port are refused, and so is a port that somebody else has.
    """
    port = free_port()

    ended = soup("serve", cwd=tmp_path, SOUP_SERVER__CONTROL=f"{host}:{port}", SOUP_SERVER__PORT=str(port))

    assert f"cannot listen on {host} port {port}: Address already in use" == refusal(ended)
    assert [] == list(tmp_path.iterdir())


def test_over_ipv6(serve) -> None:
    """
    An address in brackets is an address.
    """
    port = free_port()
    server: Server = serve(server__control=f"[::1]:{port}", server__workers=1)

    until(lambda: ready(f"http://[::1]:{port}"))
    server.stop()
