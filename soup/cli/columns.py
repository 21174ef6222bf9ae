"""Rows as people read them."""

from collections.abc import Sequence

import rich_click as click


def show(rows: Sequence[Sequence[str]]) -> None:
    """Print rows, the first of which names the columns, each column as wide as it must be."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
