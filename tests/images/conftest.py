"""Images and compose.yaml in a Docker engine: `make test-images`."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.images.stack import OWN, STAND_INS, Stack, bases, docker

HERE = Path(__file__).parent
KEEP = "SOUP_TEST_KEEP_IMAGES"  # set, a next run finds what it builds on
BUILT = "soup, being built"  # the label of stages that no image has in it


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Collected only when this folder is asked for: `make test` is for machines without an engine too.

    What befalls a whole system takes as long as it takes: with --long.
    """
    if collection_path.name == "test_faults.py" and not (config.option.long or config.option.collectonly):
        return True
    asked = [Path(word.partition("::")[0]).absolute() for word in config.args]
    return None if any(path.is_relative_to(HERE) for path in asked) or config.option.collectonly else True


@pytest.fixture(scope="session")
def images() -> Iterator[dict[str, str]]:
    """What all images are built on. At the end there are those that there were before, and no other."""
    before = _images()
    began = time.monotonic()
    found = bases()
    print(f"\nbases: {time.monotonic() - began:.0f} s")
    yield found
    if not os.environ.get(KEEP):
        _forget(before)


@pytest.fixture(scope="session")
def stack(images: dict[str, str]) -> Iterator[Stack]:
    """compose.yaml after its first `up`, whose images did not exist. At the end nothing of it is left."""
    stack = Stack(images)
    try:
        began = time.monotonic()
        stack.compose("up", "-d", seconds=500)
        print(f"\nup, with all images built: {time.monotonic() - began:.0f} s")
        yield stack
    finally:
        stack.compose("down", "-v", "-t", "5")


def _images() -> list[str]:
    """All that could be this run's: ours, the stand-ins, and what is left of building."""
    ours = [f"--filter=reference={name}/*" for name in (f"{OWN}-*", STAND_INS)]
    named = docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", *ours).split()
    left = ("--filter=dangling=true", f"--filter=label=org.opencontainers.image.title={BUILT}")
    return [*sorted(named), *docker("image", "ls", "-q", *left).split()]


def _forget(before: list[str]) -> None:
    """Remove the images that this run has made, and no other."""
    for name in reversed([name for name in _images() if name not in before]):
        docker("image", "rm", name, seconds=120)
    assert set(_images()) <= set(before)
