"""A soup that is told to stop: who is told, who is answered, and what is cut."""

import os
import signal
import socket
import threading
import time

import httpx
import pytest

from tests.conftest import bearer, sha256
from tests.databases import free_port
from tests.serve.processes import alive, answered_by, downloading, rest
from tests.wire import until

pytestmark = pytest.mark.sqlite  # rows have no part in it


def test_readiness_says_it_first(serve) -> None:
    """
    For a while new connections are still answered, readiness says 503, and every answer closes its
    connection: whoever balances the load takes this soup out before it refuses anybody.
    """
    server = serve(server__drain_seconds=1.5)
    url = f"{server.url}/{server.keep(b'broth')}"
    began = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    until(lambda: httpx.get(f"{server.url}/readyz").status_code == 503, 1)

    ready = httpx.get(f"{server.url}/readyz")
    assert {"status": "degraded", "reason": "it is stopping"} == ready.json()
    answer = httpx.get(url)
    assert b"broth" == answer.content
    assert "close" == answer.headers["connection"]
    assert 200 == httpx.get(f"{server.url}/healthz").status_code

    assert 0 == server.process.wait(10)
    assert 1.4 < time.monotonic() - began < 4


def test_the_control_listener_goes_last(serve) -> None:
    """
    As long as the public is answered, health is told at the control listener.
    """
    port = free_port()
    server = serve(server__control=f"127.0.0.1:{port}")
    control = f"http://127.0.0.1:{port}"
    with downloading(server) as client:
        server.process.send_signal(signal.SIGTERM)
        until(lambda: not answered_by(server))
        time.sleep(0.5)

        assert 200 == httpx.get(f"{control}/healthz").status_code
        rest(client)

    assert 0 == server.process.wait(10)


def test_a_long_poll_ends(serve) -> None:
    """
    Who waits for a change is answered at once, with what there is: nothing.
    """
    server = serve()
    answers: list[httpx.Response] = []

    def poll() -> None:
        answers.append(httpx.get(f"{server.url}/api/blob:changes?wait=25", headers=server.admin, timeout=30))

    waiting = threading.Thread(target=poll)
    waiting.start()
    time.sleep(0.5)
    began = time.monotonic()

    assert 0 == server.stop()

    assert 5 > time.monotonic() - began
    waiting.join()
    assert [200] == [answer.status_code for answer in answers]
    assert [] == answers[0].json()["changes"]


def test_an_upload_that_has_begun(serve) -> None:
    """
    A request of which soup has read something is answered: the upload goes on to its end and is kept.
    """
    server = serve()
    body = os.urandom(1 << 20)
    head = f"PUT /api/blob HTTP/1.1\r\nHost: soup\r\nAuthorization: Bearer {server.token}\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:1000])
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: not answered_by(server))
        client.sendall(body[1000:])

        assert client.recv(12) == b"HTTP/1.1 201"

    assert 0 == server.process.wait(10)
    again = serve(data=server.data)
    assert body == again.client.get(f"/{sha256(body)}").content


def test_many_connections_and_a_long_download(serve) -> None:
    """
    128 idle keep-alive connections are closed at once; a download of 20 s ends as it should, then soup does.
    """
    server = serve()
    idle = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(128)]
    for one in idle:
        one.sendall(b"GET /healthz HTTP/1.1\r\nHost: soup\r\n\r\n")
        assert one.recv(12) == b"HTTP/1.1 200"
    size = 40 * 1024 * 1024
    digest = server.keep(os.urandom(size))
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 256 * 1024)
        client.sendall(f"GET /{digest} HTTP/1.1\r\nHost: soup\r\nConnection: close\r\n\r\n".encode())
        read = len(client.recv(1000))
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        for one in idle:
            while one.recv(4096):  # the rest of its answer, and then its end
                pass
            one.close()
        assert 2 > time.monotonic() - began
        while piece := client.recv(200 * 1024):
            read += len(piece)
            ahead = read / size * 20 - (time.monotonic() - began)
            time.sleep(max(0.0, ahead))

    assert read > size  # the head of the answer comes on top
    assert 19 < time.monotonic() - began < 25
    assert 0 == server.process.wait(10)


def test_a_second_interrupt(serve) -> None:
    """
    Ctrl-C once more means now.
    """
    server = serve()
    with downloading(server):
        server.process.send_signal(signal.SIGINT)
        until(lambda: not answered_by(server))
        workers = server.workers()
        server.process.send_signal(signal.SIGINT)

        server.process.wait(3)

    assert [] == [worker for worker in workers if alive(worker)]


def test_a_worker_that_does_not_move(serve) -> None:
    """
    One that is frozen does not hold the others up for longer than the stop limit and two seconds.
    """
    server = serve(server__stop_seconds=1)
    frozen = server.workers()[0]
    os.kill(frozen, signal.SIGSTOP)
    began = time.monotonic()

    server.stop()

    assert 6 > time.monotonic() - began
    assert not alive(frozen)


def test_jobs_pass_on(serve) -> None:
    """
    A soup that stops lets go of the jobs: the next one has them at once and not when the lease is over.
    """
    server = serve(jobs__lease_seconds=60, server__workers=1)
    until(lambda: "jobs.here" in server.log.read_text())
    assert 0 == server.stop()

    again = serve(data=server.data, jobs__lease_seconds=60)

    until(lambda: "jobs.here" in again.log.read_text())


def test_reports_while_it_stops(serve) -> None:
    """
    A mirror that reports while soup drains is heard, and the next soup knows of it.
    """
    server = serve(server__drain_seconds=1)
    mirror = server.mirror("mirror.example")
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.2)

    answer = httpx.patch(f"{server.url}/api/cdn/{mirror['id']}?status=2", headers=bearer(mirror["token"]))

    assert 200 == answer.status_code
    assert 0 == server.process.wait(10)
    again = serve(data=server.data)
    assert 2 == again.client.get("/api/cdn:list", headers=again.admin).json()[0]["status"]
