"""What workers share while they run."""

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from soup.core.errors import Refused
from soup.settings import RUNTIME

METRICS = "PROMETHEUS_MULTIPROC_DIR"
SHARED = "/dev/shm"  # noqa: S108 - what is made there has a name of its own


@contextmanager
def runtime() -> Iterator[None]:
    """The folder that workers share while they run. They hear of it by the environment.

    To be entered before anything imports the metrics.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # until the parent listens
    try:
        folder = Path(tempfile.mkdtemp(prefix="soup-", dir=_memory()))
        (folder / "metrics").mkdir()
    except OSError as error:
        raise Refused(f"cannot make a temporary folder: {error.strerror}") from error
    os.environ[RUNTIME] = str(folder)
    os.environ[METRICS] = str(folder / "metrics")
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _memory() -> str | None:
    """Where files that processes map are best: on a disk that is full, whoever writes to one is killed.

    Whoever sets TMPDIR has said where.
    """
    return SHARED if "TMPDIR" not in os.environ and os.access(SHARED, os.W_OK | os.X_OK) else None
