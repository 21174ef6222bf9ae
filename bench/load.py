"""The load: wrk with requests that lie ready, and a thin checker beside it.

wrk says how many answers came and how many were no success; whether answers are right as a whole is looked at
by a client that asks some 50 times a second meanwhile. A wrong answer ends the bench.
"""

import contextlib
import http.client
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.blobs import Deck
from bench.figures import Round, Turn, Wrong
from bench.machine import LOAD_CORE, SERVER_CORE
from bench.processes import used
from bench.servers import Server

CONNECTIONS = 64
PAUSE = 0.02  # seconds between two questions of the checker
GUESS = 80_000  # more requests than soup answers in a second: nothing is asked for twice
MOST = 400_000  # requests that lie ready at once

GET = Path(__file__).with_name("get.lua")
PUT = Path(__file__).with_name("put.lua")


class Meter:
    """What a server used from here on, and what others did of both cores."""

    def __init__(self, server: Server) -> None:
        self._server, self._began = server, time.perf_counter()
        self._cpu, self._load = server.cpu(), _ours()
        self._cores = used(SERVER_CORE) + used(LOAD_CORE)

    def round(self, rate: float, asked: float, seconds: float) -> Round:
        """A round that has just ended: at so many a second it asked for so many, in so long."""
        cpu, passed = self._server.cpu() - self._cpu, time.perf_counter() - self._began
        cores = used(SERVER_CORE) + used(LOAD_CORE) - self._cores
        others = (cores - cpu - (_ours() - self._load)) / passed
        return Round(rate, asked, cpu, seconds, max(0.0, others))


def _ours() -> float:
    """Seconds of CPU that this process and the loads it has waited for have used."""
    return sum(os.times()[:4])


Check = Callable[[http.client.HTTPConnection], str]


@dataclass(frozen=True, slots=True)
class Wrk:
    """What wrk printed: answers a second and in all, how many were not 2xx or 3xx, and broken sockets."""

    rate: float
    answers: int
    refused: int
    errors: int

    @property
    def seconds(self) -> float:
        """How long it asked."""
        return self.answers / self.rate if self.rate else 0.0


def parsed(printed: str) -> Wrk:
    """Raises ValueError where it is nothing that wrk prints."""
    rate = re.search(r"^Requests/sec:\s*([\d.]+)", printed, re.MULTILINE)
    answers = re.search(r"^\s*(\d+) requests in ", printed, re.MULTILINE)
    if rate is None or answers is None:
        raise ValueError(f"wrk did not say how many: {printed[-500:]!r}")
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", printed)
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", printed)
    return Wrk(
        float(rate[1]),
        int(answers[1]),
        int(refused[1]) if refused else 0,
        sum(map(int, errors.groups())) if errors else 0,
    )


def wrk(server: Server, script: Path, given: list[str], seconds: int, connections: int = CONNECTIONS) -> Wrk:
    """Ask as fast as one core can. `script` is Lua, and `given` its arguments."""
    load = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), server.url, "--", *given]
    told = subprocess.run(
        ["taskset", "-c", LOAD_CORE, *load], capture_output=True, text=True, check=False, timeout=seconds + 60
    )
    if told.returncode:
        raise Wrong(f"wrk ended with {told.returncode}: {told.stderr[-500:]}")
    return parsed(told.stdout)


def load(script: Path, digests: list[str]) -> Path:
    """A script for wrk that asks for these in turn, and needs no arguments."""
    file = script.with_suffix(".txt")
    file.write_text("".join(f"{digest}\n" for digest in digests))
    script.with_suffix(".lua").write_text(
        f'dofile("{GET}")\nlocal fill = init\n'
        f'init = function() fill({{"{file}", 0, {len(digests)}, "/"}}) end\n'
    )
    return script.with_suffix(".lua")


def asking(
    server: Server, deck: Deck, seconds: int, check: Check, *, found: bool = True, prefix: str = "/"
) -> Turn:
    """A turn of GETs for the digests of a deck, all of them `found`, or none."""
    most = min(MOST, GUESS * seconds)
    needed = [most]

    def turn() -> Round:
        many = min(most, needed[-1])
        meter = Meter(server)
        with checking(server, check):
            told = wrk(server, GET, [str(deck.file), str(deck.place), str(many), prefix], seconds)
        spent = meter.round(told.rate, told.answers, told.seconds)
        deck.move(told.answers + CONNECTIONS)
        needed.append(3 * told.answers // 2 + CONNECTIONS)
        if told.errors or told.refused != (0 if found else told.answers):
            raise Wrong(
                f"{server.name}: of {told.answers} answers {told.refused} were refusals, {told.errors} errors"
            )
        return spent

    return turn


@contextlib.contextmanager
def checking(server: Server, check: Check, pause: float = PAUSE) -> Iterator[None]:
    """Ask beside the load, and look at the server's memory. Raises Wrong for the first wrong answer."""
    over, faults, checked = threading.Event(), list[str](), [0]

    def run() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        with contextlib.closing(connection):
            while not over.wait(pause):
                try:
                    fault = check(connection)
                except (OSError, http.client.HTTPException) as error:
                    fault = repr(error)
                if fault:
                    faults.append(fault)
                    return
                checked[0] += 1
                if checked[0] % 5 == 1:
                    server.look()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if faults:
        raise Wrong(f"{server.name}: {faults[0]}")
    if not checked[0]:
        raise Wrong(f"{server.name}: no answer was checked")
