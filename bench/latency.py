"""The row of latency: at half of the greatest rate, with nginx at the same rate beside it."""

import json
import subprocess
import sys

from bench.figures import Figure, Round, Wrong
from bench.load import Meter
from bench.machine import LOAD_CORE
from bench.paced import WARM
from bench.redirects import found
from bench.servers import Server
from bench.stand import Stand

PERCENTILES = ("p50", "p99", "p999")


def measured(stand: Stand, rows: list[str]) -> list[Figure]:
    """p99 in milliseconds. What nginx has beside it is what the loader and the machine add."""
    soup, nginx, ask = stand.soup(), stand.nginx(), found(stand, stand.soup())
    ask()
    most = max(ask().rate for _ in range(3))
    rate = most / 2
    took: dict[str, list[dict[str, float]]] = {"soup": [], "nginx": []}
    rounds: dict[str, list[Round]] = {"soup": [], "nginx": []}
    for pair in range(stand.pairs + 1):
        for server in (soup, nginx):
            told, one = _paced(stand, server, rate)
            if pair:
                took[server.name].append(told)
                rounds[server.name].append(one)
    notes = [f"latency: at {rate:,.0f}/s, half of the greatest rate that was measured, {most:,.0f}/s"]
    for name, several in took.items():
        middle = {which: sorted(one[which] for one in several)[len(several) // 2] for which in PERCENTILES}
        told_of = ", ".join(f"{which} {figure:.2f} ms" for which, figure in middle.items())
        notes.append(f"latency: {name} {told_of}")
    values = [one["p99"] for one in took["soup"]]
    sides = {"soup, half": rounds["soup"], "nginx, as many": rounds["nginx"]}
    return [Figure(row, values, sides, notes) for row in rows]


def _paced(stand: Stand, server: Server, rate: float) -> tuple[dict[str, float], Round]:
    seconds = stand.seconds * 2
    command = ["taskset", "-c", LOAD_CORE, sys.executable, "-m", "bench.paced", "127.0.0.1", str(server.port)]
    command += [str(stand.deck().file), f"--rate={rate}", f"--seconds={seconds}"]
    meter = Meter(server)
    told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 60)
    if told.returncode:
        raise Wrong(f"{server.name}: {told.stderr[-500:]}")
    server.look()
    percentiles: dict[str, float] = json.loads(told.stdout)
    took = WARM + seconds
    return percentiles, meter.round(rate, rate * took, took)
