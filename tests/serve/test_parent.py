"""Processes: what a signal does to them, and what dies with what."""

import os
import signal
import socket
import time
from pathlib import Path

import httpx
import pytest

from tests.command import refusal, soup
from tests.databases import free_port
from tests.serve.processes import LARGE, alive, answered_by, both, downloading, rest
from tests.wire import until

pytestmark = pytest.mark.sqlite  # rows have no part in it


@pytest.fixture
def room(tmp_path, monkeypatch):
    """Where temporary folders are made."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def test_a_port_in_use(tmp_path) -> None:
    """
    A port that another program has is refused before anything is made.
    """
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        ended = soup("serve", cwd=tmp_path, SOUP_SERVER__PORT=str(port))

    assert f"cannot listen on 127.0.0.1 port {port}: Address already in use" == refusal(ended)
    assert [] == list(tmp_path.iterdir())


def test_a_port_that_soup_has(serve, tmp_path) -> None:
    """
    A second soup on the same port is refused: the kernel would give half of the requests to each.
    """
    server = serve()

    ended = soup(
        "serve", cwd=tmp_path, SOUP_SERVER__PORT=str(server.port), SOUP_DATA=str(tmp_path / "second")
    )

    assert "Address already in use" in refusal(ended)
    assert not (tmp_path / "second").exists()
    assert answered_by(server)


def test_a_port_that_was_just_in_use(serve) -> None:
    """
    Connections that are still closing do not keep soup from starting again at once.
    """
    first = serve()
    with socket.create_connection(("127.0.0.1", first.port)) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: soup\r\n\r\n")
        assert client.recv(100)
        assert 0 == first.stop()

    second = serve(data=first.data, server__port=first.port)

    assert httpx.get(f"http://127.0.0.1:{first.port}/readyz").is_success
    assert 0 == second.stop()


def test_told_to_stop(serve, room) -> None:
    """
    Two workers answer. SIGTERM ends all within seconds, with status 0, and the temporary folder is gone.
    """
    server = serve()
    both(server)
    pids = [server.process.pid, *server.workers()]
    assert 3 == len(pids)
    assert 1 == len(list(room.iterdir()))
    began = time.monotonic()

    status = server.stop()

    assert 0 == status
    assert 5 > time.monotonic() - began
    assert [] == [pid for pid in pids if alive(pid)]
    assert [] == list(room.iterdir())
    assert "Killing" not in server.log.read_text()


def test_told_to_stop_by_the_keyboard(serve) -> None:
    """
    Ctrl-C reaches parent and workers at once, and ends them as SIGTERM does.
    """
    server = serve()
    for pid in [*server.workers(), server.process.pid]:
        os.kill(pid, signal.SIGINT)

    server.process.wait(10)

    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("seconds", [0.4, 0.8])
def test_told_to_stop_while_it_starts(serve, room, seconds) -> None:
    """
    Whenever SIGTERM comes, it is obeyed at once and not after the stop limit.
    """
    server = serve(wait=False)
    time.sleep(seconds)
    began = time.monotonic()

    server.stop()

    assert 5 > time.monotonic() - began
    assert [] == list(room.glob("soup-*"))


def test_told_to_stop_the_moment_it_answers(serve) -> None:
    """
    The other worker may still be starting; it obeys as well.
    """
    for _ in range(2):
        server = serve(server__workers=4)
        began = time.monotonic()

        assert 0 == server.stop()
        assert 5 > time.monotonic() - began


def test_told_to_stop_during_a_download(serve) -> None:
    """
    New connections are refused at once; an answer that has begun is sent to its last byte.
    """
    server = serve()
    with downloading(server) as client:
        server.process.send_signal(signal.SIGTERM)
        until(lambda: not answered_by(server))
        assert server.process.poll() is None

        read = rest(client)

    assert LARGE == read
    assert 0 == server.process.wait(10)


def test_a_download_that_would_never_end(serve) -> None:
    """
    A client that does not read does not hold soup up for longer than the stop limit.
    """
    server = serve(server__stop_seconds=2)
    with downloading(server):
        began = time.monotonic()

        server.stop()

    assert 1 < time.monotonic() - began < 8


def test_the_parent_is_killed(serve, room) -> None:
    """
    Workers do not outlive their parent: they would go on serving on its port. Nothing stays behind, and a new
    soup can have it all.
    """
    server = serve()
    workers = server.workers()

    server.stop(signal.SIGKILL)

    assert 5 > until(lambda: not any(map(alive, workers)))
    assert [] == list(room.iterdir())
    again = serve(data=server.data, server__port=server.port)
    assert answered_by(server)
    again.stop()


def test_a_worker_is_killed(serve) -> None:
    """
    Another takes its place, and a client that tries once more always gets its answer meanwhile.
    """
    server = serve()
    url = f"{server.url}/{server.keep(b'broth')}"
    both(server)
    dead, other = server.workers()
    os.kill(dead, signal.SIGKILL)

    failed = 0
    while dead in server.workers() or len(server.workers()) < 2:
        try:
            assert b"broth" == httpx.get(url, timeout=5).content
        except httpx.TransportError:
            failed += 1
            assert b"broth" == httpx.get(url, timeout=5).content

    assert 5 > failed
    assert other in server.workers()
    both(server)
    assert server.process.poll() is None


def test_a_worker_is_killed_twice_in_a_second(serve) -> None:
    """
    The other worker never notices, and the place is filled again each time, at once and then after a pause.
    """
    server = serve()
    both(server)
    dead, other = server.workers()

    began = time.monotonic()
    os.kill(dead, signal.SIGKILL)
    until(lambda: len(server.workers()) == 2 and dead not in server.workers())
    (second,) = set(server.workers()) - {other}
    os.kill(second, signal.SIGKILL)
    assert 1 > time.monotonic() - began

    until(lambda: len(server.workers()) == 2 and second not in server.workers())
    both(server)
    assert other in server.workers()
    ended = [line for line in server.log.read_text().splitlines() if "worker.ended" in line]
    assert 2 == len(ended)
    assert all('"how": "SIGKILL"' in line for line in ended)


def test_workers_that_die_again_and_again(serve) -> None:
    """
    Each is replaced later than the one before, and the port stays ours while nobody listens.
    """
    server = serve(server__workers=1)
    for _ in range(2):
        (worker,) = server.workers()
        os.kill(worker, signal.SIGKILL)
        until(lambda worker=worker: server.workers() not in ([], [worker]))
    os.kill(server.workers()[0], signal.SIGKILL)
    until(lambda: not server.workers())

    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", server.port))
    server.wait()

    said = server.log.read_text()
    pauses = [
        float(line.split('"next_in": ')[1].split(",")[0]) for line in said.splitlines() if "next_in" in line
    ]
    assert [0.25, 1, 2] == pauses


def test_a_worker_that_is_told_to_stop(serve) -> None:
    """
    A worker that somebody ends with SIGTERM finishes what it does and is replaced.
    """
    server = serve(server__workers=1)
    with downloading(server) as client:
        os.kill(server.workers()[0], signal.SIGTERM)
        time.sleep(0.3)

        assert LARGE == rest(client)

    server.wait()


def test_another_port(serve) -> None:
    """
    SOUP_SERVER__PORT is where soup listens, and nowhere else.
    """
    port = free_port()

    server = serve(server__port=port)

    listening = [
        line.split()[1].rpartition(":")[2]
        for line in Path(f"/proc/{server.process.pid}/net/tcp").read_text().splitlines()[1:]
        if line.split()[3] == "0A"
    ]
    assert f"{port:04X}" in listening
