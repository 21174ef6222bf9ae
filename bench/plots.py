"""Plots for the README: SVG that reads on light and on dark ground, the same for the same figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from bench.rows import BY_NAME

INK, OURS, THEIRS = "#7a7f87", "#2f81d6", "#d6862f"  # each stands out on white and on black
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "soup",
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica", "Arial", "DejaVu Sans", "sans-serif"],
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
SWEEPS = {"blobs": "blobs in the database", "mirrors": "mirrors online"}


def drawn(folder: Path, figures: Sequence[Mapping[str, Any]], sweeps: Mapping[str, Any]) -> list[Path]:
    """Draw what there is; the files."""
    with mpl.rc_context(STYLE):
        files = [_ratios(folder / "ratios.svg", figures)]
        if all(sweeps.get(name) for name in SWEEPS):
            files.append(_growth(folder / "growth.svg", sweeps))
    return [file for file in files if file is not None]


def _ratios(file: Path, figures: Sequence[Mapping[str, Any]]) -> Path | None:
    """A bar for each ratio, with its quartiles, and a stroke for the line it must reach."""
    shown = [one for one in figures if BY_NAME[one["row"]].unit == "of"]
    if not shown:
        return None
    canvas = Canvas(figsize=(7.5, 0.8 + 0.32 * len(shown)), layout="constrained")
    axes = canvas.add_subplot()
    places = range(len(shown))
    middle = [one["median"] for one in shown]
    ends = [[one["median"] - one["low"] for one in shown], [one["high"] - one["median"] for one in shown]]
    axes.barh(places, middle, xerr=ends, height=0.62, color=OURS, ecolor=INK, capsize=2)
    for place, one in zip(places, shown, strict=True):
        row = BY_NAME[one["row"]]
        axes.annotate(f" {one['median']:.2f}", (max(one["high"], row.line or 0), place), va="center")
        if row.line is not None:
            axes.plot([row.line] * 2, [place - 0.38, place + 0.38], color=THEIRS, linewidth=2)
    lower = [one["row"] for one in shown if BY_NAME[one["row"]].lower]
    axes.set_yticks(places, [f"{one['row']}{' *' if one['row'] in lower else ''}" for one in shown])
    axes.invert_yaxis()
    axes.set_xlabel(
        "soup to what stands beside it; orange: the line" + ("; * less is better" if lower else "")
    )
    return _saved(canvas, file)


def _growth(file: Path, sweeps: Mapping[str, Sequence[Sequence[float]]]) -> Path:
    """What a redirect costs, by how much there is."""
    canvas = Canvas(figsize=(7.5, 2.6), layout="constrained")
    several: Sequence[Axes] = canvas.subplots(1, len(SWEEPS), sharey=True)
    for axes, (name, label) in zip(several, SWEEPS.items(), strict=True):
        axes.plot([one[0] for one in sweeps[name]], [one[1] for one in sweeps[name]], marker="o", color=OURS)
        axes.set_xscale("log")
        axes.minorticks_off()
        axes.set_xticks([one[0] for one in sweeps[name]], [_short(one[0]) for one in sweeps[name]])
        axes.set_xlabel(label)
        axes.set_ylim(0, 1.2 * max(one[1] for both in SWEEPS for one in sweeps[both]))
    several[0].set_ylabel("CPU of a redirect, µs")
    return _saved(canvas, file)


def _short(number: float) -> str:
    """10k, 10M."""
    for unit, name in ((1_000_000, "M"), (1000, "k")):
        if number >= unit:
            return f"{number / unit:g}{name}"
    return f"{number:g}"


def _saved(canvas: Canvas, file: Path) -> Path:
    canvas.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return file
