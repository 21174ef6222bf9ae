"""Every metric with its help text.

Workers keep their own counters and prometheus-client adds them up from files (`PROMETHEUS_MULTIPROC_DIR`,
which `soup serve` sets before anything imports this). The redirect counts in plain integers; `faces/front.py`
hands them on.

A parent that has imported this keeps files as well, in which everything is 0: no gauge may be the least of
all workers'.
"""

import os
import struct
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector


class Tallied(Histogram):
    """A histogram that takes what was tallied elsewhere.

    `observe` costs some microseconds, and a redirect thirty. Only a Histogram is exposed as one and added up
    over workers, but it has no public way to take more than one observation: these two fields it has always
    had, and a test would notice.
    """

    def add(self, counts: Sequence[float], seconds: float) -> None:
        """Add how many came into each bucket (one more than the bounds), and their sum."""
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)
        self._sum.inc(seconds)


BLOB_BOUNDS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
BOUNDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
TRIES = 10
JOB_BOUNDS = (0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0)

BUILD = Gauge("soup_build_info", "1, under the version that runs", ["version"], multiprocess_mode="max")
STARTED = Gauge(
    "soup_start_time_seconds", "When a worker last started, in Unix time", multiprocess_mode="max"
)
WORKERS = Gauge(
    "soup_workers",
    "Workers, by whether all or those that reached the database when they last looked",
    ["which"],
    multiprocess_mode="livesum",
)
REQUESTS = Counter(
    "soup_blob_requests", "Requests for a blob by its digest, by status of the answer", ["status"]
)
REQUEST_SECONDS = Tallied(
    "soup_blob_request_seconds",
    "Time until the answer to a request for a blob began, by whether it was a redirect, direct or refused",
    ["answer"],
    buckets=BLOB_BOUNDS,
)
API_REQUESTS = Counter(
    "soup_api_requests", "Requests for anything but a blob by its digest", ["method", "status"]
)
API_SECONDS = Histogram(
    "soup_api_request_seconds",
    "Time until a request for anything but a blob was answered, but for long polls",
    ["method"],
    buckets=BOUNDS,
)
REFUSED = Counter(
    "soup_refused",
    "Requests refused for want of room, by what is short: slots, sync, uploads, keep_free, largest, or a full"
    " disk",
    ["reason"],
)
TOKENS_UNKNOWN = Counter("soup_tokens_unknown", "Requests with a token that nobody has, or no longer")
BLOB_SENT_BYTES = Counter("soup_blob_sent_bytes", "Bytes of blobs that soup sent itself")
BLOBS_RECEIVED = Counter(
    "soup_blobs_received", "Uploads that were kept, by whether the blob was new or known", ["result"]
)
BLOB_RECEIVED_BYTES = Counter("soup_blob_received_bytes", "Bytes of uploads that were kept")
UPLOADS = Gauge("soup_uploads", "Uploads that are under way now", multiprocess_mode="livesum")
COMMIT_SECONDS = Histogram(
    "soup_commit_seconds", "Time to write down uploads that came together", buckets=BOUNDS
)
LOOKUP_SECONDS = Histogram(
    "soup_lookup_seconds", "Time of one query that finds blobs, on PostgreSQL", buckets=BLOB_BOUNDS
)
DATABASE_ERRORS = Counter(
    "soup_database_errors",
    "Transactions and queries that failed, by kind: timeout, refused, busy (others were writing) or"
    " raced (another was faster)",
    ["kind"],
)
BLOBS = Gauge("soup_blobs", "Blobs that are present, counted now and then", multiprocess_mode="mostrecent")
BLOB_BYTES = Gauge(
    "soup_blob_bytes", "Bytes of blobs that are present, counted now and then", multiprocess_mode="mostrecent"
)
BLOBS_MISSING = Counter(
    "soup_blobs_missing", "Answers that failed because the bytes were not where they should be"
)
STORE_BYTES = Gauge(
    "soup_store_bytes",
    "Room on the disk of the store, by whether all, what is free, or what is to be kept free",
    ["which"],
    multiprocess_mode="mostrecent",
)
FEED_HEAD = Gauge("soup_feed_head", "Number of the last change in the feed", multiprocess_mode="mostrecent")
POLLS = Gauge("soup_polls", "Long polls of the feed that wait now", multiprocess_mode="livesum")
BLOBS_DAMAGED = Counter(
    "soup_blobs_damaged",
    "Blobs that were found to be missing or to have other bytes, by the scrub or by an answer",
)
BLOBS_REPAIRED = Counter("soup_blobs_repaired", "Damaged blobs that were put right from a mirror")
REPORTS = Counter("soup_reports", "Reports of mirrors")
MIRRORS = Gauge(
    "soup_mirrors",
    "Mirrors, by whether all, those online, or those that are doubted",
    ["which"],
    multiprocess_mode="mostrecent",
)
MIRROR_BYTES = Counter(
    "soup_mirror_delivered_bytes", "Bytes that mirrors have delivered, as they report it, by id", ["mirror"]
)
MIRROR_REQUESTS = Counter(
    "soup_mirror_delivered_requests",
    "Requests that mirrors have answered, as they report it, by id",
    ["mirror"],
)
JOINS = Counter(
    "soup_joins",
    "Requests of mirrors to join, by what came of it: new, again (it had joined before) or refused",
    ["result"],
)
AUDITS = Counter(
    "soup_audits",
    "Mirrors asked from outside for a blob, by what came of it: passed, wrong (another answer), silent (none)"
    " or void (it says nothing of the mirror)",
    ["result"],
)
DIRECT_BODIES = Gauge("soup_direct_bodies", "Bodies that are being sent now", multiprocess_mode="livesum")
ERRORS = Counter("soup_errors", "Requests that ended in an error nobody expected")
LEASE_HELD = Gauge("soup_lease_held", "1 where a worker here runs the jobs", multiprocess_mode="livesum")
JOB_RUNS = Counter("soup_job_runs", "Runs of jobs, by name and whether they went well", ["job", "result"])
JOB_SECONDS = Histogram("soup_job_seconds", "Time a job took, by name", ["job"], buckets=JOB_BOUNDS)
JOB_SUCCESS = Gauge(
    "soup_job_success_time_seconds",
    "When a job last went well here, in Unix time",
    ["job"],
    multiprocess_mode="max",
)
WORKER_RESTARTS = Counter("soup_worker_restarts", "Workers that ended by themselves and were replaced")


def begin(version: str) -> None:
    """A worker has started. What one may want an alarm for is there at once: it sees a rise from 0 only."""
    BUILD.labels(version).set(1)
    STARTED.set(time.time())
    WORKERS.labels("all").set(1)
    for reason in ("slots", "sync", "uploads", "keep_free", "largest", "full"):
        REFUSED.labels(reason)
    for kind in ("timeout", "refused", "busy", "raced"):
        DATABASE_ERRORS.labels(kind)
    for result in ("passed", "wrong", "silent", "void"):
        AUDITS.labels(result)
    for result in ("new", "again", "refused"):
        JOINS.labels(result)


def exposition() -> bytes:
    """What Prometheus reads, of all workers together."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    _bury(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]))
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # it has no types
    for _ in range(TRIES):
        with suppress(
            struct.error
        ):  # a worker that has just started has made a file, and written nothing yet
            return generate_latest(registry)
        time.sleep(0.02)
    return generate_latest(registry)


def _bury(folder: Path) -> None:
    """Forget what workers that were killed were doing; what they have done still counts."""
    for file in folder.glob("gauge_live*_*.db"):
        try:
            os.kill(int(file.stem.rpartition("_")[2]), 0)
        except (ProcessLookupError, PermissionError):  # nobody, or somebody else's process by now
            file.unlink(missing_ok=True)
