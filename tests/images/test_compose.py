"""compose.yaml, as somebody tries it: nothing but `up`, then what may happen, then `down`."""

import hashlib
import json
import os
import signal
import time
from datetime import datetime

import pytest

from tests.images.stack import KINDS, MIRRORS, Stack, docker, within

pytestmark = pytest.mark.timeout(600)

SERVICES = (*KINDS, "db")
SAID = 30  # seconds after its start until a mirror is online


def started(stack: Stack, service: str) -> float:
    """When its container was, in Unix time."""
    return datetime.fromisoformat(stack.container(service)["State"]["StartedAt"][:26] + "+00:00").timestamp()


def through(stack: Stack, digest: str, data: bytes) -> None:
    """A blob through the core until each mirror was drawn: its bytes, from that mirror."""
    left = {f"http://{kind}.localhost:{stack.ports[kind]}/{digest}" for kind in MIRRORS}

    def drawn() -> bool:
        place, got = stack.curl(f"{stack.url}/{digest}")
        assert data == got
        left.discard(place)
        return not left

    within(60, drawn, lambda: f"never at {left}: {stack.listed()}")


def keep(stack: Stack, data: bytes) -> str:
    digest = stack.ask("/api/blob", data)["digest"]
    assert hashlib.sha256(data).hexdigest() == digest
    return str(digest)


@pytest.mark.row("S33")
def test_up_and_nothing_else(stack: Stack) -> None:
    """
    Both mirrors are in the list and online half a minute after their start, without a blob in soup.
    """
    stack.online(*MIRRORS)

    now = time.time()
    took = {kind: now - started(stack, kind) for kind in (*MIRRORS, "core")}
    print("\nonline after their start: " + ", ".join(f"{kind} {took[kind]:.0f} s" for kind in took))
    assert all(took[kind] < SAID for kind in MIRRORS)
    assert all(mirror["joined"] for mirror in stack.listed().values())
    stack.healthy(*SERVICES)


def test_nothing_is_open_that_need_not_be(stack: Stack) -> None:
    """
    Read-only, no capabilities and no way to get any, not as root; ports are of this machine alone.
    """
    for service in SERVICES:
        host = stack.container(service)["HostConfig"]

        assert host["ReadonlyRootfs"]
        assert ["ALL"] == host["CapDrop"]
        assert not host["CapAdd"]
        assert "no-new-privileges:true" in host["SecurityOpt"]
        assert "0" != stack.inside(service, "id", "-u")
        assert {"127.0.0.1"} >= {at["HostIp"] for ports in host["PortBindings"].values() for at in ports}


def test_volumes_have_names(stack: Stack) -> None:
    """
    What is not removed by `down` is found again by `up`.
    """
    for service in (*SERVICES, "secrets"):
        for mount in stack.container(service)["Mounts"]:
            assert mount["Type"] == "tmpfs" or mount["Name"].startswith(f"{stack.project}_")


def test_secrets_are_files(stack: Stack) -> None:
    """
    Made at the first `up`: in no variable, and the database's is where the database and the core are alone.
    """
    join = stack.inside("core", "cat", "/run/soup/join/token")
    password = stack.inside("core", "cat", "/run/soup/database/password")

    assert 64 == len(join) == len(password)
    assert join == stack.inside("nginx", "cat", "/run/soup/join/token")
    assert "600" == stack.inside("core", "stat", "-c", "%a", "/run/soup/database/pgpass")
    known = json.dumps([stack.container(service) for service in SERVICES])
    assert join not in known
    assert password not in known
    assert not any("database-secret" in json.dumps(stack.container(kind)["Mounts"]) for kind in MIRRORS)


def test_a_blob_through_both_mirrors(stack: Stack) -> None:
    """
    Uploaded to the core, it comes from each mirror, through a 307 that curl of this machine follows.
    """
    data = os.urandom(3_000_000)
    digest = keep(stack, data)
    began = time.monotonic()
    stack.chosen(*MIRRORS)
    print(f"\nchosen {time.monotonic() - began:.0f} s after the first upload")

    through(stack, digest, data)


def test_the_control_listener(stack: Stack) -> None:
    """
    Health, metrics and reports are told at a port that is not published, and blobs are not.
    """
    core = stack.container("core")
    network = core["NetworkSettings"]["Networks"][f"{stack.project}_control"]
    url = f"http://{network['IPAddress']}:8081"

    assert not core["NetworkSettings"]["Ports"].get("8081/tcp")
    assert b"ok" in stack.curl(f"{url}/healthz")[1]
    assert b"soup_mirrors" in stack.curl(f"{url}/metrics")[1]
    with pytest.raises(AssertionError, match=": 22"):
        stack.curl(f"{url}/{'0' * 64}")


@pytest.mark.parametrize("service", [*MIRRORS])
def test_a_web_server_that_dies(stack: Stack, service: str) -> None:
    """
    It ends its container with a status that is not 0, and the restart policy brings both back.
    """
    before = stack.container(service)
    began = time.monotonic()
    pid = stack.inside(service, "cat", f"/tmp/{service}/pid")
    docker("exec", before["Id"], "sh", "-c", f"kill -9 {pid}")

    _restarted(stack, service, before["RestartCount"])
    print(f"\n{service} chosen {time.monotonic() - began:.0f} s after its web server died")


@pytest.mark.parametrize("service", ["nginx", "core"])
def test_an_agent_that_dies(stack: Stack, service: str) -> None:
    """
    The first process of a container, killed from outside: the restart policy brings it back.
    """
    before = stack.container(service)
    assert before["State"]["Running"], stack.logs()  # the number of one that has ended is 0, and that is us
    began = time.monotonic()
    os.kill(before["State"]["Pid"], signal.SIGKILL)

    _restarted(stack, service, before["RestartCount"])
    print(f"\n{service} back {time.monotonic() - began:.0f} s after its first process died")


def _restarted(stack: Stack, service: str, times: int) -> None:
    within(60, lambda: stack.container(service)["RestartCount"] > times, stack.logs)
    stack.healthy(service)
    stack.chosen(*MIRRORS)


@pytest.mark.parametrize("service", [*MIRRORS])
def test_a_mirror_that_is_stopped(stack: Stack, service: str) -> None:
    """
    It says that it is leaving, and ends with 0; nobody is sent there.
    """
    container = stack.container(service)["Id"]
    began = time.monotonic()
    docker("stop", "-t", "20", container)
    print(f"\n{service} stopped within {time.monotonic() - began:.1f} s")

    assert 0 == stack.container(service)["State"]["ExitCode"]
    assert "leaving" in stack.listed()[service]["why"]
    docker("start", container)
    stack.chosen(*MIRRORS)


def test_a_mirror_that_pulls(stack: Stack) -> None:
    """
    The third one, of a profile: it has nothing, is chosen for anything, and keeps what a client asked for.
    """
    data = os.urandom(1_000_000)
    digest = keep(stack, data)
    began = time.monotonic()
    stack.compose("--profile", "pull", "up", "-d", "pull")
    try:
        stack.chosen("pull")
        print(f"\npull chosen within {time.monotonic() - began:.0f} s")

        assert "pull" == stack.listed()["pull"]["mode"]
        assert digest[:3] not in stack.inside("pull", "ls", "/data/blobs")
        _, got = stack.curl(f"http://pull.localhost:{stack.ports['pull']}/{digest}")
        assert data == got
        within(20, lambda: digest in stack.inside("pull", "ls", f"/data/blobs/{digest[:3]}"), stack.logs)
    finally:
        stack.compose("--profile", "pull", "stop", "pull")


def test_down_and_up(stack: Stack) -> None:
    """
    Blobs and the ids of mirrors are kept, and everybody is online again.
    """
    data = os.urandom(200_000)
    digest = keep(stack, data)
    ids = {kind: stack.listed()[kind]["id"] for kind in MIRRORS}
    began = time.monotonic()
    stack.compose("down", "-t", "30")
    print(f"\ndown: {time.monotonic() - began:.0f} s")
    began = time.monotonic()
    stack.compose("up", "-d")
    stack.chosen(*MIRRORS)
    print(f"up again and chosen: {time.monotonic() - began:.0f} s")

    assert ids == {kind: stack.listed()[kind]["id"] for kind in MIRRORS}
    through(stack, digest, data)


def test_down_for_good(stack: Stack) -> None:
    """
    `down -v` leaves no container, no volume and no network. The last test: the stack is gone.
    """
    stack.compose("--profile", "pull", "up", "-d")
    assert stack.leftovers()

    stack.compose("--profile", "pull", "down", "-v", "-t", "30")

    assert [] == stack.leftovers()
