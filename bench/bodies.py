"""Rows of bytes that soup sends itself, beside nginx that sends the same files."""

import contextlib
import http.client
import sqlite3
import subprocess
import time
from pathlib import Path

from bench import blobs, checks, servers
from bench.blobs import LINE, MOMENT, Deck
from bench.figures import Figure, Round, Turn, Wrong, compared, interleaved
from bench.load import Check, Meter, asking, checking
from bench.machine import LOAD_CORE
from bench.servers import Server
from bench.stand import Stand
from soup.prepare import prepare
from soup.settings import Settings

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
SMALL = {"direct.4k": (10_000, 4 * KIB), "direct.1m": (64, MIB)}
LARGE = ("direct.1g", "range")
SPAN = 64 * MIB
CLIENTS, RANGES = 4, 4  # of curl at once, and of ranges that each asks for
SLOW = 0.2  # seconds between two questions beside large bodies
SLICE = 64 * KIB  # of a range, where answers are looked at


def small(stand: Stand, rows: list[str]) -> list[Figure]:
    """Many files of one size, by wrk."""
    figures = []
    for row in rows:
        many, size = SMALL[row]
        deck, soup, nginx = _served(stand, many, size)
        check = checks.whole(deck, stand.dice)
        turns = {server.name: asking(server, deck, stand.seconds, check) for server in (soup, nginx)}
        figures.append(compared(row, soup.name, nginx.name, interleaved(turns, stand.pairs)))
        stand.clear()
    return figures


def large(stand: Stand, rows: list[str]) -> list[Figure]:
    """One file of 1 GiB, by curl."""
    deck, soup, nginx = _served(stand, 1, GIB)
    digest = deck.draw(stand.dice)
    file = stand.folder / "data-1073741824" / "blobs" / digest[:3] / digest
    figures = []
    for row in rows:
        make = _whole if row == "direct.1g" else _ranges
        turns = {server.name: make(stand, server, file) for server in (soup, nginx)}
        rounds = interleaved(turns, stand.pairs)
        figures.append(compared(row, soup.name, nginx.name, rounds, unit=" GiB/s"))
    return figures


def _served(stand: Stand, many: int, size: int) -> tuple[Deck, Server, Server]:
    """A soup with no mirror, and nginx over its folder."""
    data = stand.folder / f"data-{size}"
    prepare(Settings.load({"SOUP_DATA": str(data)}))
    store = data / "blobs"
    raws = [blobs.file(store, size) for _ in range(many)]
    subprocess.run(["sync"], check=True)
    _rows(data / "soup.db", raws, size)
    deck = Deck(stand.folder / f"files-{size}", many)
    deck.file.write_text("".join(f"{raw.hex()}\n" for raw in raws))
    assert deck.file.stat().st_size == many * LINE  # noqa: S101 - what `Deck` is
    nginx = servers.nginx(stand.new("nginx"), servers.FILES % store, f"nginx, {_words(size)}")
    return (
        deck,
        stand.start(f"soup, {_words(size)}", data),
        stand.stack.enter_context(nginx),
    )


def _words(size: int) -> str:
    return (
        f"{size // GIB} GiB" if size >= GIB else f"{size // MIB} MiB" if size >= MIB else f"{size // KIB} KiB"
    )


def _rows(database: Path, raws: list[bytes], size: int) -> None:
    """What soup knows of these files: with placements, so the scrub reads them as it would."""
    with contextlib.closing(sqlite3.connect(database)) as handle:
        (store,) = handle.execute("select id from store").fetchone()
        handle.executemany(blobs.BLOB, ((raw, size, seq, MOMENT, MOMENT) for seq, raw in enumerate(raws, 1)))
        handle.execute("insert into placement (blob_id, store_id, state) select id, ?, 1 from blob", (store,))
        handle.execute("update feed set head = ?", (len(raws),))
        handle.commit()


def _whole(stand: Stand, server: Server, file: Path) -> Turn:
    def turn() -> Round:
        command = ["curl", "-sf", "-o", "/dev/null", f"{server.url}/{file.name}"]
        return _timed(server, [command], GIB, _slices(stand, file))

    return turn


def _ranges(stand: Stand, server: Server, file: Path) -> Turn:
    """Each client asks for one range after the other, on one connection."""

    def turn() -> Round:
        commands = []
        for _ in range(CLIENTS):
            command = ["curl"]
            for place in range(RANGES):
                first = stand.dice.randrange(GIB - SPAN)
                command += ["--next"] if place else []
                command += ["-sf", "-r", f"{first}-{first + SPAN - 1}", "-o", "/dev/null"]
                command.append(f"{server.url}/{file.name}")
            commands.append(command)
        return _timed(server, commands, CLIENTS * RANGES * SPAN, _slices(stand, file))

    return turn


def _timed(server: Server, commands: list[list[str]], size: int, check: Check) -> Round:
    """So many clients at once until the last has all; the rate is in GiB a second."""
    meter = Meter(server)
    with checking(server, check, SLOW):
        began = time.perf_counter()
        clients = [subprocess.Popen(["taskset", "-c", LOAD_CORE, *command]) for command in commands]
        failed = [status for client in clients if (status := client.wait(120))]
        took = time.perf_counter() - began
        spent = meter.round(size / GIB / took, size / GIB, took)
        time.sleep(max(0.0, 2 * SLOW - took))  # as long as the checker needs for one answer at least
    if failed:
        raise Wrong(f"{server.name}: curl ended with {failed[0]}")
    return spent


def _slices(stand: Stand, file: Path) -> Check:
    """206 with the very bytes of the file."""

    def check(connection: http.client.HTTPConnection) -> str:
        first = stand.dice.randrange(GIB - SLICE)
        connection.request("GET", f"/{file.name}", headers={"Range": f"bytes={first}-{first + SLICE - 1}"})
        answer = connection.getresponse()
        body = answer.read()
        with file.open("rb") as handle:
            handle.seek(first)
            right = answer.status == http.HTTPStatus.PARTIAL_CONTENT and body == handle.read(SLICE)
        return "" if right else f"range from {first}: {answer.status} with {len(body)} bytes"

    return check
