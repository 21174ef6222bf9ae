"""Every metric with its help text.

Workers keep their own counters and prometheus-client adds them up from files (`PROMETHEUS_MULTIPROC_DIR`,
which `soup serve` sets before anything imports this). The redirect counts in plain integers; `faces/front.py`
hands them on.
"""

import os
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

REQUESTS = Counter(
    "soup_blob_requests", "Requests for a blob by its digest, by status of the answer", ["status"]
)
API_REQUESTS = Counter(
    "soup_api_requests", "Requests for anything but a blob by its digest", ["method", "status"]
)
BLOB_SENT_BYTES = Counter("soup_blob_sent_bytes", "Bytes of blobs that soup sent itself")
BLOBS_RECEIVED = Counter(
    "soup_blobs_received", "Uploads that were kept, by whether the blob was new or known", ["result"]
)
BLOB_RECEIVED_BYTES = Counter("soup_blob_received_bytes", "Bytes of uploads that were kept")
BLOBS_MISSING = Counter(
    "soup_blobs_missing", "Answers that failed because the bytes were not where they should be"
)
REPORTS = Counter("soup_reports", "Reports of mirrors")
MIRRORS = Gauge(
    "soup_mirrors", "Mirrors, by whether all or those online", ["which"], multiprocess_mode="mostrecent"
)
DIRECT_BODIES = Gauge("soup_direct_bodies", "Bodies that are being sent now", multiprocess_mode="livesum")
ERRORS = Counter("soup_errors", "Requests that ended in an error nobody expected")
JOB_RUNS = Counter("soup_job_runs", "Runs of jobs, by name and whether they went well", ["job", "result"])


def exposition() -> bytes:
    """What Prometheus reads, of all workers together."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    _bury(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]))
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # it has no types
    return generate_latest(registry)


def _bury(folder: Path) -> None:
    """Forget what workers that were killed were doing; what they have done still counts."""
    for file in folder.glob("gauge_live*_*.db"):
        try:
            os.kill(int(file.stem.rpartition("_")[2]), 0)
        except ProcessLookupError:
            file.unlink(missing_ok=True)
