"""`make bench-pick`: what a pick among 10,000 mirrors takes, as a ratio to one among 10 (D9).

Of the 10,000 half are behind, each at another place, and do not have the blob yet; a tenth says that it lacks
it. The rounds are interleaved, because a shared machine is never the same for long: compare ratios, not
figures.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random

from soup.core.digest import Digest
from soup.mirrors.model import Fqdn, Mirror, Report, Status, Terms
from soup.mirrors.policy import Picture, Rules, choose, pick, picture

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LEEK = Digest.of(b"leek")
RAW = LEEK.raw
HEAD = 10_000
DRAWS = 20_000  # in a round


def main() -> None:
    """Print a line a figure."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=25)
    given = arguments.parse_args()
    few, many = _drawn(10), _drawn(10_000, behind=5000, lacking=1000)
    for what, ask in (("pick", _pick), ("pick and two others", _choose)):
        pairs = [(_round(ask, few), _round(ask, many)) for _ in range(given.rounds)]
        for name, figures in zip(("10", "10,000"), zip(*pairs, strict=True), strict=True):
            print(f"{what} of {name}: {statistics.median(figures) * 1e6 / DRAWS:.2f} us")
        print(f"ratio {what}: {statistics.median(dear / cheap for cheap, dear in pairs):.2f}")


def _pick(seen: Picture, dice: Callable[[], float]) -> None:
    pick(seen, RAW, HEAD, 16_384, 1.0, dice)


def _choose(seen: Picture, dice: Callable[[], float]) -> None:
    choose(seen, RAW, HEAD, 16_384, 1.0, dice, 3)


def _drawn(mirrors: int, *, behind: int = 0, lacking: int = 0) -> Picture:
    dice, ids = Random(7), range(1, mirrors + 1)  # noqa: S311 - the same ones each time
    late, without = set(dice.sample(ids, behind)), set(dice.sample(ids, lacking))
    found = [_mirror(id, HEAD - 1 - id % HEAD if id in late else HEAD, lacks=id in without) for id in ids]
    return picture(found, dict.fromkeys(ids, 40.0), 0.0, Rules(), ("epoch", HEAD))


def _mirror(id: int, synced_to: int, *, lacks: bool) -> Mirror:
    lacking = frozenset([LEEK]) if lacks else frozenset[Digest]()
    said = Report(Status.OK, epoch="epoch", synced_to=synced_to, lacking=lacking)
    terms = Terms(Fqdn(f"mirror-{id}.example"), "https", 443)
    return Mirror(id, terms, NOON, said=said, last_seen=NOON)


def _round(ask: Callable[[Picture, Callable[[], float]], None], seen: Picture) -> float:
    dice = Random(7).random  # noqa: S311 - the same throws each time
    began = time.perf_counter()
    for _ in range(DRAWS):
        ask(seen, dice)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
