"""How many answers there were, and how long they took."""

import asyncio
from bisect import bisect_left
from time import perf_counter

from soup import metrics

PAUSE = 0.1  # seconds after which counts are handed to the metrics
BOUNDS = metrics.BLOB_BOUNDS
ANSWERS = {307: "redirect", 200: "direct", 206: "direct", 304: "direct"}  # any other is refused


class Tally:
    """Counts answers of the blob path. A metric is a hundred times dearer, and is told ten times a second."""

    def __init__(self) -> None:
        self._rows: dict[int, list[float]] = {}  # by status: how many in each bucket of time, and their sum
        self._bytes = 0

    def count(self, status: int, began: float) -> None:
        """An answer has this status; its request began at this `perf_counter`."""
        seconds = perf_counter() - began
        try:
            row = self._rows[status]
        except KeyError:
            row = self._row(status)
        row[bisect_left(BOUNDS, seconds)] += 1
        row[-1] += seconds

    def sent(self, size: int) -> None:
        """The answer that was counted last has so many bytes of a blob."""
        self._bytes += size

    def _row(self, status: int) -> list[float]:
        if not self._rows:
            asyncio.get_running_loop().call_later(PAUSE, self.flush)
        return self._rows.setdefault(status, [0] * (len(BOUNDS) + 2))

    def flush(self) -> None:
        """Hand the counts of the last moment to the metrics."""
        rows, self._rows = self._rows, {}
        if self._bytes:
            metrics.BLOB_SENT_BYTES.inc(self._bytes)
            self._bytes = 0
        for status, (*counts, seconds) in rows.items():
            metrics.REQUESTS.labels(str(status)).inc(sum(counts))
            metrics.REQUEST_SECONDS.labels(ANSWERS.get(status, "refused")).add(counts, seconds)
