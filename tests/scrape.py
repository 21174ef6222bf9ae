"""What /metrics says."""

import time
from collections.abc import Callable

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Server


def scraped(server: Server) -> dict[str, float]:
    """Every sample of /metrics, by `name{label="value"}`."""
    samples: dict[str, float] = {}
    for family in text_string_to_metric_families(httpx.get(f"{server.url}/metrics").text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            samples[sample.name + (f"{{{labels}}}" if labels else "")] = sample.value
    return samples


def eventually(true: Callable[[], object], seconds: float = 10) -> None:
    """Wait for it. Not being answered, as by a worker that is being replaced, is not yet."""
    until = time.monotonic() + seconds
    while not _now(true):
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.05)


def _now(true: Callable[[], object]) -> object:
    try:
        return true()
    except httpx.TransportError:
        return False


def rise(server: Server, act: Callable[[], object], name: str) -> float:
    """By how much a metric goes up when this is done."""
    before = scraped(server).get(name, 0)

    act()

    return scraped(server).get(name, 0) - before
