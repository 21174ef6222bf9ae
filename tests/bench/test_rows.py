"""The rows of the bench, and the table they make."""

import json
from pathlib import Path

import pytest

from bench import run, table
from bench.figures import Figure, Round
from bench.rows import BY_NAME, ROWS, wanted
from bench.servers import SETTINGS

MACHINE = {
    "cpu": "A core",
    "cores": 2,
    "system": "Linux",
    "python": "3.11",
    "nginx": "1.22",
    "postgresql": "15",
    "docker-registry": "2.8",
    "wrk": "4.1",
    "curl": "7.88",
    "loop_per_second": 20_000_000,
    "sha256_gb_per_second": 1.5,
    "fsync_per_second": 3000,
    "others": 0.0,
}


def figure(row: str, *values: float) -> Figure:
    sides = {"soup": [Round(25_000, 25_000, 1.0, 1.0)], "nginx": [Round(100_000, 100_000, 0.5, 1.0)]}
    return Figure(row, list(values), sides)


def test_every_row_is_measured() -> None:
    """
    Each row belongs to exactly one group, and no group measures what is not in the table.
    """
    assert sorted(BY_NAME) == sorted(row for rows in run.GROUPS.values() for row in rows)


def test_rows_by_name() -> None:
    """
    A name is a row or the beginning of several; none is all; what is not there is an error.
    """
    assert ["direct.4k", "direct.1m", "direct.1g"] == wanted(["direct"])
    assert [row.name for row in ROWS] == wanted([])
    with pytest.raises(ValueError, match="no row is called turnip"):
        wanted(["turnip"])


def test_lines() -> None:
    """
    A line is reached from below, or from above where less is better.
    """
    assert (True, False) == tuple(BY_NAME["redirect.sqlite"].reached(one) for one in (0.25, 0.24))
    assert (True, False) == tuple(BY_NAME["latency"].reached(one) for one in (3.0, 3.1))
    assert BY_NAME["workers"].reached(0.1) is None


def test_a_line_for_machines() -> None:
    """
    `ratio`, the name, the median; figures that are no ratio begin with their unit.
    """
    assert "ratio redirect.sqlite 0.31" == table.line(figure("redirect.sqlite", 0.2, 0.31, 0.9))
    assert "ms latency 1.50" == table.line(figure("latency", 1.5))


def test_the_table_is_made_from_json() -> None:
    """
    What is kept in bench.json says all that the table of the README needs.
    """
    kept = json.loads(
        json.dumps([figure("redirect.sqlite", 0.24, 0.24).plain(), figure("latency", 4).plain()])
    )
    lines = table.table(kept).splitlines()

    assert {7} == {line.count(" | ") + line.count("|---") for line in lines[1:2]}
    assert lines[2].startswith(
        "| 307, SQLite (`redirect.sqlite`) | nginx `return 307` | 25,000/s | 100,000/s |"
    )
    assert "**0.24** (0.24 to 0.24) below the line | 0.25, 0.4 | 40.0 µs |" in lines[2]
    assert "**4.00** ms above the line | at most 3, 1 |" in lines[3]


def test_who_waited_for_the_load() -> None:
    """
    A server that used less than nine tenths of its core was not what was measured.
    """
    soup, nginx = table.sides([figure("redirect.sqlite", 0.25).plain()]).splitlines()

    assert "core 100% busy" in soup
    assert "LOAD-BOUND" not in soup
    assert "LOAD-BOUND" in nginx


def test_the_foot() -> None:
    """
    It names every setting that is not the default, and a machine that was not quiet.
    """
    noted = figure("latency", 1.0).plain() | {"notes": ["a note"]}
    found = {"machine": MACHINE, "settings": SETTINGS, "rows": [noted, noted]}

    said = table.foot(found)

    assert "`cdn.silence_seconds: 86400`, `cdn.audit: off`" in said
    assert said.endswith("a note")
    assert "NOT QUIET" in table.foot(found | {"machine": MACHINE | {"others": 0.5}})


def test_the_page() -> None:
    """
    The table stands where the page has a place for it, as often as it is written; a page without one stays.
    """
    found = {"machine": MACHINE, "settings": SETTINGS, "rows": [figure("redirect.sqlite", 0.3).plain()]}
    page = f"# soup\n\n{table.BEGIN} made by a bench -->\nold\n{table.END}\n\nmore\n"

    once = table.shown_in(page, found)

    assert table.table(found["rows"]) in once
    assert "old" not in once
    assert once.startswith(f"# soup\n\n{table.BEGIN} made by a bench -->\n")
    assert once.endswith(f"{table.END}\n\nmore\n")
    assert once == table.shown_in(once, found)
    assert "# soup\n" == table.shown_in("# soup\n", found)


def test_the_readme_shows_what_was_measured() -> None:
    """
    Its table is the one of bench/results.
    """
    root = Path(__file__).parents[2]
    text = (root / "README.md").read_text()

    assert text == table.shown_in(text, json.loads((root / "bench/results/bench.json").read_text()))
