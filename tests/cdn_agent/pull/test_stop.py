"""The end of an agent in mode pull, while blobs are on their way through it."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.cdn_agent.spigot import WEB, Spigot, curl, pull_mirror
from tests.conftest import sha256
from tests.wire import MIB, until

pytestmark = [pytest.mark.sqlite, pytest.mark.row("C10")]

SLOW = ("--limit-rate", "4M")  # bytes a second; what this client is given is twice as much as buffers take


@pytest.mark.parametrize("kind", WEB)
@pytest.mark.parametrize("beside", [True, False], ids=["beside", "alone"])
def test_who_is_given_a_cold_blob_gets_all_of_it(
    core: Spigot, tmp_path: Path, kind: str, *, beside: bool
) -> None:
    """
    Told to stop in the middle of it, an agent fetches and gives the rest before it ends; so with two clients,
    one of whom is slower than the core.
    """
    digest = core.keep(os.urandom(8 * MIB), stop=2 * MIB)
    with (
        pull_mirror(tmp_path, core.url, kind, beside=beside) as mirror,
        ThreadPoolExecutor() as pool,
    ):
        until(mirror.web._listens)
        asking = [pool.submit(curl, f"{mirror.url}/{digest}", *words) for words in ((), SLOW)]
        until(lambda: mirror.agent.metric("pull_clients") == 2)
        mirror.agent.process.send_signal(signal.SIGTERM)
        until(lambda: mirror.agent.events("left"))
        assert mirror.agent.process.poll() is None
        core.taps[digest].open.set()
        got = [(code, sha256(body)) for code, body in (one.result() for one in asking)]

        assert [(0, digest)] * 2 == got
        assert 0 == mirror.agent.process.wait(15)
        assert 1 == core.asked[digest]


def test_nobody_is_waited_for_without_end(core: Spigot, tmp_path: Path) -> None:
    """
    A client whose blob does not come on is cut off, and knows it.
    """
    digest = core.keep(os.urandom(8 * MIB), stop=2 * MIB)
    with pull_mirror(tmp_path, core.url, stop_seconds=1) as mirror, ThreadPoolExecutor() as pool:
        asking = pool.submit(curl, f"{mirror.url}/{digest}")
        until(lambda: mirror.agent.metric("pull_clients") == 1)

        assert 0 == mirror.agent.stop()
        code, body = asking.result()
        assert code
        assert len(body) < 8 * MIB
