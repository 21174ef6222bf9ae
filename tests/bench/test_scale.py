"""The simulation of scale, without a server and in small numbers."""

import json
import struct
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from bench.scale import Costs, Load, fleet, hits, kept, measured, plan, table, tables
from bench.scale_stream import Remembered, Zipf, gathered, mixed
from soup.blobs.known import Known

SMALL = Load(remembered=5000, mirrors=100)


def test_a_memory_bigger_than_the_set() -> None:
    """
    A worker that can keep all blobs in mind asks for none of them twice.
    """
    assert hits(SMALL, 100) > 0.999


def test_more_blobs_are_less_often_in_mind() -> None:
    """
    The same memory is worth less the more blobs there are, and a larger one is worth more.
    """
    found = [hits(SMALL, blobs) for blobs in (10**4, 10**6, 10**9)]

    assert found == sorted(found, reverse=True)
    assert found[2] > 0
    assert hits(Load(remembered=10_000), 10**6) > found[1]


def test_it_remembers_as_soup_does() -> None:
    """
    The simulated memory and the real one know the same blobs at each step.
    """
    memory, real, zipf, dice = Remembered(50), Known(50), Zipf(1000, 0.9), Random(7).random
    for _ in range(5000):
        rank = zipf.draw(dice)
        raw = struct.pack("=I28s", mixed(rank), rank.to_bytes(28, "big"))
        known = real.get(raw) is not None
        if not known:
            real.put(raw, rank, 1)

        assert known == memory.ask(rank)


@pytest.mark.parametrize("exponent", [0.7, 1.0, 1.3])
def test_zipf(exponent: float) -> None:
    """
    Ranks come as often as the law says.
    """
    zipf, dice = Zipf(50, exponent), Random(7).random
    counts = Counter(zipf.draw(dice) for _ in range(50_000))
    whole = sum(rank**-exponent for rank in range(1, 51))

    assert {*range(1, 51)} == counts.keys()
    for rank in (1, 2, 10):
        assert counts[rank] / 50_000 == pytest.approx(rank**-exponent / whole, rel=0.1)


def test_busy_times_make_large_queries() -> None:
    """
    Where nearly nobody asks a query has one digest, and never more than soup puts into one.
    """
    few, some, very_many = (gathered(rate, 1e-3, 1e-5, Random(7), 200) for rate in (1.0, 1e4, 1e6))

    assert few < 1.1 < some < very_many <= 1000


def test_more_requests_take_more() -> None:
    """
    Workers, lookups and money grow with requests, and with what is not in mind.
    """
    plans = [
        plan(Costs(), Load(), 10**9, rate, hit) for rate, hit in ((10**4, 0.5), (10**6, 0.5), (10**6, 0.1))
    ]

    for name in ("workers", "lookups/s", "PG lookups", "$ a month"):
        assert plans[0][name] < plans[1][name] < plans[2][name]


def test_many_mirrors_are_asked_rarely() -> None:
    """
    The audit asks 67 mirrors a second at most.
    """
    assert [6, 6, 10_000 / 67] == [
        fleet(Costs(), Load(), many)["audited every s"] for many in (100, 400, 10_000)
    ]


def test_what_nginx_keeps_is_named_longer() -> None:
    """
    Without a cache nobody is sent to a mirror that is chosen no more, and all mirrors get as much; with one
    some are, and the hottest blob is one mirror's for a second. More answers of a blob spread it again.
    """
    asked, rate = Load(mirrors=100, exponent=1.1), 5000
    none, one, many = (
        kept(Costs(), asked, 10**6, rate, seconds=seconds, variants=variants)
        for seconds, variants in ((0, 1), (1, 1), (1, 16))
    )

    assert 0 == none["nginx answers %"] == none["named on s"]
    assert 0 < one["named on s"] < 1
    assert none["most / mean"] < many["most / mean"] < one["most / mean"]


def test_the_tables_have_their_rows() -> None:
    """
    A row for each number of blobs and of requests, and the same each time.
    """
    pieces = list(tables(Costs(), SMALL, [10**4, 10**5], [100, 1000]))

    assert [2 + 4, 2 + 2, 2 + 4, 2 + 8] == [len(piece.splitlines()) for piece in pieces]
    assert pieces == list(tables(Costs(), SMALL, [10**4, 10**5], [100, 1000]))


def test_figures() -> None:
    """
    Small ones have two decimals, large ones none.
    """
    assert "| a | b |\n| --: | --: |\n| 0.12 | 1,234 |\n| 12.3 | 2 |\n" == table(
        [{"a": 0.123, "b": 1234.5}, {"a": 12.34, "b": 2.0}]
    )


@pytest.mark.parametrize(
    "found",
    [
        {"rows": {"redirect.sqlite": {"cpu_us": 33}}},
        {"rows": [{"name": "redirect.sqlite", "ratio": 0.3, "cpu_us": 33}]},
        {"redirect.sqlite": {"cpu_us": 33}},
        {"figures": [{"row": "redirect.sqlite", "sides": {"soup": {"cpu_us": {"low": 30, "median": 33}}}}]},
    ],
)
def test_the_bench_knows_better(tmp_path: Path, found: object) -> None:
    """
    What the bench has measured on this machine stands in for the figure that came with the program.
    """
    (tmp_path / "bench.json").write_text(json.dumps(found))

    assert 33 == measured(tmp_path / "bench.json").hit


@pytest.mark.parametrize("text", ["", "[]", "7", '{"rows": 7}', '{"rows": [7]}', '{"redirect.sqlite": 7}'])
def test_no_bench(tmp_path: Path, text: str) -> None:
    """
    Without results, or with others than these, it goes by its own figures.
    """
    (tmp_path / "bench.json").write_text(text)

    assert Costs() == measured(tmp_path / "bench.json") == measured(tmp_path / "none.json")
