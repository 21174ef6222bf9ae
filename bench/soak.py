"""`make soak`: many uploads of mixed sizes at once, with an eye on the memory of the workers.

A real soup in a temporary folder takes the uploads from clients in processes of their own, which make their
bytes as they send them; then every blob is read back and hashed. All the while the anonymous memory of each
worker is looked at: it may grow with the number of clients, never with what they send. Leaves nothing behind.
"""

import argparse
import contextlib
import hashlib
import http.client
import json
import multiprocessing
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random

MIB, GIB = 1 << 20, 1 << 30
PIECE = 256 * 1024
SMALLEST = 1024
BLOCK = Random(7).randbytes(2 * PIECE)  # noqa: S311 - the same bytes each time are the point
TRIES = 5
CLIENT, WORKER = MIB, 64 * MIB  # what memory may grow by, for each client and for each worker


@dataclass
class Memory:
    """Anonymous memory of one worker, in bytes: before the first upload, at most, at the end."""

    pid: int
    start: int
    peak: int = 0
    end: int = 0

    def look(self) -> None:
        """Take a sample. A worker that is gone has none."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            self.end = anonymous(self.pid)
            self.peak = max(self.peak, self.end)


@dataclass(frozen=True)
class Outcome:
    """What became of one upload; `fault` is empty when all is well."""

    number: int
    size: int
    digest: str = ""
    fault: str = ""
    again: tuple[str, ...] = ()  # what soup said each time it asked to be tried again


def main() -> int:
    """Print the figures, then what is wrong."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--gib", type=float, default=20, help="how much in all")
    arguments.add_argument("--clients", type=int, default=200, help="how many at once")
    arguments.add_argument("--largest", type=float, default=1024, help="the largest blob, in MiB")
    arguments.add_argument(
        "--folder", type=Path, help="where to keep it meanwhile; else the temporary folder"
    )
    wanted = arguments.parse_args()
    jobs = sizes(round(wanted.gib * GIB), wanted.clients, round(wanted.largest * MIB))
    folder = Path(tempfile.mkdtemp(prefix="soup-soak-", dir=wanted.folder))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        room = shutil.disk_usage(folder).free - 2 * GIB
        if room < sum(jobs):
            return said([f"{folder} has no room for {wanted.gib:g} GiB"])
        with serving(folder) as (process, port):
            return said(soak(process, port, folder / "data", jobs, wanted.clients))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def said(faults: Sequence[str]) -> int:
    """Print what is wrong; the exit status."""
    for fault in faults:
        print(f"WRONG: {fault}", file=sys.stderr)
    print("soak failed" if faults else "soak passed")
    return 1 if faults else 0


def sizes(total: int, clients: int, largest: int) -> list[int]:
    """Sizes that come to `total`: one of the largest, none, one byte, and the rest as many small as large."""
    dice = Random(7)  # noqa: S311 - the same sizes each time
    found = [largest, 0, 1]
    while (left := total - sum(found)) > 0:
        if len(found) < clients:
            left = min(left, total // clients * 2)
        found.append(min(left, round(SMALLEST * (largest / SMALLEST) ** dice.random())))
    dice.shuffle(found)
    return found


def soak(
    process: subprocess.Popen[bytes], port: int, data: Path, jobs: Sequence[int], clients: int
) -> list[str]:
    """Send everything, read everything; what is wrong."""
    token = (data / "admin-token").read_text().strip()
    memories = [Memory(pid, anonymous(pid)) for pid in workers(process.pid)]
    print(f"{len(jobs)} uploads, {sum(jobs) / GIB:.2f} GiB, by {clients} clients to {len(memories)} workers")
    with watched(memories):
        began = time.monotonic()
        outcomes = shared(clients, send, [(port, token, number, size) for number, size in enumerate(jobs)])
        sent = time.monotonic()
        checked = shared(clients, check, [(port, outcome) for outcome in outcomes if not outcome.fault])
        read = time.monotonic()
    for memory in memories:
        start, peak, end = (round(figure / MIB) for figure in (memory.start, memory.peak, memory.end))
        print(f"worker {memory.pid}: start {start} MiB, peak {peak} MiB, end {end} MiB")
    for what, seconds in (("sent", sent - began), ("read back", read - sent)):
        print(f"{what}: {sum(jobs)} bytes in {seconds:.1f} s, {sum(jobs) / GIB / seconds:.3f} GiB/s")
    for why, times in Counter(why for outcome in outcomes for why in outcome.again).most_common():
        print(f"sent again {times} times: {why}")
    wrong = [outcome for outcome in [*outcomes, *checked] if outcome.fault]
    found = [f"upload {one.number} of {one.size} bytes: {one.fault}" for one in wrong]
    if sorted(workers(process.pid)) != sorted(memory.pid for memory in memories):
        found.append("a worker has died")
    return [*found, *grown(memories, clients)]


def grown(memories: Sequence[Memory], clients: int) -> list[str]:
    """Whether memory grew by more than it may."""
    bound = len(memories) * WORKER + clients * CLIENT
    growth = sum(memory.peak - memory.start for memory in memories)
    print(f"memory grew by {growth / MIB:.0f} MiB in all, {bound / MIB:.0f} MiB are allowed")
    return [] if growth <= bound else [f"memory grew by {growth} bytes, {bound} at most are allowed"]


def shared(clients: int, act, jobs: Sequence[tuple]) -> list[Outcome]:  # noqa: ANN001 - send or check
    """Do all the jobs, `clients` at once, in a few processes of many threads each."""
    processes = min(4, clients)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        parts = [
            pool.submit(crowd, act, jobs[first::processes], -(-(clients - first) // processes))
            for first in range(processes)
        ]
        return [outcome for part in parts for outcome in part.result()]


def crowd(act, jobs: Sequence[tuple], clients: int) -> list[Outcome]:  # noqa: ANN001 - send or check
    """Do these jobs in this process."""
    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(lambda job: act(*job), jobs))


def pieces(number: int, size: int) -> Iterator[bytes]:
    """The bytes of an upload, made as they are sent; no two pieces of all uploads are alike."""
    for place in range(0, size, PIECE):
        shift = (number * 7919 + place // PIECE * 104_729) % PIECE
        piece = struct.pack(">QQ", number, place) + BLOCK[shift : shift + PIECE - 16]
        yield piece[: size - place]


def hashed(sha: "hashlib._Hash", number: int, size: int) -> Iterator[bytes]:
    """The same, hashed on the way."""
    for piece in pieces(number, size):
        sha.update(piece)
        yield piece


def send(port: int, token: str, number: int, size: int) -> Outcome:
    """One upload, again when soup asks for it."""
    again: list[str] = []
    while len(again) < TRIES:
        sha = hashlib.sha256()
        headers = {"Authorization": f"Bearer {token}", "Content-Length": str(size)}
        try:
            with connected(port) as connection:
                connection.request("POST", "/api/blob", hashed(sha, number, size), headers)
                answer = connection.getresponse()
                told = json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            return Outcome(number, size, fault=f"{error!r}", again=tuple(again))
        if answer.status == http.HTTPStatus.SERVICE_UNAVAILABLE:
            again.append(told["detail"])
            time.sleep(1)
            continue
        right = answer.status in {200, 201} and (told["digest"], told["size"]) == (sha.hexdigest(), size)
        fault = "" if right else f"{answer.status} {told}, expected {sha.hexdigest()}"
        return Outcome(number, size, sha.hexdigest(), fault, tuple(again))
    return Outcome(number, size, fault=f"503 {TRIES} times", again=tuple(again))


def check(port: int, sent: Outcome) -> Outcome:
    """One blob, read back from soup itself and hashed."""
    sha, came = hashlib.sha256(), 0
    try:
        with connected(port) as connection:
            connection.request("GET", f"/{sent.digest}?direct=1")
            answer = connection.getresponse()
            while piece := answer.read(PIECE):
                sha.update(piece)
                came += len(piece)
    except (OSError, http.client.HTTPException) as error:
        return Outcome(sent.number, sent.size, fault=f"read back: {error!r}")
    right = (answer.status, came, sha.hexdigest()) == (200, sent.size, sent.digest)
    fault = "" if right else f"read back: {answer.status}, {came} bytes that hash to {sha.hexdigest()}"
    return Outcome(sent.number, sent.size, sent.digest, fault=fault)


@contextlib.contextmanager
def connected(port: int) -> Iterator[http.client.HTTPConnection]:
    """A connection for one request."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=600)) as connection:
        yield connection


@contextlib.contextmanager
def watched(memories: Sequence[Memory]) -> Iterator[None]:
    """Look at the workers several times a second."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            for memory in memories:
                memory.look()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def anonymous(pid: int) -> int:
    """Memory of a process that is not a file's, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "RssAnon":
            return int(value.split()[0]) * 1024
    raise ProcessLookupError(pid)  # a process that has ended and was not yet waited for


def workers(parent: int) -> list[int]:
    """The processes that answer."""
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


@contextlib.contextmanager
def serving(folder: Path, **more: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A soup with its settings as they are, but for where it is, and `more` of the environment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SOUP_")}
    environment |= {"SOUP_DATA": str(folder / "data"), "SOUP_SERVER__PORT": str(port)} | more
    log = folder / "soup.log"
    with log.open("wb") as written:
        process = subprocess.Popen(
            [sys.executable, "-m", "soup", "serve"], env=environment, stdout=written, stderr=written
        )
    try:
        until = time.monotonic() + 30
        while not ready(port):
            if process.poll() is not None or time.monotonic() > until:
                sys.exit(f"soup did not start:\n{log.read_text()}")
            time.sleep(0.1)
        yield process, port
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def ready(port: int) -> bool:
    """Whether soup answers."""
    try:
        with connected(port) as connection:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main())
