"""An agent that runs its web server: one command for both, as in a container."""

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from soup_cdn_agent.index import Index, Wanted

from tests import agents
from tests.agents import Agent
from tests.cdn_agent.recorder import Recorder
from tests.conftest import program, sha256
from tests.mirror_servers import SIGNALS, WebServer, apache_mirror, nginx_mirror
from tests.wire import MIB, until

MIRROR = {"id": 7, "token": "secret"}
NOWHERE = "http://127.0.0.1:9"
LARGE = os.urandom(MIB) * 32


@pytest.fixture(params=["nginx", "apache"])
def web(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[WebServer]:
    """A web server with the files that soup ships, which nobody has started."""
    made = {"nginx": nginx_mirror, "apache": apache_mirror}[request.param]
    folder = tmp_path / "blobs" / sha256(LARGE)[:3]
    folder.mkdir(parents=True)
    (folder / sha256(LARGE)).write_bytes(LARGE)
    with made(tmp_path / "web", tmp_path / "blobs") as server:
        server.stop()
        yield server


def start(
    started: list[Agent], core: str, tmp_path: Path, command: str, web: str = "", **more: object
) -> Agent:
    folder = tmp_path / f"agent{len(started)}"
    agent = agents.start(folder, core, MIRROR, tmp_path / "blobs", web or core, beside=command, **more)
    started.append(agent)
    return agent


def over(started: list[Agent], core: Recorder, tmp_path: Path, web: WebServer, **more: object) -> Agent:
    """An agent that runs this one; when both answer."""
    command = shlex.join(map(str, web.command))
    agent = start(started, core.url, tmp_path, command, web.url, **(SIGNALS[web.kind] | more))
    until(lambda: core.reports and agent.events("web_server.started"), 20)
    until(web._listens)
    return agent


def child(agent: Agent) -> int:
    (begun,) = agent.events("web_server.started")
    return int(begun["pid"])


def family(group: int) -> set[int]:
    """All processes of a group, but for the dead."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, its_group = stat.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state != "Z":
                found.add(int(stat.parent.name))
    return found


def script(tmp_path: Path, text: str) -> str:
    """A web server that does what a test wants."""
    file = tmp_path / "web.sh"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return str(file)


@pytest.mark.row("S33")
def test_who_is_told_to_stop_lets_the_web_server_finish(
    core: Recorder, started: list[Agent], tmp_path: Path, web: WebServer
) -> None:
    """
    The core hears that the mirror leaves while a download runs; that one is complete, then both are gone.
    """
    agent = over(started, core, tmp_path, web)
    group = child(agent)
    got, begun, go_on = bytearray(), threading.Event(), threading.Event()

    def download() -> None:
        with httpx.stream("GET", f"{web.url}/{sha256(LARGE)}", timeout=20) as answer:
            for piece in answer.iter_raw(MIB):
                got.extend(piece)
                begun.set()
                go_on.wait(10)

    client = threading.Thread(target=download)
    client.start()
    assert begun.wait(10)
    agent.process.send_signal(signal.SIGTERM)
    until(lambda: core.last["leaving"])
    until(lambda: not web._listens())
    assert agent.process.poll() is None
    go_on.set()
    client.join(15)

    assert 0 == agent.process.wait(15)
    assert sha256(LARGE) == sha256(bytes(got))
    assert set() == family(group)
    assert not agent.events("web_server.ended")


def test_its_first_look_finds_a_web_server_that_listens(
    core: Recorder, started: list[Agent], tmp_path: Path, web: WebServer
) -> None:
    """
    One that needs a moment is no fault of the mirror: it would be out of the pool until the next look.
    """
    index = Index(tmp_path / "blobs/.soup-cdn/index.db")
    index.expect([Wanted(sha256(LARGE), len(LARGE), 1, 1)], 0)
    index.arrived([sha256(LARGE)])
    index.close()
    slow = script(tmp_path, f"sleep 1.5; exec {shlex.join(map(str, web.command))}")
    agent = start(started, core.url, tmp_path, slow, web.url, check_seconds=60, **SIGNALS[web.kind])
    until(lambda: core.reports, 20)
    until(lambda: agent.events("web.wrong") or sha256(LARGE) in web.log.read_text(), 20)

    assert [] == agent.events("web.wrong")


def test_a_web_server_that_is_killed_takes_the_agent_along(
    core: Recorder, started: list[Agent], tmp_path: Path, web: WebServer
) -> None:
    """
    The core hears it, the log says which it was, the exit status has the signal; no worker is left.
    """
    agent = over(started, core, tmp_path, web)
    group = child(agent)
    assert len(family(group)) > 1
    os.kill(group, signal.SIGKILL)

    assert 128 + signal.SIGKILL == agent.process.wait(15)
    assert core.last["leaving"] is True
    assert 137 == agent.events("web_server.ended")[0]["status"]
    until(lambda: not family(group))


@pytest.mark.parametrize(("ends", "status"), [("exit 3", 3), ("exit 0", 1), ("kill -TERM $$", 143)])
def test_the_exit_status_is_the_web_servers(
    core: Recorder, started: list[Agent], tmp_path: Path, ends: str, status: int
) -> None:
    """
    Never 0, for nobody has asked it to end: not even where it went into the background.
    """
    agent = start(started, core.url, tmp_path, script(tmp_path, ends))

    assert status == agent.process.wait(20)
    assert [status] == [event["status"] for event in agent.events("web_server.ended")]


def test_a_web_server_that_cannot_be_started_is_named(started: list[Agent], tmp_path: Path) -> None:
    """
    The one line says which file is not there.
    """
    agent = start(started, NOWHERE, tmp_path, "/nowhere/nginx -g 'daemon off;'")

    assert 1 == agent.process.wait(20)
    assert "No such file or directory: '/nowhere/nginx'" in agent.log.read_text()


def test_an_agent_that_ends_takes_the_web_server_along(
    core: Recorder, started: list[Agent], tmp_path: Path, web: WebServer
) -> None:
    """
    Its folder is another agent's: both are gone, and the log says that it was the agent.
    """
    first = start(started, core.url, tmp_path, script(tmp_path, "sleep 60"), beside_stop="TERM")
    until(lambda: core.reports, 20)
    command = shlex.join(map(str, web.command))
    second = start(started, core.url, tmp_path, command, web.url, **SIGNALS[web.kind])

    assert 1 == second.process.wait(20)
    assert "another agent keeps" in second.events("agent.ended")[0]["reason"]
    assert not second.events("web_server.ended")
    assert set() == family(child(second))
    assert first.process.poll() is None


@pytest.mark.parametrize("web", ["nginx"], indirect=True)  # root's Apache is made nobody: the kernel forgets
def test_an_agent_that_is_killed_takes_the_web_server_along(
    core: Recorder, started: list[Agent], tmp_path: Path, web: WebServer
) -> None:
    """
    It cannot say anything more: the kernel does.
    """
    agent = over(started, core, tmp_path, web)
    group = child(agent)
    agent.stop(signal.SIGKILL)

    until(lambda: not family(group))


def test_a_web_server_that_does_not_listen_to_reason_is_killed(
    core: Recorder, started: list[Agent], tmp_path: Path
) -> None:
    """
    Neither QUIT nor TERM moves it: it has its time and a second more, then it is killed with all its own.
    """
    stubborn = script(tmp_path, "trap '' QUIT TERM\nsleep 60 &\nwhile :; do sleep 0.1; done")
    agent = start(started, core.url, tmp_path, stubborn, stop_seconds=1)
    until(lambda: core.reports, 20)
    group, began = child(agent), time.monotonic()

    assert 0 == agent.stop()
    assert 1.5 < time.monotonic() - began < 5
    until(lambda: not family(group))


def test_docker_s_ten_seconds_are_enough(core: Recorder, started: list[Agent], tmp_path: Path) -> None:
    """
    As the settings are: the core does not answer, the web server hangs, and it ends within ten.
    """
    stubborn = script(tmp_path, "trap '' QUIT TERM\nwhile :; do sleep 0.1; done")
    agent = start(started, core.url, tmp_path, stubborn)
    until(lambda: core.reports, 20)
    core.delay = 30
    group, began = child(agent), time.monotonic()

    assert 0 == agent.stop()
    assert 7 < time.monotonic() - began < 10
    until(lambda: not family(group))


def test_a_hup_is_passed_on(core: Recorder, started: list[Agent], tmp_path: Path, web: WebServer) -> None:
    """
    Web servers read their files anew, certificates among them: other workers, the same parent and agent.
    """
    agent = over(started, core, tmp_path, web)
    group = child(agent)
    before = family(group) - {group}
    agent.process.send_signal(signal.SIGHUP)

    until(lambda: len(family(group)) > 1 and not before & family(group), 20)
    assert group in family(group)
    assert agent.process.poll() is None


def test_a_ctrl_c_is_the_agents_alone(core: Recorder, started: list[Agent], tmp_path: Path) -> None:
    """
    The terminal tells its whole group: the web server is in another, or it would end before anybody knows.
    """
    agent = start(started, core.url, tmp_path, script(tmp_path, "sleep 60"), beside_stop="TERM")
    until(lambda: core.reports, 20)

    assert os.getpgid(agent.process.pid) != os.getpgid(child(agent)) == child(agent)
    assert 0 == agent.stop(signal.SIGINT)
    assert core.last["leaving"] is True


def test_the_token_is_none_of_the_web_servers_business(
    core: Recorder, started: list[Agent], tmp_path: Path
) -> None:
    """
    Its environment has what the agent's has, but for the agent's own settings.
    """
    agent = start(started, core.url, tmp_path, script(tmp_path, "exec sleep 60"), beside_stop="TERM")
    until(lambda: core.reports, 20)
    environment = Path(f"/proc/{child(agent)}/environ").read_bytes()

    assert b"PATH=" in environment
    assert b"SOUP_AGENT_" not in environment


def test_as_the_first_process_it_buries_what_others_leave(
    core: Recorder, started: list[Agent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    In a container who loses its parent is the first process's child, and a zombie if that does not care.
    """
    (tmp_path / "first").mkdir()
    (tmp_path / "first/sitecustomize.py").write_text("import ctypes\nctypes.CDLL(None).prctl(36, 1)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "first"))
    orphans = script(
        tmp_path, "for n in 1 2 3; do (sleep 0.2 & echo $! >> orphans) & wait; done\nexec sleep 60"
    )
    agent = start(started, core.url, tmp_path, orphans, beside_stop="TERM")
    until(lambda: core.reports, 20)
    noted = tmp_path / "agent0/orphans"
    until(lambda: noted.exists() and len(noted.read_text().split()) == 3)

    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in noted.read_text().split()))
    assert agent.process.poll() is None
    assert 0 == agent.stop()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_the_first_process_of_a_container_can_be_told_to_end(
    core: Recorder, tmp_path: Path, how: signal.Signals
) -> None:
    """
    The kernel gives it only the signals that it handles; QUIT is what images of nginx are told to end by.
    """
    if os.geteuid() != 0:
        pytest.skip("a process namespace is root's to make")
    settings = {
        "core": core.url,
        "id": "7",
        "token": "secret",
        "blobs": tmp_path / "blobs",
        "listen": "",
        "web": core.url,
        "beside": "sleep 60",
        "beside_stop": "TERM",
    }
    environment = os.environ | {f"SOUP_AGENT_{name.upper()}": str(value) for name, value in settings.items()}
    agent = [sys.executable, "-m", "soup_cdn_agent", "run"]
    outside = subprocess.Popen(
        [program("unshare"), "--pid", "--fork", "--kill-child", *agent], env=environment
    )
    try:
        until(lambda: core.reports, 20)
        inside = Path(f"/proc/{outside.pid}/task/{outside.pid}/children").read_text().split()
        os.kill(int(inside[0]), how)

        assert 0 == outside.wait(12)
        assert core.last["leaving"] is True
    finally:
        outside.kill()
        outside.wait()


def test_the_command_line_names_it_too(tmp_path: Path) -> None:
    """
    `run --beside` is over the setting; quotes that do not end are a fault, told in a line.
    """
    given = {"core": NOWHERE, "id": "7", "token": "secret", "blobs": str(tmp_path), "beside": "/nowhere/a"}
    environment = os.environ | {f"SOUP_AGENT_{name.upper()}": value for name, value in given.items()}

    def said(command: str) -> tuple[int, str]:
        words = [sys.executable, "-m", "soup_cdn_agent", "run", "--beside", command]
        run = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=20, check=False)
        return run.returncode, run.stderr

    assert (2, "beside: No closing quotation\n") == said("nginx -g 'daemon off")
    code, error = said("/nowhere/b 'daemon off;'")
    assert 1 == code
    assert "/nowhere/b" in error
