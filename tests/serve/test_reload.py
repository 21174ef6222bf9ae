"""SIGHUP: settings that change while soup runs."""

import json
import os
import signal
import ssl
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from soup.serve.reload import differences
from soup.settings import Settings
from tests.conftest import Server
from tests.serve.processes import LARGE, alive, downloading, rest
from tests.wire import until

pytestmark = pytest.mark.sqlite  # rows have no part in it


class Configured:
    """A soup with a settings file."""

    def __init__(self, serve: Any, folder: Path, text: str = "", **settings: Any) -> None:
        self.file = folder / "soup.yaml"
        self.file.write_text(text)
        self.server: Server = serve(config=self.file, **settings)

    def write(self, text: str) -> None:
        """Replace the file in one step."""
        new = self.file.with_suffix(".new")
        new.write_text(text)
        new.replace(self.file)

    def reload(self) -> None:
        self.server.process.send_signal(signal.SIGHUP)

    def said(self, event: str) -> list[dict[str, Any]]:
        """Lines of the log about this."""
        lines = (line for line in self.server.log.read_text().splitlines() if line.startswith("{"))
        return [line for line in map(json.loads, lines) if line["event"] == event]

    def wait(self, event: str, count: int = 1) -> float:
        return until(lambda: len(self.said(event)) >= count)

    def statuses(self, url: str) -> set[int]:
        """How fresh connections are answered: both workers', most likely."""
        return {httpx.get(url).status_code for _ in range(12)}


def read_by_now(pipe: Path) -> int:
    """Where to write what whoever has opened this pipe is to read."""
    found: list[int] = []

    def opened() -> bool:
        with suppress(OSError):  # nobody reads yet
            found.append(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        return bool(found)

    until(opened, seconds=20)
    os.set_blocking(found[0], True)
    return found[0]


def test_redirects_off_and_on(serve, tmp_path) -> None:
    """
    Every worker goes by the new file within a second, and none is replaced.
    """
    soup = Configured(serve, tmp_path, "cdn: {redirects: true}")
    workers = soup.server.workers()
    url = f"{soup.server.url}/{soup.server.keep(b'broth')}"
    soup.server.mirror("mirror.example")
    until(lambda: soup.statuses(url) == {307})

    for redirects, code in (("false", 200), ("true", 307)):
        soup.write(f"cdn: {{redirects: {redirects}}}")
        soup.reload()
        assert 2 > until(lambda code=code: soup.statuses(url) == {code})

    assert workers == soup.server.workers()
    assert [["cdn.redirects"]] * 2 == [line["changed"] for line in soup.said("settings.reloaded")]


def test_a_worker_that_comes_later(serve, tmp_path) -> None:
    """
    Who takes a dead worker's place goes by the file of now, not of the start.
    """
    soup = Configured(serve, tmp_path, "cdn: {redirects: true}", server__workers=1)
    url = f"{soup.server.url}/{soup.server.keep(b'broth')}"
    soup.server.mirror("mirror.example")
    soup.write("cdn: {redirects: false}")
    soup.reload()
    soup.wait("settings.reloaded")

    os.kill(soup.server.workers()[0], signal.SIGKILL)
    time.sleep(0.2)
    soup.server.wait()

    assert {200} == soup.statuses(url)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("cdn: {redirects: perhaps}", "cdn.redirects: input should be a valid boolean"),
        ("cdn: {redirects: fal", "not YAML"),
        ("cdn: {redirect: false}", "cdn.redirect: no such setting"),
        ("", "is empty"),
        (None, "No such file"),
    ],
)
def test_a_bad_file(serve, tmp_path, text, reason) -> None:
    """
    It is said what is wrong with it, and everything stays as it was.
    """
    soup = Configured(serve, tmp_path, "cdn: {redirects: false}", server__workers=1)
    url = f"{soup.server.url}/{soup.server.keep(b'broth')}"
    soup.server.mirror("mirror.example")
    if text is None:
        soup.file.unlink()
    else:
        soup.write(text)

    soup.reload()
    soup.wait("settings.refused")

    assert reason in soup.said("settings.refused")[0]["reason"]
    assert {200} == soup.statuses(url)
    assert [] == soup.said("settings.reloaded")


def test_a_file_that_is_being_written(serve, tmp_path) -> None:
    """
    A file that still grows is waited for, and read when it stands.
    """
    soup = Configured(
        serve, tmp_path, "cdn: {redirects: true}\nserve: {direct_slots: 9}\n", server__workers=1
    )
    with soup.file.open("w") as file:
        for piece in ("cdn: {red", "irects: fa", "lse}\nserve: ", "{direct_slots: 8}\n"):
            file.write(piece)
            file.flush()
            soup.reload()
            time.sleep(0.05)

    soup.wait("settings.reloaded")

    assert [["cdn.redirects", "serve.direct_slots"]] == [
        line["changed"] for line in soup.said("settings.reloaded")
    ]
    assert [] == soup.said("settings.refused")


def test_what_needs_a_restart(serve, tmp_path) -> None:
    """
    It is named in a warning, and what can be taken is taken all the same.
    """
    soup = Configured(serve, tmp_path, "log: {level: info}", server__workers=1)
    soup.write("log: {level: debug}\nserver: {backlog: 99}\njobs: {lease_seconds: 7}\n")

    soup.reload()
    soup.wait("settings.restart_needed")

    assert [["log.level"]] == [line["changed"] for line in soup.said("settings.reloaded")]
    (warning,) = soup.said("settings.restart_needed")
    assert ["server.backlog", "jobs.lease_seconds"] == warning["settings"]
    assert "warning" == warning["level"]


def test_a_door_that_is_opened(serve, tmp_path) -> None:
    """
    A reload that leaves a door open says so as loudly as a start does; the door is open, and shut again.
    """
    soup = Configured(serve, tmp_path, "auth: {mode: token}", server__workers=1)
    listed = f"{soup.server.url}/api/blob:list"

    for mode, code in (("open", 200), ("token", 401)):
        soup.write(f"auth: {{mode: {mode}}}")
        soup.reload()
        until(lambda code=code: httpx.get(listed).status_code == code)

    assert [line for line in soup.said("open") if line["danger"].startswith("auth.mode is open")]


def test_fifty_under_load(serve, tmp_path) -> None:
    """
    Fifty reloads while clients ask and send: not one request fails, and no worker is replaced.
    """
    soup = Configured(serve, tmp_path, "cdn: {redirects: true}")
    url = f"{soup.server.url}/{soup.server.keep(b'broth')}"
    soup.server.mirror("mirror.example")
    workers, over, codes = soup.server.workers(), threading.Event(), []

    def ask() -> None:
        with httpx.Client() as client:
            while not over.is_set():
                codes.append(client.get(url).status_code)

    def send(number: int) -> None:
        with httpx.Client(headers=soup.server.admin) as client:
            while not over.is_set():
                body = f"{number} {len(codes)}".encode()
                codes.append(client.post(f"{soup.server.url}/api/blob", content=body).status_code)

    clients = [threading.Thread(target=ask) for _ in range(3)]
    clients += [threading.Thread(target=send, args=[number]) for number in range(2)]
    for client in clients:
        client.start()
    for number in range(50):
        soup.write(f"cdn: {{redirects: {'true' if number % 2 else 'false'}}}")
        soup.reload()
        time.sleep(0.12)
    over.set()
    for client in clients:
        client.join()

    assert {200, 201, 307} == set(codes)
    assert 500 < len(codes)
    assert 20 < len(soup.said("settings.reloaded"))
    assert workers == soup.server.workers()
    assert [] == soup.said("worker.ended")


def test_then_told_to_stop(serve, tmp_path) -> None:
    """
    SIGTERM right behind SIGHUP is obeyed at once.
    """
    soup = Configured(serve, tmp_path, "cdn: {redirects: true}")
    workers = soup.server.workers()
    soup.write("cdn: {redirects: false}")
    began = time.monotonic()

    soup.reload()
    soup.server.process.send_signal(signal.SIGTERM)

    assert 0 == soup.server.process.wait(10)
    assert 3 > time.monotonic() - began
    assert [] == [worker for worker in workers if alive(worker)]


def test_while_it_stops(serve, tmp_path) -> None:
    """
    Whoever is stopping takes nothing any more, and does not say so.
    """
    soup = Configured(serve, tmp_path, "cdn: {redirects: true}", server__workers=1)
    with downloading(soup.server) as client:
        soup.server.process.send_signal(signal.SIGTERM)
        soup.wait("stopping")
        soup.write("cdn: {redirects: false}")
        soup.reload()
        time.sleep(0.3)

        assert LARGE == rest(client)

    assert 0 == soup.server.process.wait(10)
    assert [] == soup.said("settings.reloaded")


def test_while_it_starts(serve, tmp_path) -> None:
    """
    A signal that comes before soup listens to any is not the end of it: it is obeyed later.
    """
    file, new = tmp_path / "soup.yaml", tmp_path / "soup.new"
    os.mkfifo(file)
    server = serve(config=file, server__workers=1, wait=False)
    writing = read_by_now(file)
    new.write_text("cdn: {redirects: false}")
    new.replace(file)

    server.process.send_signal(signal.SIGHUP)
    os.write(writing, b"cdn: {redirects: true}")
    os.close(writing)

    until(lambda: "settings.reloaded" in server.log.read_text() or server.process.poll() is not None)
    assert '"changed": ["cdn.redirects"]' in server.log.read_text()
    server.wait()


def test_a_file_that_has_gone_since(serve, tmp_path) -> None:
    """
    What the parent could read and a worker cannot: it says so, and goes on as before.
    """
    soup = Configured(serve, tmp_path, "cdn: {redirects: true}", server__workers=1)
    workers = soup.server.workers()
    url = f"{soup.server.url}/{soup.server.keep(b'broth')}"
    soup.server.mirror("mirror.example")
    until(lambda: soup.statuses(url) == {307})
    known = httpx.create_ssl_context().get_ca_certs(binary_form=True)[0]
    authorities = tmp_path / "ca.pem"
    os.mkfifo(authorities)
    soup.write(f"cdn: {{redirects: false, ca_file: {authorities}}}")

    soup.reload()
    for text, event in (
        (ssl.DER_cert_to_PEM_cert(known), "settings.reloaded"),
        ("gone", "settings.not_taken"),
    ):
        writing = read_by_now(authorities)
        os.write(writing, text.encode())
        os.close(writing)
        soup.wait(event)

    assert "cdn.ca_file" in soup.said("settings.not_taken")[0]["reason"]
    assert {307} == soup.statuses(url)
    assert workers == soup.server.workers()
    soup.write("cdn: {redirects: false}")
    soup.reload()
    until(lambda: soup.statuses(url) == {200})


def test_without_a_file(serve) -> None:
    """
    Without a file nothing changes, and soup goes on.
    """
    server = serve(server__workers=1)

    server.process.send_signal(signal.SIGHUP)
    until(lambda: "settings.reloaded" in server.log.read_text())

    assert '"changed": []' in server.log.read_text()
    server.wait()


def test_differences() -> None:
    """
    Sections that workers take in place, and everything else.
    """
    before = Settings.model_validate({})
    after = Settings.model_validate(
        {"data": "other", "cdn": {"silence_seconds": 20}, "upload": {"largest": 9}, "feed": {"keep_days": 1}}
    )

    assert (["cdn.silence_seconds", "upload.largest"], ["data", "feed.keep_days"]) == differences(
        before, after
    )
    assert ([], []) == differences(before, before)
