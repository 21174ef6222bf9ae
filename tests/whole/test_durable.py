"""Acknowledged means durable: what the kernel is asked for before a client is told 201, and when (D5)."""

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Server, Servers, program, sha256

WRITES, SYNCS = "write writev pwrite64 pwritev sendto sendmsg", "fsync fdatasync"
NAMES, FOLDERS = "link linkat rename renameat renameat2", "mkdir mkdirat"
CALLS = ",".join(
    f"?{name}" for name in f"{WRITES} {SYNCS} {NAMES} {FOLDERS}".split()
)  # ?: if there is such a call
_LINE = re.compile(rb"(\d+) +(.*)")
_RESUMED = re.compile(rb"<\.\.\. \w+ resumed>(.*)")
_HEX = re.compile(rb"(?:\\x[0-9a-f]{2})+")


@dataclass
class Call:
    """A system call: its name and arguments, and the lines at which it began and ended."""

    text: bytes
    began: int
    ended: int

    @property
    def name(self) -> str:
        return self.text.partition(b"(")[0].decode()

    @property
    def good(self) -> bool:
        return not re.search(rb"= -1 E[A-Z]+ \(", self.text)

    def has(self, *parts: str | bytes) -> bool:
        return all((part.encode() if isinstance(part, str) else part) in self.text for part in parts)


def calls(trace: bytes) -> list[Call]:
    """A trace as calls, in the order in which they began; a call whose end stands elsewhere is made whole."""
    found: list[Call] = []
    open_calls: dict[bytes, Call] = {}
    for number, line in enumerate(trace.splitlines()):
        match = _LINE.fullmatch(line)
        assert match, line[:200]
        thread, text = match.groups()
        if resumed := _RESUMED.fullmatch(text):
            call = open_calls.pop(thread, None)
            if call:
                call.text, call.ended = call.text + resumed[1], number
        else:
            call = Call(text.removesuffix(b" <unfinished ...>"), number, number)
            if call.text != text:
                open_calls[thread] = call
            found.append(call)
    for call in found:
        call.text = _HEX.sub(lambda match: bytes.fromhex(match[0].replace(rb"\x", b"").decode()), call.text)
    return [call for call in found if call.good]


@contextmanager
def traced(server: Server, file: Path) -> Iterator[None]:
    """Every call of all threads of the worker, with all that is written, and with names for handles."""
    (worker,) = server.workers()
    command = [
        program("strace"),
        "-f",
        "-yy",
        "-xx",
        "-s",
        "1000000",
        "-e",
        f"trace={CALLS}",
        "-o",
        str(file),
    ]
    with subprocess.Popen([*command, "-p", str(worker)], stderr=subprocess.PIPE) as strace:
        assert strace.stderr
        said = strace.stderr.readline()
        assert b"attached" in said, said
        try:
            yield
        finally:
            strace.send_signal(signal.SIGINT)
            strace.stderr.read()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with one worker: whatever is done is done there."""
    servers = Servers(tmp_path_factory.mktemp("durable"))
    with servers.stack:
        yield servers(server__workers=1, blobs__swept_seconds=3600)


Sent = Callable[[bytes, int], list[Call]]


@pytest.fixture
def sent(alone: Server, tmp_path: Path) -> Sent:
    """Uploads a blob, and says what the kernel was asked for meanwhile."""

    def send(data: bytes, status: int) -> list[Call]:
        file = tmp_path / "trace"
        with traced(alone, file):
            answer = alone.client.put(f"/{sha256(data)}", content=data, headers=alone.admin)
            assert status == answer.status_code, answer.text
        return calls(file.read_bytes())

    return send


def one(found: list[Call], names: str, *parts: str | bytes, after: Call | None = None) -> Call:
    """The first call of one of these names with all these parts that began after another had ended."""
    start = after.ended if after else -1
    fitting = [
        call for call in found if call.name in names.split() and call.began > start and call.has(*parts)
    ]
    assert fitting, f"no {names} with {parts!r} after {after}"
    return fitting[0]


def in_order(found: list[Call], data: bytes, status: int) -> Call:
    """Assert that each step ended before the next began; what gave the file its name."""
    digest = sha256(data)
    folder, file = f"/blobs/{digest[:3]}", f"/blobs/{digest[:3]}/{digest}"
    writes = [call for call in found if call.name == "write" and call.has("/.spool/#")]
    parts = [re.search(rb', "(.*)", \d+\) += \d+$', call.text, re.DOTALL) for call in writes]
    assert data == b"".join(part[1] for part in parts if part), "the bytes are not all written"

    synced = one(found, SYNCS, "/.spool/#", after=writes[-1])
    named = one(found, NAMES, f'{file}"', after=synced)
    entered = one(found, "fsync", f"{folder}>", after=named)
    row = one(found, WRITES, "/soup.db-wal>", bytes.fromhex(digest), after=entered)
    committed = one(found, SYNCS, "/soup.db-wal>", after=row)
    answered = one(found, WRITES, "TCP:[", f"HTTP/1.1 {status} ", after=committed)

    assert [answered] == [call for call in found if call.has("TCP:[", "HTTP/1.1 2")], "answered before"
    rows = [call for call in found if call.has("/soup.db-wal>", bytes.fromhex(digest))]
    assert all(call.ended < answered.began for call in rows), "something was written after the answer"
    return named


@pytest.mark.sqlite
def test_a_new_blob(sent: Sent) -> None:
    """
    Bytes, fsync of the file, its name, fsync of the folder, commit of the row, and only then 201; a folder
    that is new is synced into its parent before that.
    """
    data = os.urandom(300_000)

    found = sent(data, 201)

    named = in_order(found, data, 201)
    made = one(found, FOLDERS, f'/blobs/{sha256(data)[:3]}"')
    assert one(found, "fsync", "/blobs>", after=made).ended < named.began


@pytest.mark.sqlite
def test_a_folder_that_is_there(sent: Sent) -> None:
    """
    A second blob in a folder is as durable as the first.
    """
    first = b"0"
    second = next(data for n in range(100_000) if sha256(data := b"%d" % n)[:3] == sha256(first)[:3] and n)
    sent(first, 201)

    in_order(sent(second, 201), second, 201)


@pytest.mark.sqlite
def test_a_blob_that_is_here(sent: Sent) -> None:
    """
    A second upload replaces the file, and is answered 200 when the new file is as durable as the old one was.
    """
    data = os.urandom(100_000)
    sent(data, 201)

    named = in_order(sent(data, 200), data, 200)

    assert "rename" in named.name


@pytest.mark.sqlite
def test_a_blob_that_comes_back(alone: Server, sent: Sent) -> None:
    """
    A gone blob that is sent again is as durable as a new one.
    """
    data = os.urandom(50_000)
    sent(data, 201)
    assert 204 == alone.client.delete(f"/api/blob/{sha256(data)}", headers=alone.admin).status_code

    in_order(sent(data, 201), data, 201)
