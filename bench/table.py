"""What was measured, in words: the lines of the quick bench, and the table of the whole one."""

from collections.abc import Mapping, Sequence
from typing import Any

from bench.figures import QUIET, Figure
from bench.rows import BY_NAME, Row

PROGRAMS = ("nginx", "postgresql", "docker-registry", "wrk", "curl")
BEGIN, END = "<!-- bench:", "<!-- end -->"
BUSY = 0.9  # of its core: a server that used less was waiting for the load


def line(figure: Figure) -> str:
    """For machines."""
    row = BY_NAME[figure.row]
    kind = "ratio" if row.unit in {"of", "x"} else row.unit
    return f"{kind} {figure.row} {figure.spread.median:.2f}"


def table(figures: Sequence[Mapping[str, Any]]) -> str:
    """The table of the README, in Markdown, from what `Figure.plain` says."""
    lines = [
        "| what | beside | soup | beside | ratio, quartiles | line, aim | soup's CPU |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [_line(BY_NAME[figure["row"]], figure) for figure in figures]
    return "\n".join(lines)


def _line(row: Row, figure: Mapping[str, Any]) -> str:
    sides = list(figure["sides"].items())
    rates = [_rate(side["rate"]["median"], figure["unit"]) for _, side in sides] + ["", ""]
    cost = f"{sides[0][1]['cpu_us']['median']:.1f} µs" if sides and figure["unit"] == "/s" else ""
    cells = [f"{row.work} (`{row.name}`)", row.against, rates[0], rates[1], _spread(row, figure)]
    return f"| {' | '.join([*cells, _wanted(row), cost])} |"


def _spread(row: Row, figure: Mapping[str, Any]) -> str:
    unit = "" if row.unit in {"of", "x"} else f" {row.unit}"
    low, median, high = (figure[name] for name in ("low", "median", "high"))
    text = f"**{median:.2f}**{unit}" + (f" ({low:.2f} to {high:.2f})" if len(figure["values"]) > 1 else "")
    missed = row.reached(median) is False
    return text + (" below the line" if missed and not row.lower else " above the line" if missed else "")


def _wanted(row: Row) -> str:
    sign = "at most " if row.lower else ""
    figures = [f"{figure:g}" for figure in (row.line, row.aim) if figure is not None]
    return sign + ", ".join(figures) if figures else ""


def _rate(rate: float, unit: str) -> str:
    return f"{rate:,.0f}{unit}" if rate >= 100 else f"{rate:.2f}{unit}"  # noqa: PLR2004 - three digits do


def sides(figures: Sequence[Mapping[str, Any]]) -> str:
    """Every side once, for a terminal: rate with quartiles, CPU for a request, how busy the server was."""
    seen: dict[str, str] = {}
    for figure in figures:
        for name, side in figure["sides"].items():
            rate, cost = side["rate"], side["cpu_us"]["median"]
            busy, others = side["busy"]["median"], side["others"]["median"]
            text = "{:<34} {:>14} ({} to {})".format(
                name, *(_rate(rate[which], figure["unit"]) for which in ("median", "low", "high"))
            )
            if figure["unit"] == "/s" and cost:
                text += f"  {cost:8.1f} us of CPU each, core {busy:.0%} busy"
                text += "  LOAD-BOUND" if busy < BUSY and others < QUIET else ""
            text += f"  NOT QUIET: {others:.0%} of a core went to others" if others >= QUIET else ""
            seen.setdefault(text, text)
    return "\n".join(seen)


def shown_in(text: str, found: Mapping[str, Any]) -> str:
    """A page with the table in it, where the page has a place for it."""
    before, begin, rest = text.partition(BEGIN)
    old, end, after = rest.partition(END)
    head, newline, _ = old.partition("\n")
    lines = foot(found).replace("\n", "  \n")  # Markdown's line breaks
    return (
        f"{before}{begin}{head}{newline}\n{table(found['rows'])}\n\n{lines}\n\n{end}{after}" if end else text
    )


def foot(found: Mapping[str, Any]) -> str:
    """What the table was made with."""
    machine, settings = found["machine"], found["settings"]
    notes = dict.fromkeys(note for one in found["rows"] for note in one["notes"])
    own = f"a loop of plain Python {machine['loop_per_second'] / 1e6:.1f} million turns/s"
    own += f", SHA-256 {machine['sha256_gb_per_second']:.2f} GB/s, fsync {machine['fsync_per_second']:,}/s"
    programs = ", ".join(f"{name} {machine[name]}" for name in PROGRAMS)
    given = ", ".join(f"`{_setting(name)}: {value}`" for name, value in settings.items())
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}; {own}.",
        f"Python {machine['python']}; {programs}. PostgreSQL has its own defaults.",
        f"Settings of soup that are not the defaults: {given}; port, data and database are the bench's.",
        *notes,
    ]
    if machine["others"] > QUIET:
        lines.append(f"NOT QUIET: others used {machine['others']} cores when it began.")
    return "\n".join(lines)


def _setting(name: str) -> str:
    return name.removeprefix("SOUP_").lower().replace("__", ".")
