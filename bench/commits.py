"""How many blobs of 4 KiB a second are acknowledged durable, by how many clients send at once.

`python -m bench.commits`, with `--database postgresql://...` for another database than SQLite. Clients that
come together share a commit: with 32 of them the rate is several times that of one. Server and clients share
the machine's cores, so compare ratios, not figures.
"""

import argparse
import http.client
import os
import statistics
import tempfile
import threading
import time
from pathlib import Path

from bench.soak import serving

SIZE = 4096


def main() -> None:
    """Print a line a number of clients."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--seconds", type=float, default=4)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--database", default="", help="URL; empty: SQLite")
    given = arguments.parse_args()
    rates: dict[int, list[float]] = {1: [], 8: [], 32: []}
    with (
        tempfile.TemporaryDirectory(prefix="soup-bench-") as name,
        serving(Path(name), SOUP_DATABASE=given.database) as (_, port),
    ):
        token = (Path(name) / "data" / "admin-token").read_text().strip()
        for _ in range(given.rounds):
            for clients, figures in rates.items():
                figures.append(rate(port, token, clients, given.seconds))
    for clients, figures in rates.items():
        print(f"clients {clients} {statistics.median(figures):.0f}/s")
    ratio = statistics.median(many / one for many, one in zip(rates[32], rates[1], strict=True))
    print(f"ratio commits.32 {ratio:.1f}")


def rate(port: int, token: str, clients: int, seconds: float) -> float:
    """Blobs a second."""
    kept = [0] * clients
    until = time.monotonic() + seconds

    def send(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        headers = {"Authorization": f"Bearer {token}"}
        while time.monotonic() < until:
            connection.request("PUT", "/api/blob", os.urandom(SIZE), headers)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == http.HTTPStatus.CREATED, answer.status  # noqa: S101 - a figure of failures is none
            kept[number] += 1
        connection.close()

    threads = [threading.Thread(target=send, args=[number]) for number in range(clients)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(kept) / (time.monotonic() - began)


if __name__ == "__main__":
    main()
