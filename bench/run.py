"""Rows are measured in groups that share their servers, one group after the other."""

import sys
from collections.abc import Callable, Mapping

from bench import bodies, growth, latency, redirects, uploads
from bench.figures import Figure, Wrong
from bench.stand import Stand

Measure = Callable[[Stand, list[str]], list[Figure]]

GROUPS: Mapping[Measure, tuple[str, ...]] = {
    redirects.sqlite: tuple(redirects.SQLITE),
    redirects.postgresql: tuple(redirects.POSTGRES),
    redirects.registry: tuple(redirects.REGISTRY),
    latency.measured: ("latency",),
    bodies.small: tuple(bodies.SMALL),
    bodies.large: bodies.LARGE,
    uploads.large: ("upload.1g",),
    uploads.small: ("upload.4k.sqlite", "upload.4k.postgres"),
    redirects.workers: tuple(redirects.WORKERS),
    growth.idle: ("memory.idle",),
    growth.many_blobs: ("growth.blobs",),
    growth.many_mirrors: ("growth.mirrors",),
    growth.start: ("start",),
    growth.load: ("memory.load",),
}


def measured(stand: Stand, rows: list[str], tell: Callable[[Figure], None]) -> None:
    """Measure these rows, and tell of each. Raises Wrong for a wrong answer."""
    for measure, names in GROUPS.items():
        if mine := [name for name in names if name in rows]:
            try:
                found = measure(stand, mine)
            finally:
                stand.clear()
            for figure in found:
                tell(figure)


def told(stand: Stand, rows: list[str], tell: Callable[[Figure], None]) -> int:
    """The same; the exit status."""
    try:
        measured(stand, rows, tell)
    except Wrong as error:
        aside(f"WRONG: {error}")
        return 1
    return 0


def aside(text: str) -> None:
    """Say something that is no figure."""
    print(text, file=sys.stderr, flush=True)
