"""The rows of the bench: what each measures, the line it has to reach, and what it aims at."""

from dataclasses import dataclass
from typing import Literal

Unit = Literal["of", "x", "ms", "s", "MB"]


@dataclass(frozen=True, slots=True)
class Row:
    """A figure and what is wanted of it.

    `unit` is `of` for a ratio to something beside it, `x` for a factor nobody has drawn a line for, or what
    it says. `line` must be reached and `aim` is wanted; `lower`: the less the better. `quick`: one of those
    of `make bench-quick`.
    """

    name: str
    work: str
    against: str
    line: float | None = None
    aim: float | None = None
    unit: Unit = "of"
    lower: bool = False
    quick: bool = False

    def reached(self, figure: float) -> bool | None:
        """Whether a figure reaches the line; None where there is none."""
        if self.line is None:
            return None
        return figure <= self.line if self.lower else figure >= self.line


ROWS = (
    Row("redirect.sqlite", "307, SQLite", "nginx `return 307`", 0.25, 0.40, quick=True),
    Row("redirect.skewed", "307, 90 % for 10 % of blobs", "nginx `return 307`", 0.30, 0.45, quick=True),
    Row("redirect.alternates", "307 with 2 alternates", "the same without any", 0.80, 0.90, quick=True),
    Row("notfound.sqlite", "404, SQLite", "its 307", 0.90, quick=True),
    Row(
        "redirect.postgres.cold",
        "307, PostgreSQL, each digest new",
        "nginx `return 307`",
        0.10,
        0.18,
        quick=True,
    ),
    Row("redirect.postgres.alone", "the same", "soup with a query for each request", 2.0),
    Row(
        "redirect.postgres.skewed",
        "307, PostgreSQL, 90 % for 10 % of blobs",
        "nginx `return 307`",
        0.24,
        0.40,
        quick=True,
    ),
    Row("notfound.postgres", "404, PostgreSQL", "its 307, each digest new", 0.90, quick=True),
    Row("registry", "307 of docker-registry, with its memory of blobs", "nginx `return 307`", unit="x"),
    Row("latency", "p99 of 307, SQLite, at half of the greatest rate", "", 3.0, 1.0, unit="ms", lower=True),
    Row("direct.4k", "200 of 4 KiB", "nginx, the same files", 0.40, 0.55, quick=True),
    Row("direct.1m", "200 of 1 MiB", "nginx, the same files", 0.80, 1.0, quick=True),
    Row("direct.1g", "200 of 1 GiB, one client", "nginx, the same file", 0.90, 1.0),
    Row("range", "206 of 64 MiB of it, four clients", "nginx, the same file", 0.90, 1.0),
    Row("upload.1g", "1 GiB kept, in time", "cp and fsync, then sha256sum", 1.25, 0.8, lower=True),
    Row("upload.4k.sqlite", "4 KiB kept, 32 clients, SQLite", "32 threads that write such files", 0.25, 0.50),
    Row(
        "upload.4k.postgres",
        "4 KiB kept, 32 clients, PostgreSQL",
        "32 threads that write such files",
        0.25,
        0.50,
    ),
    Row("workers", "307, SQLite, two workers", "one worker", unit="x"),
    Row("memory.idle", "a worker with 10,000,000 blobs, doing nothing", "", 110.0, unit="MB", lower=True),
    Row("growth.blobs", "307, 10,000,000 blobs", "1,000,000 blobs", 0.85, 0.95),
    Row("growth.mirrors", "307, 10,000 mirrors", "3 mirrors", 0.85, 0.95),
    Row(
        "start",
        "`soup serve` to its first answer, 10,000,000 blobs",
        "",
        4.0,
        2.5,
        unit="s",
        lower=True,
    ),
    Row("memory.load", "the most above idle in any row above", "", 25.0, unit="MB", lower=True),
)

BY_NAME = {row.name: row for row in ROWS}


def wanted(given: list[str]) -> list[str]:
    """The rows of these names, in the order of the table; `redirect` is all whose names begin so.

    Raises ValueError for what names no row.
    """
    for name in given:
        if not any(_named(row.name, name) for row in ROWS):
            raise ValueError(f"no row is called {name}; there are {', '.join(BY_NAME)}")
    return [row.name for row in ROWS if not given or any(_named(row.name, name) for name in given)]


def _named(row: str, name: str) -> bool:
    return row == name or row.startswith(f"{name}.")
