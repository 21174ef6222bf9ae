"""`python -m bench.scale`: what many blobs, mirrors and requests would take, simulated from measured costs.

One worker's memory stands for all: nginx gives each a fair part of the same stream. `--measure` makes the
costs anew, on a PostgreSQL of our own; bench/scale.md says what follows.
"""

import argparse
import contextlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from random import Random

from bench.scale_stream import MOST, Remembered, Zipf, gathered

HIT = ("redirect.skewed", "redirect.sqlite")  # rows of the bench that tell what a redirect costs a worker
BLOBS, RATES, FLEETS = (10**7, 10**8, 10**9), (10**4, 10**5, 10**6), (100, 1000, 10_000, 30_000)
MONTH = 730 * 3600  # seconds


@dataclass(frozen=True, slots=True)
class Costs:
    """What was measured: us of a core, bytes. `pg_*` is PostgreSQL's part, the others a worker's.

    The first six by the recipe in bench/scale.md, which names the machine; the others by `--measure`.
    """

    hit: float = 40  # a redirect of a blob in mind
    proxied: float = 21  # nginx passing a request on
    cached: float = 15  # nginx answering itself
    stored: float = 90  # nginx passing on, and writing the answer to its cache: the least that was seen
    counted: float = 40  # nginx passing on, and counting for proxy_cache_min_uses
    answer: float = 779  # bytes of a 307 with two alternates
    query: float = 180  # a gathered query, whatever its size
    key: float = 8  # one digest more in it
    pg_query: float = 100
    pg_key: float = 10  # of five million, all in memory
    look: float = 45_000  # at 10,000 mirrors, a thirtieth of which have reported
    pg_look: float = 6000
    every: float = 150_000  # all 10,000 read again
    pg_every: float = 13_000
    tokens: float = 95_000  # all 10,000
    pg_tokens: float = 7000
    poll: float = 350  # one row: the feed's, the bell's
    pg_poll: float = 100
    report: float = 7000  # one that comes alone
    together: float = 790  # one among a hundred, PostgreSQL's part included (bench.reports)
    pg_report: float = 1400
    heard: float = 3  # a change that a worker hears of
    pg_heard: float = 1
    change: float = 13  # a change that a mirror reads, before it is JSON
    pg_change: float = 1.6
    row: float = 427  # of `blob` and `placement` with their indexes
    known: float = 112  # of `blob_known`, which lookups need
    double: float = 77  # of the unique index on the digest, which uploads need


@dataclass(frozen=True, slots=True)
class Load:
    """What is assumed. Prices are round figures in dollars, of no vendor."""

    exponent: float = 0.9
    mirrors: int = 10_000
    remembered: int = 1 << 18  # soup/app.py
    changes: float = 10  # of the feed, a second: a billion in three years
    rings: float = 2  # of the bell, a mirror and day: it leaves and comes back
    busy: float = 0.6  # of what a core can take that it is meant to be given
    trip: float = 300  # us to PostgreSQL and back
    front: float = 200_000  # requests/s for one nginx
    core_hour: float = 0.04
    ram_month: float = 3  # a GB
    disk_month: float = 0.1  # a GB
    traffic: float = 5  # a TB
    seed: int = 7


def hits(load: Load, blobs: int) -> float:
    """The share of requests that find their blob in mind, once a worker is warm."""
    zipf, dice, memory = Zipf(blobs, load.exponent), Random(load.seed).random, Remembered(load.remembered)  # noqa: S311
    asked = [memory.ask(zipf.draw(dice)) for _ in range(6 * load.remembered)]  # the first half to get warm
    return sum(asked[3 * load.remembered :]) / (3 * load.remembered)


def fleet(costs: Costs, load: Load, mirrors: int) -> dict[str, float]:
    """What mirrors cost each worker and PostgreSQL for it, and all together, in ms of a core a second."""
    many, rings, fed = mirrors / 10_000, mirrors * load.rings / 86_400, load.changes * mirrors
    anew = 0.1 + rings, 0.2 + rings  # how often a second all mirrors are read again, and all tokens
    own = many * (costs.look + anew[0] * costs.every + anew[1] * costs.tokens)
    served = many * (costs.pg_look + anew[0] * costs.pg_every + anew[1] * costs.pg_tokens)
    return {
        "mirrors": mirrors, "reports/s": mirrors / 30, "bells/s": rings,
        "audited every s": max(6, mirrors / 67),
        "ms a worker": (own + 4 * costs.poll + load.changes * costs.heard) / 1e3,
        "ms of PG for it": (served + 4 * costs.pg_poll + load.changes * costs.pg_heard) / 1e3,
        "feed rows/s": fed, "ms for them": fed * costs.change / 1e3,
        "ms of PG for them": fed * costs.pg_change / 1e3,
    }  # fmt: skip


def most(costs: Costs, load: Load, miss: float, own: float) -> float:
    """Requests/s that fill a worker with `own` us a second for mirrors: the more, the larger its queries."""
    alone, each = load.trip + costs.query + costs.pg_query, costs.key + costs.pg_key
    few, many = 1.0, 1e6 / costs.hit
    while many - few > 1:
        rate = (few + many) / 2
        left = 1 - rate * miss * each / 1e6
        batch = min(MOST, max(1.0, rate * miss * alone / 1e6 / left)) if left > 0 else MOST
        if rate * (costs.hit + miss * (costs.key + costs.query / batch)) + own > 1e6:  # noqa: PLR2004
            many = rate
        else:
            few = rate
    return few


def plan(costs: Costs, load: Load, blobs: int, rate: int, hit: float) -> dict[str, float]:
    """What it takes where this share of requests finds its blob in mind. Of PostgreSQL cores in use."""
    around, miss, workers, sent = fleet(costs, load, load.mirrors), max(1 - hit, 1e-9), 2, 0.0
    reports, filled = around["reports/s"], most(costs, load, miss, around["ms a worker"] * 1e3)
    for _ in range(3):
        sent = min(reports, 10 * workers)  # transactions: a worker writes ten times a second at most
        more = (sent * costs.report + reports * costs.together) / 1e6 + around["ms for them"] / 1e3
        workers = max(2, math.ceil((rate / filled + more) / load.busy))
    alone, each = load.trip + costs.query + costs.pg_query, costs.key + costs.pg_key
    batch = gathered(rate * miss / workers, alone / 1e6, each / 1e6, Random(load.seed))  # noqa: S311
    nginx, queries = rate * costs.proxied / 1e6 / load.busy, rate * miss / batch
    lookups = (rate * miss * costs.pg_key + queries * costs.pg_query) / 1e6
    pictures, written = workers * around["ms of PG for it"] / 1e3, sent * costs.pg_report / 1e6
    served = lookups + pictures + written + around["ms of PG for them"] / 1e3
    ram = 16 + workers * 0.2 + blobs * (costs.known + costs.double) / 1e9
    month = (workers + nginx + served / load.busy) * MONTH / 3600 * load.core_hour
    month += ram * load.ram_month + blobs * costs.row / 1e9 * load.disk_month
    return {
        "blobs": blobs, "requests/s": rate, "in mind %": 100 * hit, "workers": workers,
        "nginx cores": nginx, "lookups/s": rate * miss, "a query": batch, "queries/s": queries,
        "PG lookups": lookups, "PG pictures": pictures, "PG reports": written,
        "PG feed": around["ms of PG for them"] / 1e3, "connections": 15 * workers, "$ a month": month,
        "$ traffic": rate * costs.answer * MONTH / 1e12 * load.traffic,
    }  # fmt: skip


def kept(
    costs: Costs, load: Load, blobs: int, rate: int, *, seconds: float, uses: int = 1, variants: int = 1
) -> dict[str, float]:
    """What it means that nginx keeps a 307 for so many `seconds`, from the `uses`th request for it on.

    With `variants` each nginx keeps so many answers of a blob, and draws which it gives.
    """
    zipf, dice, fronts = Zipf(blobs, load.exponent), Random(load.seed).random, max(2, -(-rate // load.front))  # noqa: S311
    answers, asked, counts = dict[int, tuple[float, int]](), Counter[int](), Counter[int]()
    tally, late, warm = Counter[str](), 0, 2.0
    for number in range(round((warm + 1) * rate)):
        now = number / rate
        place = int(dice() * fronts * variants) + int(fronts * variants) * zipf.draw(dice)
        (birth, mirror), what = answers.get(place, (-1e9, 0)), "cached"
        if now - birth >= seconds:
            asked[place] += 1
            mirror, what = int(dice() * load.mirrors), "counted" if seconds else "proxied"
            if seconds and asked[place] >= uses:
                answers[place], what = (now, mirror), "stored"
        else:
            late += birth < warm <= now
        if now >= warm:
            tally[what] += 1
            counts[mirror] += 1
    mean, each = rate / load.mirrors, asdict(costs)
    chi = sum((counts[one] - mean) ** 2 for one in range(load.mirrors)) / mean / (load.mirrors - 1)
    return {
        "requests/s": rate, "kept s": seconds, "from request": uses, "answers": variants,
        "nginx answers %": 100 * tally["cached"] / rate, "most / mean": max(counts.values()) / mean,
        "chi2 / df": chi, "named on s": late / rate,
        "nginx cores": sum(tally[what] * each[what] for what in tally) / 1e6,
        "saved of workers": tally["cached"] * costs.hit / 1e6,
    }  # fmt: skip


def table(rows: Sequence[Mapping[str, float]]) -> str:
    """In Markdown."""
    lines = [list(rows[0]), ["--:"] * len(rows[0]), *(map(_figure, row.values()) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _figure(value: float) -> str:
    return f"{value:,.{0 if value >= 100 or value == int(value) else 1 if value >= 10 else 2}f}"  # noqa: PLR2004


def tables(costs: Costs, load: Load, blobs: Sequence[int], rates: Sequence[int]) -> Iterator[str]:
    """What there is to say, piece by piece."""
    found = {many: hits(load, many) for many in blobs}
    yield table([plan(costs, load, many, rate, hit) for many, hit in found.items() for rate in rates])
    sizes = {"blob_known GB": costs.known, "and digest GB": costs.known + costs.double, "all GB": costs.row}
    yield table(
        [{"blobs": many} | {name: many * size / 1e9 for name, size in sizes.items()} for many in blobs]
    )
    yield table([fleet(costs, load, mirrors) for mirrors in FLEETS])
    yield table([
        kept(costs, load, blobs[-1], rate, seconds=seconds, uses=uses, variants=variants)
        for rate in rates for seconds, uses, variants in ((0, 1, 1), (1, 1, 1), (1, 3, 1), (1, 3, 16))
    ])  # fmt: skip


def measured(results: Path) -> Costs:
    """The costs, with that of a redirect from the bench where it has been run."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(results.read_text())
        if cost := next(filter(None, (_cpu(found, name) for name in HIT)), None):
            return replace(Costs(), hit=cost)
    return Costs()


def _cpu(found: object, name: str, *, inside: bool = False) -> float | None:
    """The first figure of CPU time in the row of this name, wherever that is."""
    if isinstance(found, list):
        return next(filter(None, (_cpu(one, name, inside=inside) for one in found)), None)
    if not isinstance(found, dict):
        return None
    inside = inside or name in (found.get("row"), found.get("name"))
    for key, value in found.items():
        figure = value.get("median") if isinstance(value, dict) else value
        if inside and "cpu" in key and isinstance(figure, int | float) and figure > 0:
            return float(figure)
        if cost := _cpu(value, name, inside=inside or key == name):
            return cost
    return None


def main() -> None:
    """Print tables, or what they are made from."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--measure", type=int, nargs="+", metavar="BLOBS", help="costs, with so many")
    for field in fields(Load):
        name, kind = f"--{field.name.replace('_', '-')}", type(field.default)
        arguments.add_argument(name, type=kind, default=field.default, help="%(default)s")
    given = vars(arguments.parse_args())
    if sizes := given.pop("measure"):
        from bench.scale_costs import measure  # noqa: PLC0415 - the tables need the standard library only

        measure(sizes, given["mirrors"])
    else:
        costs = measured(Path(__file__).parent / "results" / "bench.json")
        for piece in tables(costs, Load(**given), BLOBS, RATES):
            print(piece, flush=True)


if __name__ == "__main__":
    main()
