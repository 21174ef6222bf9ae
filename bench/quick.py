"""`make bench-quick`: the short rows of the bench in three minutes, a line each for machines.

soup and what stands beside it take turns of a second on one core, the load on another; each ratio is taken
within a turn. `python -m bench` is the whole of it.
"""

import argparse
import contextlib
import sys
import tempfile
from pathlib import Path

from bench import run
from bench.figures import Figure
from bench.machine import build, needed, settle
from bench.rows import BY_NAME, wanted
from bench.stand import Stand
from bench.table import line, sides


def main() -> int:
    """Print a line a row; the exit status is 1 where an answer was wrong."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("rows", nargs="*", help="names of rows, or how they begin; none: the short ones")
    arguments.add_argument("--blobs", type=int, default=1_000_000, help="blobs in the databases")
    arguments.add_argument("--pairs", type=int, default=5, help="turns that count")
    arguments.add_argument("--seconds", type=int, default=1, help="of each side in a turn")
    arguments.add_argument("--keep", type=Path, help="a folder for the databases, used again next time")
    given = arguments.parse_args()
    try:
        rows = wanted(given.rows or [name for name, row in BY_NAME.items() if row.quick])
    except ValueError as error:
        arguments.error(str(error))
    needed("nginx", "wrk", "taskset")
    settle()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soup-bench-")))
        folder.chmod(0o755)  # PostgreSQL is another user
        kept = given.keep.absolute() if given.keep else folder
        kept.mkdir(parents=True, exist_ok=True)
        print(f"python {build()}; {given.blobs} blobs, {given.pairs} pairs of {given.seconds} s", flush=True)
        stand = Stand(folder, kept, given.pairs, given.seconds, given.blobs, say=run.aside)
        figures: list[Figure] = []

        def tell(figure: Figure) -> None:
            figures.append(figure)
            print(line(figure), flush=True)

        status = run.told(stand, rows, tell)
        run.aside(sides([figure.plain() for figure in figures]))
        return status


if __name__ == "__main__":
    sys.exit(main())
