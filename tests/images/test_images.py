"""What is in the images, and what is not."""

import io
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.conftest import program
from tests.images.stack import KINDS, MIRRORS, OWN, ROOT, Stack, docker, image, inspected, within

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("stack")]

MOST = {"core": 260, "nginx": 190, "apache": 250}  # megabytes; seldom more than the half is ours
NEEDLESS = ("gcc", "cc", "make", "pip", "pip3", "git", "curl")


def run(kind: str, word: str) -> str:
    return docker("run", "--rm", "--read-only", "--tmpfs", "/tmp", "--network", "none", image(kind), word)


def shell(kind: str, script: str) -> str:
    words = ("run", "--rm", "--network", "none", "--entrypoint", "sh", image(kind), "-c", script)
    return docker(*words)


def asked(url: str) -> int:
    """The status that curl had; 0 for none."""
    words = [program("curl"), "-s", "--noproxy", "*", "-m", "5", "-o", "-", "-w", "\n%{http_code}", url]
    run = subprocess.run(words, capture_output=True, check=False, timeout=10)
    return int(run.stdout.split()[-1])


def exported(container: str) -> list[str]:
    """The names of all files in it."""
    words = [program("docker"), "export", container]
    tar = subprocess.run(words, capture_output=True, check=True, timeout=60).stdout
    with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
        return opened.getnames()


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_says_what_it_is(kind: str) -> None:
    """
    Its labels name title, description, licence, source and the version that runs; the licence is in it.
    """
    labels = inspected(image(kind))["Config"]["Labels"]

    prefix = "org.opencontainers.image."
    assert "Apache-2.0" == labels[f"{prefix}licenses"]
    assert all(labels[prefix + name] for name in ("title", "description", "source"))
    assert labels[f"{prefix}version"] in run(kind, "--version").splitlines()[0]
    assert (ROOT / "LICENSE").read_text().strip() == shell(kind, "cat /LICENSE")


@pytest.mark.parametrize(("kind", "server"), [("nginx", "nginx/1."), ("apache", "Apache/2.4.")])
def test_a_mirrors_image_tells_two_versions(kind: str, server: str) -> None:
    """
    The agent's, then the web server's.
    """
    said = run(kind, "--version").splitlines()

    assert "0.1.0" == said[0]
    assert server in said[1]


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_is_root(kind: str) -> None:
    """
    The user is a number, which Kubernetes can see not to be root's.
    """
    assert "10001:10001" == inspected(image(kind))["Config"]["User"]
    assert "10001" == shell(kind, "id -u")


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_small(kind: str) -> None:
    """
    No compiler, no pip, no cache of either, no bytecode of what no start loads.
    """
    size = inspected(image(kind))["Size"] / 1e6
    print(f"{kind}: {size:.0f} MB")

    assert size < MOST[kind]
    assert "" == shell(kind, f"for name in {' '.join(NEEDLESS)}; do command -v $name || :; done")
    assert "" == shell(
        kind, "ls -d /var/cache/apt/* /src /opt/*/lib/*/site-packages/hatchling 2>/dev/null || :"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_stops_and_is_looked_at(kind: str) -> None:
    """
    By SIGTERM, and by a health check.
    """
    config = inspected(image(kind))["Config"]

    assert "SIGTERM" == config["StopSignal"]
    assert "healthy" in " ".join(config["Healthcheck"]["Test"])


def test_what_is_sent_to_the_engine() -> None:
    """
    Sources alone: less than 5 MB, without tests, history and what lies about.
    """
    name = f"{OWN}-context"
    build = ("build", "--quiet", "--tag", name, "--file", "-", ROOT)
    docker(*build, given='FROM scratch\nCOPY . /\nCMD ["x"]\n')
    made = docker("create", name)
    try:
        size = inspected(name)["Size"]
        files = exported(made)
    finally:
        docker("rm", "-v", made)
        docker("image", "rm", name)

    print(f"\ncontext: {size / 1e6:.1f} MB")
    assert size < 5e6
    assert "soup/app.py" in files
    assert not [name for name in files if any(word in name for word in (".git/", "__pycache__", "tests/"))]


@contextmanager
def alone(kind: str, stack: Stack, *settings: str) -> Iterator[tuple[str, str]]:
    """A mirror that finds no core: the name of its container, and its URL."""
    name = f"{stack.project}-alone"
    settings = (*settings, "SOUP_AGENT_CORE=http://127.0.0.1:1", f"SOUP_AGENT_JOIN_TOKEN={'x' * 16}")
    words = [word for setting in settings for word in ("-e", setting)]
    docker("run", "-d", "--rm", "--name", name, "--read-only", "--tmpfs", "/tmp", *words, image(kind))
    try:
        url = f"http://{inspected(name)['NetworkSettings']['IPAddress']}:8080"
        within(30, lambda: asked(f"{url}/healthz") == 200, lambda: docker("logs", name))
        yield name, url
    finally:
        docker("rm", "-f", "-v", name)


@pytest.mark.parametrize("kind", MIRRORS)
def test_the_access_log_has_an_end(kind: str, stack: Stack) -> None:
    """
    It is put aside when it is longer than it may be, and the one before goes.
    """
    with alone(kind, stack, "MIRROR_LOG_BYTES=2000") as (name, url):

        def lengths() -> list[int]:
            assert {404} == {asked(f"{url}/{'0' * 64}") for _ in range(10)}
            return [int(word) for word in docker("exec", name, "sh", "-c", "stat -c %s /tmp/log/*").split()]

        within(30, lambda: len(lengths()) == 2, lambda: f"{lengths()}")
        seen = [max(lengths()) for _ in range(8)]

    assert max(seen) < 20_000


@pytest.mark.parametrize("kind", MIRRORS)
def test_mode_pull_in_an_image(kind: str, stack: Stack) -> None:
    """
    What is not here is asked of the agent, which finds no core: that is no 404.
    """
    with alone(kind, stack, "SOUP_AGENT_MODE=pull") as (name, url):
        within(
            30,
            lambda: asked(f"{url}/{'0' * 64}") in {502, 503, 504},
            lambda: docker("logs", name),
        )

        assert 404 == asked(f"{url}/nothing")
