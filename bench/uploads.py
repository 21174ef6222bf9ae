"""Rows of uploads: blobs that are on disk when they are acknowledged."""

import contextlib
import hashlib
import http.client
import itertools
import json
import os
import subprocess
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.bodies import GIB, MIB
from bench.figures import Figure, Round, Turn, Wrong, compared, interleaved
from bench.load import PUT, Check, Meter, checking, wrk
from bench.machine import LOAD_CORE, SERVER_CORE
from bench.servers import Server
from bench.stand import Stand

CLIENTS = 32
SIZE = 4096
FOLDERS = 4096
MOST = 15_000  # uploads in a second that lie ready
PAUSE = 0.05  # seconds between two uploads of the checker
PROGRAM = Path(__file__).with_name("files.c")
ALONE = "32 threads"


def large(stand: Stand, rows: list[str]) -> list[Figure]:
    """1 GiB, in time: as a ratio of seconds, the less the better."""
    soup, file = stand.start("soup, uploads", stand.new("uploads")), stand.folder / "gib"
    with file.open("wb") as written:
        for _ in range(GIB // (4 * MIB)):
            written.write(os.urandom(4 * MIB))
    turns: dict[str, Turn] = {
        "soup, 1 GiB kept": lambda: _sent(soup, file),
        "cp, fsync, sha256sum": lambda: _copied(file),
    }
    ours, theirs = turns
    rounds = interleaved(turns, stand.pairs)
    values = [theirs.rate / ours.rate for ours, theirs in zip(rounds[ours], rounds[theirs], strict=True)]
    file.unlink()
    return [Figure(row, values, rounds, unit=" GiB/s") for row in rows]


def _new(file: Path) -> None:
    """Another blob: a few other bytes at its beginning, and nothing left to be written."""
    with file.open("r+b") as written:
        written.write(os.urandom(32))
    os.sync()


def _sent(soup: Server, file: Path) -> Round:
    _new(file)
    with file.open("rb") as read:
        digest = hashlib.file_digest(read, "sha256").hexdigest()
    meter = Meter(soup)
    command = ["curl", "-sf", "-T", str(file), "-H", f"Authorization: Bearer {soup.token}"]
    with checking(soup, _alive):
        began = time.perf_counter()
        told = subprocess.run(
            ["taskset", "-c", LOAD_CORE, *command, f"{soup.url}/api/blob"],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        took = time.perf_counter() - began
    if told.returncode or json.loads(told.stdout)["digest"] != digest:
        raise Wrong(f"an upload of 1 GiB: {told.returncode}, {told.stdout}")
    spent = meter.round(1 / took, 1, took)
    forget = urllib.request.Request(f"{soup.url}/api/blob/{digest}", method="DELETE")  # noqa: S310 - our own
    forget.add_header("Authorization", f"Bearer {soup.token}")
    urllib.request.urlopen(forget, timeout=30).close()  # noqa: S310
    return spent


def _alive(connection: http.client.HTTPConnection) -> str:
    """It answers others meanwhile."""
    connection.request("GET", "/healthz")
    answer = connection.getresponse()
    answer.read()
    return "" if answer.status == http.HTTPStatus.OK else f"health: {answer.status}"


def _copied(file: Path) -> Round:
    _new(file)
    copy = file.with_name("copy")
    began = time.perf_counter()
    for command in (["cp", str(file), str(copy)], ["sync", str(copy)], ["sha256sum", str(copy)]):
        subprocess.run(["taskset", "-c", SERVER_CORE, *command], check=True, stdout=subprocess.DEVNULL)
    took = time.perf_counter() - began
    copy.unlink()
    return Round(1 / took, 1, 0.0, took)


def small(stand: Stand, rows: list[str]) -> list[Figure]:
    """4 KiB each, all new, beside a program that does the same to the disk."""
    figures = []
    program = _compiled(stand.folder)
    for row in rows:
        settings = {}
        if row.endswith("postgres"):
            stand.postgres().drop("uploads")
            stand.postgres().create("uploads")
            settings["database"] = stand.postgres().url("uploads")
        name = f"soup, 4 KiB kept, {row.rpartition('.')[2]}"
        soup = stand.start(name, stand.new("uploads"), **settings)
        _settled(soup)
        numbers = itertools.count(0, 1_000_000)  # each round begins with another million
        turns: dict[str, Turn] = {
            name: lambda soup=soup, numbers=numbers: _kept(stand, soup, next(numbers)),
            ALONE: lambda: _alone(stand, program),
        }
        figures.append(compared(row, name, ALONE, interleaved(turns, stand.pairs)))
        stand.clear()
    return figures


def _compiled(folder: Path) -> Path:
    program = folder / "files"
    subprocess.run(["cc", "-O2", "-pthread", "-o", program, PROGRAM], check=True)
    return program


def _folders() -> dict[str, bytes]:
    """Bytes of a blob for each folder that a store has."""
    found: dict[str, bytes] = {}
    for number in itertools.count():
        body = b"leek %d" % number
        found.setdefault(hashlib.sha256(body).hexdigest()[:3], body)
        if len(found) == FOLDERS:
            return found
    raise AssertionError


def _settled(soup: Server) -> None:
    """Have it make its folders, which is done once and takes longer than what is measured."""

    def send(bodies: list[bytes]) -> None:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", soup.port, timeout=60)) as connection:
            for body in bodies:
                connection.request("PUT", "/api/blob", body, {"Authorization": f"Bearer {soup.token}"})
                answer = connection.getresponse()
                answer.read()
                if answer.status != http.HTTPStatus.CREATED:
                    raise Wrong(f"{soup.name}: {answer.status}")

    bodies = list(_folders().values())
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(send, [bodies[first::CLIENTS] for first in range(CLIENTS)]))


def _alone(stand: Stand, program: Path) -> Round:
    folder = stand.folder / "alone"
    if not folder.exists():
        for name in range(FOLDERS):
            (folder / f"{name:03x}").mkdir(parents=True)
        os.sync()
    command = [
        "taskset",
        "-c",
        SERVER_CORE,
        str(program),
        str(folder),
        str(CLIENTS),
        str(SIZE),
        str(stand.seconds),
    ]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    files, seconds, cpu = map(float, told.split())
    return Round(files / seconds, files, cpu, seconds)


def _kept(stand: Stand, soup: Server, first: int) -> Round:
    many = MOST * stand.seconds
    before, meter = _head(soup), Meter(soup)
    with checking(soup, _sent_and_read(soup), PAUSE):
        told = wrk(soup, PUT, [str(first), str(many), str(SIZE), soup.token], stand.seconds, CLIENTS)
    spent = meter.round(told.rate, told.answers, told.seconds)
    if told.errors or told.refused:
        raise Wrong(
            f"{soup.name}: of {told.answers} uploads {told.refused} were refused, {told.errors} errors"
        )
    if (kept := _head(soup) - before) < told.answers:
        raise Wrong(f"{soup.name}: {told.answers} uploads were acknowledged, {kept} are there")
    return spent


def _head(soup: Server) -> int:
    """The number of the last change: each new blob is one."""
    request = urllib.request.Request(f"{soup.url}/api/blob:list?limit=1")  # noqa: S310 - our own server
    request.add_header("Authorization", f"Bearer {soup.token}")
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return int(json.load(answer)["head"])


def _sent_and_read(soup: Server) -> Check:
    """201 with the digest of what was sent, and the same bytes when asked for."""

    def check(connection: http.client.HTTPConnection) -> str:
        body = os.urandom(SIZE)
        digest = hashlib.sha256(body).hexdigest()
        connection.request("PUT", "/api/blob", body, {"Authorization": f"Bearer {soup.token}"})
        answer = connection.getresponse()
        told = answer.read()
        if answer.status != http.HTTPStatus.CREATED or json.loads(told)["digest"] != digest:
            return f"an upload of {digest}: {answer.status} {told!r}"
        connection.request("GET", f"/{digest}?direct=1")
        answer = connection.getresponse()
        return "" if answer.read() == body else f"{digest} was acknowledged: {answer.status}"

    return check
