"""A mirror that fills itself and its core: what that says, takes back, or gives where there is no room."""

import asyncio
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from soup_cdn_agent.pull import No

from tests.cdn_agent.spigot import HELD, PullMirror, Spigot, curl, parts, pull_mirror
from tests.conftest import sha256
from tests.wire import MIB, until

pytestmark = [pytest.mark.sqlite, pytest.mark.row("C10")]


@pytest.mark.parametrize(
    ("status", "told", "again"), [(404, 404, True), (410, 410, True), (500, 502, False), (403, 502, False)]
)
def test_what_the_core_says_is_passed_on(
    core: Spigot, mirror: PullMirror, status: int, told: int, *, again: bool
) -> None:
    """
    A blob that is not there or is blocked; a core in trouble, which is asked again a second later.
    """
    data = b"soup" * 100
    digest = core.keep(data)
    core.statuses[digest] = status, {}, b"<html>no</html>"

    answer = httpx.get(f"{mirror.url}/{digest}")
    assert told == answer.status_code
    assert "no-store" == answer.headers["cache-control"]
    assert "*" == answer.headers["access-control-allow-origin"]
    assert "etag" not in answer.headers
    assert ("retry-after" in answer.headers) == (told == 502)
    assert b"html" not in answer.content
    del core.statuses[digest]
    if not again:
        until(lambda: httpx.get(f"{mirror.url}/{digest}").status_code == 200)

    assert data == httpx.get(f"{mirror.url}/{digest}").content


@pytest.mark.parametrize(
    "sent", [{}, {"etag": '"portal"'}, {"content-encoding": "gzip"}], ids=["page", "other tag", "gzip"]
)
def test_a_page_that_wants_a_password_is_no_blob(core: Spigot, one: PullMirror, sent: dict[str, str]) -> None:
    """
    200 and HTML, as from a captive portal: a 502, and nothing kept.
    """
    digest = sha256(b"leek")
    core.statuses[digest] = 200, sent, b"<html>please log in</html>"

    answer = httpx.get(f"{one.url}/{digest}")

    assert (502, set()) == (answer.status_code, one.agent.files())


def test_a_core_that_is_busy_is_left_alone_for_as_long_as_it_wants(core: Spigot, one: PullMirror) -> None:
    """
    Its 503 with Retry-After is the client's, and that of all who come meanwhile; then it is asked again.
    """
    digest = core.keep(b"leek")
    core.statuses[digest] = 503, {"retry-after": "3"}, b""

    answer = httpx.get(f"{one.url}/{digest}")
    assert (503, "3") == (answer.status_code, answer.headers["retry-after"])
    del core.statuses[digest]
    time.sleep(1.2)
    answer = httpx.get(f"{one.url}/{digest}")
    assert 503 == answer.status_code
    assert answer.headers["retry-after"] in {"1", "2"}
    assert 1 == core.asked[digest]
    until(lambda: httpx.get(f"{one.url}/{digest}").content == b"leek")


async def test_a_core_that_wants_to_be_left_alone_for_long(core: Spigot, tmp_path: Path) -> None:
    """
    It may have come back long before: it is asked again after half a minute.
    """
    digest = core.keep(b"leek")
    core.statuses[digest] = 503, {"retry-after": "300"}, b""
    async with parts(tmp_path, core.url) as made:
        for _ in range(2):
            with pytest.raises(No) as caught:
                await made.pulls.coming(digest)
            assert 29 < caught.value.after <= 30
    assert 1 == core.asked[digest]


def test_nobody_goes_round_in_a_circle(core: Spigot, one: PullMirror, tmp_path: Path) -> None:
    """
    Somebody made a mirror the core of another: it is told so, and neither asks the other again.
    """
    digest = core.keep(b"leek")
    for sent in ({"user-agent": "soup-cdn-agent/9"}, {"via": "1.1 soup-cdn-agent"}):
        assert 508 == httpx.get(f"{one.url}/{digest}", headers=sent).status_code
    with pull_mirror(tmp_path / "second", one.url) as second:
        assert 502 == httpx.get(f"{second.url}/{digest}").status_code
    assert 0 == core.asked[digest]


def test_what_there_is_no_room_for_is_passed_through(core: Spigot, tmp_path: Path) -> None:
    """
    The whole, a part, and wrong bytes: all as if it were kept, but that nothing is. One place is enough.
    """
    data = os.urandom(3 * MIB)
    digest, wrong = core.keep(data), core.keep(data[1:], instead=data[:-1])
    with pull_mirror(tmp_path, core.url, reserve=1 << 60, pulls=1) as mirror:
        assert (0, data) == curl(f"{mirror.url}/{digest}")
        assert (0, data[7:77]) == curl(f"{mirror.url}/{digest}", "-r", "7-76")
        code, body = curl(f"{mirror.url}/{wrong}")

        assert code
        assert len(body) <= len(data) - 1 - HELD
        assert (set(), []) == (mirror.agent.files(), mirror.left())
        assert 3 == mirror.agent.metric("pull_passed_total")
        assert 1 == mirror.agent.metric("pull_wrong_total")
        until(lambda: mirror.agent.status()["status"] == 1)


def test_sizes_that_are_not_held_are_passed_through(core: Spigot, tmp_path: Path) -> None:
    """
    `smallest` and `largest` are of what is kept. One place is enough for the others.
    """
    small, large = core.keep(b"s"), core.keep(b"l" * 5000)
    with pull_mirror(tmp_path, core.url, smallest=100, largest=4000, pulls=1) as mirror:
        assert (0, b"s") == curl(f"{mirror.url}/{small}")
        assert (0, b"l" * 5000) == curl(f"{mirror.url}/{large}")
        assert set() == mirror.agent.files()


def test_more_blobs_at_once_than_are_fetched(core: Spigot, tmp_path: Path) -> None:
    """
    One too many gets a 503 and when to come again; of one that comes already there are never too many.
    """
    data = os.urandom(MIB)
    digest, other = core.keep(data, stop=MIB // 2), core.keep(b"leek")
    with pull_mirror(tmp_path, core.url, pulls=1) as mirror, ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(curl, f"{mirror.url}/{digest}") for _ in range(2)]
        until(lambda: mirror.agent.metric("pull_clients") == 2)

        answer = httpx.get(f"{mirror.url}/{other}")
        assert (503, "1") == (answer.status_code, answer.headers["retry-after"])
        core.taps[digest].open.set()
        assert [(0, data)] * 2 == [one.result() for one in asking]
        until(lambda: httpx.get(f"{mirror.url}/{other}").status_code == 200)


def test_deleted_while_it_comes(core: Spigot, mirror: PullMirror) -> None:
    """
    Who is about to get it does not, and it is not kept though a core that is behind still gives it.
    """
    data = os.urandom(4 * MIB)
    digest = core.keep(data, stop=2 * MIB)
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(curl, f"{mirror.url}/{digest}")
        until(lambda: mirror.agent.metric("pulled_bytes_total") >= MIB)
        core.gone.append(digest)
        code, body = asking.result()

    assert code
    assert len(body) < len(data)
    core.taps[digest].open.set()
    assert (0, data) == curl(f"{mirror.url}/{digest}")
    assert (set(), []) == (mirror.agent.files(), mirror.left())


async def test_deleted_twice_while_it_comes(core: Spigot, tmp_path: Path) -> None:
    """
    It is broken off once, and left in peace to close what it has opened.
    """
    digest = core.keep(os.urandom(MIB), stop=MIB // 2)
    async with parts(tmp_path, core.url, disk=2 * MIB) as made:
        pull = await made.pulls.coming(digest)
        _, task = made.pulls._going[digest]

        made.pulls.gone([digest])
        made.pulls.gone([digest])
        await task
        made.pulls.leave(pull)

        assert (1, -1) == (task.cancelling(), pull.fd)
        assert [] == [*made.folder.incoming.iterdir()]


async def test_work_with_an_open_file_is_waited_for(tmp_path: Path) -> None:
    """
    However often somebody wants to leave: the file's number may be another's as soon as it is closed.
    """
    over = threading.Event()
    async with parts(tmp_path) as made:
        working = asyncio.create_task(made.threads.through(over.wait, 10))
        for _ in range(3):
            await asyncio.sleep(0.05)
            working.cancel()
        await asyncio.sleep(0.05)
        assert not working.done()
        over.set()

        with pytest.raises(asyncio.CancelledError):
            await working


def test_a_list_that_is_read_anew_while_a_blob_comes(core: Spigot, mirror: PullMirror) -> None:
    """
    Another core, which has it not and will never say that it is gone: it is not kept.
    """
    data = os.urandom(4 * MIB)
    digest = core.keep(data, stop=2 * MIB)
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(curl, f"{mirror.url}/{digest}")
        until(lambda: mirror.agent.metric("pulled_bytes_total") >= MIB)
        core.has, core.epoch = set(), "other"
        code, body = asking.result()

    assert code
    assert len(body) < len(data)
    until(lambda: mirror.agent.metric("pull_clients") == 0)
    core.taps[digest].open.set()
    assert (set(), []) == (mirror.agent.files(), mirror.left())


@pytest.mark.parametrize("index", ["kept", "lost"])
def test_another_agent_over_the_same_folder(core: Spigot, tmp_path: Path, index: str) -> None:
    """
    It goes on with what is there: right files are taken in, wrong ones set aside, halves removed.
    """
    kept, alien, gone = core.keep(b"leek" * 100), b"by hand", b"gone"
    core.has = {kept, sha256(alien)}
    core.keep(alien)
    with pull_mirror(tmp_path, core.url) as mirror:
        assert 200 == httpx.get(f"{mirror.url}/{kept}").status_code
        until(lambda: mirror.agent.has(kept))
    blobs = tmp_path / "blobs"
    for data, name in ((alien, sha256(alien)), (gone, sha256(gone)), (b"rot", "f" * 64)):
        (blobs / name[:3]).mkdir(exist_ok=True)
        (blobs / name[:3] / name).write_bytes(data)
    (blobs / ".soup-cdn/incoming" / f"{'a' * 64}.new").write_bytes(b"half")
    if index == "lost":
        for path in (blobs / ".soup-cdn").glob("index.db*"):
            path.unlink()

    with pull_mirror(tmp_path, core.url) as mirror:
        until(lambda: mirror.agent.files() == {kept, sha256(alien)})
        until(lambda: mirror.agent.status()["status"] == 1)
        until(lambda: mirror.agent.metric("blobs") == 2)
        assert (0, b"leek" * 100) == curl(f"{mirror.url}/{kept}")
        assert [] == mirror.left()
        assert (blobs / ".soup-cdn/quarantine" / ("f" * 64)).exists()


def test_a_core_that_has_lost_its_memory_empties_no_mirror(core: Spigot, tmp_path: Path) -> None:
    """
    It says that it has none of many blobs that lie here: they stay, and that is said.
    """
    core.has = set()
    blobs = tmp_path / "blobs"
    for number in range(150):
        data = b"%d" % number
        (blobs / sha256(data)[:3]).mkdir(parents=True, exist_ok=True)
        (blobs / sha256(data)[:3] / sha256(data)).write_bytes(data)

    with pull_mirror(tmp_path, core.url) as mirror:
        until(lambda: "150 blobs here are unknown" in str(mirror.agent.status().get("message")), 20)
        assert 150 == len(mirror.agent.files())


def test_a_damaged_blob_comes_again(core: Spigot, tmp_path: Path) -> None:
    """
    The scrub finds it and takes it away; who asks next has it fetched.
    """
    data = os.urandom(100_000)
    digest = core.keep(data)
    with pull_mirror(tmp_path, core.url, scrub="1GiB") as mirror:
        curl(f"{mirror.url}/{digest}")
        until(lambda: mirror.agent.has(digest))
    (tmp_path / "blobs" / digest[:3] / digest).write_bytes(data[:-1] + b"x")
    with pull_mirror(tmp_path, core.url, scrub="1GiB") as mirror:
        until(lambda: mirror.agent.metric("damaged_total") == 1 and not mirror.agent.files())
        until(lambda: (mirror.agent.metric("blobs"), mirror.agent.metric("blobs_wanted")) == (0, 0))
        assert (0, data) == curl(f"{mirror.url}/{digest}")
