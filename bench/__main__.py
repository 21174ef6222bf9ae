"""`make bench`: every row of the bench, a table of them, and `bench/results/` with figures and plots.

soup and what stands beside it run on one core, the load on another, and take turns of a second; each ratio is
taken within a turn, and its median over all turns counts. `python -m bench redirect.sqlite direct` measures
these rows alone. The exit status is 1 where an answer was wrong; no figure is printed then.
"""

import argparse
import contextlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import growth, machine, plots, run, table
from bench.figures import Figure, Wrong
from bench.rows import BY_NAME, wanted
from bench.servers import SETTINGS
from bench.stand import Stand

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parents[1] / "README.md"


def main() -> int:
    """Print the table."""
    arguments = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    arguments.add_argument("rows", nargs="*", help="names of rows, or how they begin; none: all")
    arguments.add_argument("--keep", type=Path, help="a folder for the databases, used again next time")
    arguments.add_argument("--pairs", type=int, default=15, help="turns that count")
    arguments.add_argument("--seconds", type=int, default=1, help="of each side in a turn")
    arguments.add_argument("--blobs", type=int, default=1_000_000, help="blobs in the databases")
    arguments.add_argument("--many", type=int, default=10_000_000, help="blobs where there are many")
    arguments.add_argument("--mirrors", type=int, default=10_000, help="mirrors where there are many")
    arguments.add_argument("--results", type=Path, default=RESULTS, help="where figures and plots go")
    given = arguments.parse_args()
    try:
        rows = wanted(given.rows)
    except ValueError as error:
        arguments.error(str(error))
    machine.needed("nginx", "wrk", "taskset", "curl", "cc", "sha256sum")
    if "registry" in rows:
        machine.needed("docker-registry")
    machine.settle()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soup-bench-")))
        folder.chmod(0o755)  # PostgreSQL is another user
        kept = given.keep.absolute() if given.keep else folder
        kept.mkdir(parents=True, exist_ok=True)
        stand = Stand(folder, kept, given.pairs, given.seconds, given.blobs, given.many, given.mirrors)
        stand.say = run.aside
        return _run(stand, rows, given.results, whole=not given.rows)


def _run(stand: Stand, rows: list[str], results: Path, *, whole: bool) -> int:
    found: dict[str, Any] = {
        "machine": machine.described(stand.folder) | {"others": machine.others()},
        "settings": SETTINGS,
        "blobs": stand.blobs,
        "many": stand.many,
        "pairs": stand.pairs,
        "seconds": stand.seconds,
        "rows": [],
        "sweeps": {},
    }

    def tell(figure: Figure) -> None:
        found["rows"] = sorted([*found["rows"], figure.plain()], key=lambda one: rows.index(one["row"]))
        run.aside(table.line(figure))

    try:
        run.measured(stand, rows, tell)
        _print(found)
        if whole:
            found["sweeps"] = growth.sweeps(stand)
    except Wrong as error:
        run.aside(f"WRONG: {error}")
        return 1
    finally:
        stand.clear()
    _written(results, found)
    return 0


def _print(found: dict[str, Any]) -> None:
    for text in (table.table(found["rows"]), table.sides(found["rows"]), table.foot(found)):
        print(f"{text}\n", flush=True)


def _written(results: Path, found: dict[str, Any]) -> None:
    """Rows that were not measured now stay as they were, if it was on this machine."""
    results.mkdir(parents=True, exist_ok=True)
    file = results / "bench.json"
    if file.exists() and _same_machine(before := json.loads(file.read_text()), found):
        rows = {one["row"]: one for one in [*before["rows"], *found["rows"]]}
        if len(found["rows"]) < len(BY_NAME):
            rows.pop("memory.load", None)  # it is about all rows of one run
        found["rows"] = [rows[name] for name in BY_NAME if name in rows]
        found["sweeps"] = found["sweeps"] or before["sweeps"]
    file.write_text(json.dumps(found, indent=1) + "\n")
    plots.drawn(results, found["rows"], found["sweeps"])
    if results == RESULTS:
        README.write_text(table.shown_in(README.read_text(), found))


def _same_machine(one: dict[str, Any], other: dict[str, Any]) -> bool:
    told = ("cpu", "cores", "system", "python")
    return all(one["machine"][what] == other["machine"][what] for what in told) and all(
        one[what] == other[what] for what in ("blobs", "many")
    )


if __name__ == "__main__":
    sys.exit(main())
