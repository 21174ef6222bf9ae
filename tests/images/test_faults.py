"""What befalls a whole system, on private networks: hosts that are cut off, paused, killed, full.

All the while clients download one blob after the other. Nobody takes wrong bytes for right ones. aria2c,
which knows other mirrors and asks again, never fails; curl only while a mirror is dead and the core has not
found out.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests import got
from tests.conftest import program
from tests.downloads import Downloads
from tests.got import Got
from tests.images.stack import MIRRORS, Stack, docker, image, within

pytestmark = pytest.mark.timeout(900)

PULLING = ("pull1", "pull2")
ADDRESSES = {f"10.213.77.{111 + place}": name for place, name in enumerate((*MIRRORS, "small", *PULLING))}
FOUND_OUT = 20.0  # seconds in which the audit takes a dead mirror out, as the README says
BACK = 60.0  # seconds for one that is well again
MIB = 1 << 20


class Clients:
    """curl and aria2c of this machine, as `Downloads` wants them."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self._stack, self._folder = stack, folder

    def curl(self, digest: str, *words: str) -> Got:
        return got.curl(f"{self._stack.url}/{digest}", "--noproxy", "*", "--connect-timeout", "5", *words)

    def aria2c(self, digest: str, *words: str) -> Got:
        patience = ("--max-tries=12", "--retry-wait=2", "--connect-timeout=4", "--timeout=8")
        return got.aria2c(f"{self._stack.url}/{digest}", self._folder, "--no-proxy=*", *patience, *words)


@dataclass
class Whole(Stack):
    """compose.yaml with more mirrors, each at an address of its own; `digests` are what clients download."""

    more: tuple[Path, ...] = (Path(__file__).with_name("faults.yaml"),)
    digests: list[str] = field(default_factory=list)

    def listed(self) -> dict[str, dict[str, Any]]:
        return {ADDRESSES[fqdn]: mirror for fqdn, mirror in super().listed().items()}


@pytest.fixture(scope="module")
def whole(images: dict[str, str]) -> Iterator[Whole]:
    """All mirrors online, and some blobs everywhere."""
    whole = Whole(images)
    try:
        whole.compose("build", seconds=500)
        began = time.monotonic()
        whole.compose("up", "-d")
        started = time.monotonic()
        whole.online(*ADDRESSES.values())
        ended = time.monotonic()
        print(f"\nup in {started - began:.0f} s, all mirrors online {ended - started:.0f} s after")
        whole.digests += [keep(whole, os.urandom(size)) for size in (1000, 50_000, 300_000, 2_000_000)]
        whole.chosen(*ADDRESSES.values())
        yield whole
    finally:
        whole.compose("down", "-v", "-t", "5")
    assert [] == whole.leftovers()


def keep(whole: Whole, data: bytes) -> str:
    return str(whole.ask("/api/blob", data)["digest"])


@pytest.fixture
def downloads(whole: Whole, tmp_path: Path) -> Iterator[Downloads]:
    """Clients that download all the while; nothing that they take for right is wrong."""
    with Downloads(Clients(whole, tmp_path), whole.digests) as found:
        found.wait(3)
        yield found
    print(f"\n{len(found.of('curl'))} by curl, {len(found.failed('curl'))} of them failed;", end=" ")
    print(
        f"{len(found.of('aria2c'))} by aria2c, {len(found.failed('aria2c'))} failed; {len(found.wrong)} wrong"
    )
    assert [] == found.wrong


def rule(whole: Whole, service: str, *words: object) -> None:
    """A rule of iptables in the network of a container, from outside."""
    pid = whole.container(service)["State"]["Pid"]
    command = [program("nsenter"), "-t", str(pid), "-n", program("iptables"), "-w", *map(str, words)]
    subprocess.run(command, check=True, timeout=30)


@contextmanager
def dropped(whole: Whole, service: str, *rules: tuple[object, ...]) -> Iterator[float]:
    """Packets of these rules come to nothing; since when."""
    for words in rules:
        rule(whole, service, "-A", *words, "-j", "DROP")
    try:
        yield time.monotonic()
    finally:
        for words in rules:
            rule(whole, service, "-D", *words, "-j", "DROP")


def why(whole: Whole, service: str) -> str | None:
    """Why clients are not sent to a mirror."""
    return str(whole.listed().get(service, {"why": "nothing is known"})["why"] or "") or None


def out(whole: Whole, service: str, seconds: float) -> float:
    """Wait until nobody is sent there; how long that took."""
    began = time.monotonic()
    within(seconds, lambda: why(whole, service), lambda: f"{service} is chosen: {whole.listed()}")
    return time.monotonic() - began


def back(whole: Whole, service: str, seconds: float = BACK) -> float:
    """Wait until clients are sent there again; how long that took."""
    began = time.monotonic()
    within(seconds, lambda: why(whole, service) is None, lambda: f"{service}: {why(whole, service)}")
    return time.monotonic() - began


def status(whole: Whole, service: str) -> dict[str, Any]:
    """What an agent says of itself."""
    found = subprocess.run(
        [program("docker"), "exec", whole.container(service)["Id"], "soup-cdn-agent", "status", "--json"],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    return dict(json.loads(found.stdout))


def failures(found: Downloads, since: float, until: float, client: str = "curl") -> list[Any]:
    """Downloads that failed, and not in this time."""
    return [one for one in found.failed(client) if not since <= one.ended <= until]


def test_clients_do_not_reach_the_control_listener(whole: Whole) -> None:
    """
    From the network of the clients the core and the mirrors answer, and the listener for reports does not.
    """
    doors = {"core": 8080, "nginx": whole.ports["nginx"], "apache": whole.ports["apache"], "control": 8081}
    hosts = {"control": "core"}
    script = " ".join(
        f"timeout 3 bash -c 'echo > /dev/tcp/{hosts.get(name, name)}/{port}' 2>&- && echo {name};"
        for name, port in doors.items()
    )
    network = f"{whole.project}_public"
    reached = docker(
        "run", "--rm", "--network", network, "--entrypoint", "bash", image("nginx"), "-c", f"{script} true"
    )

    assert {"core", "nginx", "apache"} == set(reached.split())


def test_an_agent_is_cut_off(whole: Whole, downloads: Downloads) -> None:
    """
    For a minute it reaches no core: its mirror is out when it was silent for 40 s. No client notices.
    """
    with dropped(
        whole, "nginx", ("OUTPUT", "-p", "tcp", "-m", "multiport", "--dports", "8080,8081")
    ) as began:
        took = out(whole, "nginx", 60)
        time.sleep(max(0.0, began + 60 - time.monotonic()))
    healed = back(whole, "nginx")

    print(f"\nagent cut off: out after {took:.0f} s, back {healed:.0f} s after")
    assert [] == downloads.failed("aria2c")
    assert [] == downloads.failed("curl")


def test_a_web_server_is_cut_off(whole: Whole, downloads: Downloads) -> None:
    """
    For a minute no client reaches it, though its agent says that all is well: the audit finds out.
    """
    port = whole.ports["apache"]
    with dropped(whole, "apache", ("INPUT", "!", "-i", "lo", "-p", "tcp", "--dport", port)) as began:
        took = out(whole, "apache", FOUND_OUT + 5)
        dead = time.monotonic()
        time.sleep(max(0.0, began + 60 - time.monotonic()))
    healed = back(whole, "apache")

    print(f"\nweb server cut off: out after {took:.0f} s, back {healed:.0f} s after")
    assert [] == downloads.failed("aria2c")
    assert [] == failures(downloads, began, dead + 30)


def test_a_mirror_is_paused(whole: Whole, downloads: Downloads) -> None:
    """
    It accepts connections and says nothing: out within seconds, and back when it goes on.
    """
    container, began = whole.container("nginx")["Id"], time.monotonic()
    docker("pause", container)
    try:
        took = out(whole, "nginx", FOUND_OUT + 5)
        dead = time.monotonic()
        downloads.wait(3)
    finally:
        docker("unpause", container)
    healed = back(whole, "nginx")

    print(f"\npaused: out after {took:.0f} s, back {healed:.0f} s after")
    assert [] == downloads.failed("aria2c")
    assert [] == failures(downloads, began, dead + 40)


def test_a_mirror_is_killed(whole: Whole, downloads: Downloads) -> None:
    """
    All its processes at once, and it stays away for a while.
    """
    container, began = whole.container("apache")["Id"], time.monotonic()
    docker("kill", container)
    took = out(whole, "apache", FOUND_OUT + 5)
    dead = time.monotonic()
    downloads.wait(3)
    docker("start", container)
    healed = back(whole, "apache")

    print(f"\nkilled: out after {took:.0f} s, back {healed:.0f} s after its start")
    assert [] == downloads.failed("aria2c")
    assert [] == failures(downloads, began, dead + 30)


def test_a_volume_is_full(whole: Whole, downloads: Downloads) -> None:
    """
    A mirror without room says so, and is asked for what it has and for nothing else until there is room.
    """
    data = [os.urandom(4 * MIB) for _ in range(20)]
    digests = [keep(whole, one) for one in data]
    try:
        within(60, lambda: whole.listed()["small"]["status"] == 2, lambda: str(whole.listed()["small"]))
        for digest in digests:
            place, got = whole.curl(f"{whole.url}/{digest}")
            assert data[digests.index(digest)] == got, place
        said = whole.listed()["small"]["message"]
    finally:
        for digest in digests:
            whole.forget(digest)
    began = time.monotonic()
    within(90, lambda: whole.listed()["small"]["status"] == 1, lambda: str(whole.listed()["small"]))

    print(f"\nfull: {said!r}; well {time.monotonic() - began:.0f} s after there was room")
    assert [] == downloads.failed("aria2c")
    assert [] == downloads.failed("curl")


def test_the_core_is_killed(whole: Whole, downloads: Downloads) -> None:
    """
    With all its workers, under load: its restart policy has it back in seconds, and it knows all mirrors.
    Until then there is nobody to ask, and aria2c does not ask again whoever refuses it.
    """
    before, began = whole.container("core"), time.monotonic()
    os.kill(before["State"]["Pid"], signal.SIGKILL)
    within(60, lambda: whole.container("core")["RestartCount"] > before["RestartCount"], whole.logs)
    whole.healthy("core")
    whole.chosen(*ADDRESSES.values())
    returned = time.monotonic()
    downloads.wait(3)

    print(f"\ncore killed: all chosen again after {returned - began:.0f} s")
    assert [] == failures(downloads, began, returned, "aria2c")
    assert [] == failures(downloads, began, returned)


def test_the_database_is_paused(whole: Whole, downloads: Downloads) -> None:
    """
    For 20 s: what a worker knows is redirected, all else is 503 in time. Then all goes on.
    """
    container, began = whole.container("db")["Id"], time.monotonic()
    docker("pause", container)
    try:
        time.sleep(20)
    finally:
        docker("unpause", container)
    resumed = time.monotonic()
    whole.chosen(*ADDRESSES.values())
    healed = time.monotonic()
    downloads.wait(3)

    print(f"\ndatabase paused for {resumed - began:.0f} s: all as before {healed - resumed:.1f} s after")
    assert [] == downloads.failed("aria2c")
    assert [] == failures(downloads, began, healed + 5)


def test_two_that_are_empty(whole: Whole) -> None:
    """
    Both are asked by many for what neither has: each fetches each blob once, from the core, and both end.
    """
    data = [os.urandom(700_000) for _ in range(8)]
    digests = [keep(whole, one) for one in data]
    before = [status(whole, one)["metrics"]["pulls_total"] for one in PULLING]
    origins = [whole.listed()[one]["url"] for one in PULLING]
    urls = [f"{origin}/{digest}" for _ in range(5) for digest in digests for origin in origins]
    with ThreadPoolExecutor(20) as pool:
        got = list(pool.map(lambda url: whole.curl(url)[1], urls))

    assert got == [data[digests.index(url[-64:])] for url in urls]
    after = [status(whole, one)["metrics"]["pulls_total"] for one in PULLING]
    assert [len(digests)] * 2 == [now - then for now, then in zip(after, before, strict=True)]


def test_a_hundred_for_one_cold_blob(whole: Whole) -> None:
    """
    200 MiB that nobody asked for before: one fetch, a hundred right downloads.
    """
    digest = keep(whole, os.urandom(200 * MIB))
    origin = whole.listed()["pull1"]["url"]
    before, began = status(whole, "pull1")["metrics"]["pulls_total"], time.monotonic()
    command = f"curl -sS --fail --noproxy '*' -m 300 {origin}/{digest} | sha256sum"
    runs = [
        subprocess.Popen(["sh", "-c", command], stdout=subprocess.PIPE, text=True)  # noqa: S607
        for _ in range(100)
    ]
    found = [run.communicate(timeout=400)[0].split()[0] for run in runs]
    took = time.monotonic() - began

    print(f"\n100 clients for one cold blob of 200 MiB: {took:.0f} s, {20_000 / took:.0f} MiB/s in all")
    assert {digest} == set(found)
    assert 1 == status(whole, "pull1")["metrics"]["pulls_total"] - before
    whole.forget(digest)


def test_packets_are_lost(whole: Whole, downloads: Downloads) -> None:
    """
    One in twenty between agent and core, for two minutes: the mirror is chosen throughout.
    """
    lossy = ("-m", "statistic", "--mode", "random", "--probability", "0.05")
    ways = [
        (chain, "-p", "tcp", "-m", "multiport", ports, "8080,8081", *lossy)
        for chain, ports in (("OUTPUT", "--dports"), ("INPUT", "--sports"))
    ]
    seen: list[str | None] = []
    with dropped(whole, "nginx", *ways) as began:
        while time.monotonic() < began + 120:
            seen.append(why(whole, "nginx"))
            time.sleep(0.5)

    print(f"\none packet in twenty lost for two minutes: looked {len(seen)} times")
    assert {None} == set(seen)
    assert [] == downloads.failed("aria2c")
    assert [] == downloads.failed("curl")
