"""Every metric is explained, and moved."""

import asyncio
import re
import sqlite3
import threading
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Histogram
from prometheus_client.metrics import MetricWrapperBase
from sqlalchemy import text

from soup import metrics
from soup.core.errors import DatabaseDown, NoRoom, StoreDown
from soup.db.work import Database
from soup.stores.disk import Disk

ROOT = Path(__file__).parent.parent


def exposed() -> Iterator[str]:
    """Every metric as /metrics names it."""
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            for family in metric.describe():
                yield f"{family.name}_total" if family.type == "counter" else family.name


def test_every_metric_is_in_the_readme() -> None:
    """
    The table has a row for every metric, and none for one that is not there.
    """
    section = ROOT.joinpath("README.md").read_text().split("\n## Metrics\n")[1].split("\n## ")[0]

    assert sorted(exposed()) == sorted(re.findall(r"^\| `(\w+)` \| .+ \|$", section, re.MULTILINE))


def test_every_metric_is_moved() -> None:
    """
    A metric that no test moves may stand still for ever.
    """
    tests = "".join(file.read_text() for file in ROOT.joinpath("tests").rglob("*.py"))
    names = [name for name, metric in vars(metrics).items() if isinstance(metric, MetricWrapperBase)]

    told = zip(names, exposed(), strict=True)
    assert [] == [shown for name, shown in told if f"metrics.{name}" not in tests and shown not in tests]


def test_every_metric_has_a_help_text() -> None:
    """
    What it says, for people who do not know the code.
    """
    found = [one for one in vars(metrics).values() if isinstance(one, MetricWrapperBase)]

    assert [] == [family.name for one in found for family in one.describe() if len(family.documentation) < 10]


def test_gauges_of_the_dead() -> None:
    """
    Every gauge either is of live workers only, or holds when the worker that set it is gone.
    """
    modes = {one._multiprocess_mode for one in vars(metrics).values() if isinstance(one, metrics.Gauge)}

    assert {"livesum", "max", "mostrecent"} == modes


def test_a_tally_is_a_histogram() -> None:
    """
    What is tallied and handed over together is exposed as if each had been observed.
    """
    bounds, registries = metrics.BLOB_BOUNDS, [CollectorRegistry(), CollectorRegistry()]
    tallied = metrics.Tallied("soup_x", "As tallied", ["answer"], buckets=bounds, registry=registries[0])
    observed = Histogram("soup_x", "As tallied", ["answer"], buckets=bounds, registry=registries[1])
    seconds = [0.0, *bounds, *(bound * 1.5 for bound in bounds), 0.002, 0.002]
    counts = [0] * (len(bounds) + 1)
    for one in seconds:
        counts[bisect_left(bounds, one)] += 1
        observed.labels("redirect").observe(one)

    tallied.labels("redirect").add(counts, sum(seconds))

    (one,), (other,) = (list(registry.collect()) for registry in registries)
    assert "histogram" == one.type
    plain = [sample for sample in other.samples if not sample.name.endswith("_created")]
    assert [(sample.name, sample.labels) for sample in plain] == [
        (sample.name, sample.labels) for sample in one.samples if not sample.name.endswith("_created")
    ]
    values = [sample.value for sample in one.samples if not sample.name.endswith("_created")]
    assert [pytest.approx(sample.value) for sample in plain] == values


async def test_refused_by_a_full_disk() -> None:
    """
    What the kernel says counts as well.
    """
    disk, before = Disk(threads=1), sample("soup_refused_total", reason="full")
    with pytest.raises(NoRoom):
        await disk.run(Path("/dev/full").write_bytes, b"leek")
    with pytest.raises(StoreDown):
        await disk.run(Path("/no/such/file").read_bytes)
    disk.close()

    assert before + 1 == sample("soup_refused_total", reason="full")


def sample(name: str, **labels: str) -> float:
    """A metric of this process."""
    return REGISTRY.get_sample_value(name, labels) or 0


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("kind", ["timeout", "busy", "raced", "refused"])
async def test_errors_of_the_database(tmp_path, kind) -> None:
    """
    Each kind in its own count: late, held up by another, overtaken by another, and everything else.
    """
    before = sample("soup_database_errors_total", kind=kind)
    feed = "insert into feed (id, epoch, head, floor) values (1, 'x', 0, 0)"
    here = Database(f"sqlite:///{tmp_path / 'soup.db'}", patience=0.01)
    other = sqlite3.connect(tmp_path / "soup.db", isolation_level=None)
    if kind == "timeout":
        here.seconds = 0
    if kind == "raced":
        other.execute(feed)
    if kind == "busy":
        other.execute("begin immediate")

    with pytest.raises(DatabaseDown):
        await write(here, "select turnip" if kind == "refused" else feed)
    other.close()
    await here.close()

    assert before + 1 == sample("soup_database_errors_total", kind=kind)


async def write(database: Database, statement: str) -> None:
    """A transaction that takes at least a moment."""
    async with database.begin() as work:
        await asyncio.sleep(0.01)
        await work.session.execute(text(statement))


def test_a_file_that_was_just_made(tmp_path, monkeypatch) -> None:
    """
    A worker that starts makes its file and fills it a moment later; who asks between is told a moment later.
    """
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    young = tmp_path / "counter_7.db"
    young.touch()
    grown = threading.Timer(0.05, young.unlink)
    grown.start()

    assert b"" == metrics.exposition()

    grown.join()
