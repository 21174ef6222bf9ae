"""Rows of what grows: blobs, mirrors, the start, and memory; and how the cost of a redirect goes with it."""

import contextlib
import http.client
import statistics
import sys
import time
from collections.abc import Callable, Sequence

from bench import blobs
from bench.figures import Figure, Turn, Wrong, compared, interleaved
from bench.redirects import found
from bench.servers import PATIENCE, SETTINGS, Server, free_port, started
from bench.stand import Stand

BLOBS = (10_000, 100_000, 1_000_000, 10_000_000)
MIRRORS = (3, 30, 300, 3_000, 10_000)
MB = 1_000_000
STARTS = 5
ROUNDS = 5  # for each place of a sweep
Sweep = list[tuple[int, float]]


def many_blobs(stand: Stand, rows: list[str]) -> list[Figure]:
    """Two soups beside each other, one with ten times as many blobs."""
    turns: dict[str, Turn] = {}
    for size in (stand.many, stand.blobs):
        name = f"soup, {size:,} blobs"
        turns[name] = found(stand, stand.soup(name, size), stand.deck(size))
    return _beside(stand, rows, turns)


def many_mirrors(stand: Stand, rows: list[str]) -> list[Figure]:
    """Two soups beside each other, one with thousands of mirrors."""
    turns: dict[str, Turn] = {}
    for many in (stand.mirrors, 3):
        name = f"soup, {many:,} mirrors"
        turns[name] = found(stand, stand.soup(name, mirrors=many), mirrors=many)
    return _beside(stand, rows, turns)


def _beside(stand: Stand, rows: list[str], turns: dict[str, Turn]) -> list[Figure]:
    ours, theirs = turns
    rounds = interleaved(turns, stand.pairs)
    return [compared(row, ours, theirs, rounds) for row in rows]


def idle(stand: Stand, rows: list[str]) -> list[Figure]:
    """Anonymous memory of a worker that has just started, in MB."""
    figures = []
    for row in rows:
        soup = stand.soup(f"soup, {stand.many:,} blobs, idle", stand.many)
        figures.append(Figure(row, [soup.idle / MB]))
    return figures


def load(stand: Stand, rows: list[str]) -> list[Figure]:
    """What the memory of a worker grew by in any row before, in MB; with none before, under redirects."""
    if not stand.above:
        turn = found(stand, stand.soup("soup, memory", stand.many), stand.deck(stand.many))
        for _ in range(stand.pairs):
            turn()
        stand.clear()
    most = max(stand.above, key=lambda name: stand.above[name])
    listed = sorted(stand.above.items(), key=lambda one: -one[1])
    note = "memory.load: above idle " + "; ".join(f"{grown / MB:.0f} MB {name}" for name, grown in listed)
    return [Figure(row, [stand.above[most] / MB], notes=[note]) for row in rows]


def start(stand: Stand, rows: list[str]) -> list[Figure]:
    """Seconds from the start of the process to the first answer to a request for a blob."""
    data = stand.data(stand.many)
    blobs.mirrors(data / "soup.db", 3)
    digest = stand.deck(stand.many).draw(stand.dice)
    took = [_first(stand, str(data), digest) for _ in range(STARTS + 1)][1:]
    return [Figure(row, took) for row in rows]


def _first(stand: Stand, data: str, digest: str) -> float:
    port = free_port()
    environment = {"SOUP_DATA": data, "SOUP_SERVER__PORT": str(port), **SETTINGS}
    began = time.perf_counter()
    command = [sys.executable, "-m", "soup", "serve"]
    waiting = started(command, port, wait=False, log=stand.folder / "start.log", **environment)
    with waiting:
        while time.perf_counter() < began + PATIENCE:
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                connection.request("GET", f"/{digest}")
                if (status := connection.getresponse().status) == http.HTTPStatus.TEMPORARY_REDIRECT:
                    return time.perf_counter() - began
                if status != http.HTTPStatus.SERVICE_UNAVAILABLE:
                    raise Wrong(f"a soup that starts says {status}")
            time.sleep(0.01)
    raise Wrong("a soup did not start")


def sweeps(stand: Stand) -> dict[str, Sweep]:
    """CPU of soup for a redirect in microseconds, by how many blobs there are and by how many mirrors."""
    by_blobs = [
        (size, lambda size=size: (stand.soup(f"{size:,} blobs", size), stand.deck(size), 3))
        for size in BLOBS
        if size <= stand.many
    ]
    by_mirrors = [
        (many, lambda many=many: (stand.soup(f"{many:,} mirrors", mirrors=many), stand.deck(), many))
        for many in MIRRORS
        if many <= stand.mirrors
    ]
    return {"blobs": _sweep(stand, by_blobs), "mirrors": _sweep(stand, by_mirrors)}


def _sweep(stand: Stand, places: Sequence[tuple[int, Callable[[], tuple[Server, blobs.Deck, int]]]]) -> Sweep:
    """All at once, in turns: what differs then is not the moment."""
    turns: dict[str, Turn] = {}
    for place, make in places:
        server, deck, mirrors = make()
        turns[str(place)] = found(stand, server, deck, mirrors=mirrors)
    rounds = interleaved(turns, ROUNDS)
    stand.clear()
    return [(place, statistics.median(one.cost for one in rounds[str(place)])) for place, _ in places]
