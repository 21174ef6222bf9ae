"""One stream of events on standard error: JSON, or lines for a person."""

import logging
import sys
import time
from collections.abc import MutableMapping
from typing import Any

import structlog

BURST = 20  # warnings of one name that are written at once
EACH = 60.0  # seconds until one more is: what fails for a week is not to fill a disk with saying so


class Seldom:
    """Leaves out warnings that come again and again, and says with the next how many those were."""

    def __init__(self) -> None:
        self._left: dict[
            str, tuple[float, float, int]
        ] = {}  # lines that may be written, at what time; left out

    def __call__(self, _logger: Any, level: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """The event, or DropEvent."""
        if level not in {"warning", "error"}:
            return event
        name, now = str(event["event"]), time.monotonic()
        may, then, unsaid = self._left.get(name, (float(BURST), now, 0))
        may = min(float(BURST), may + (now - then) / EACH)
        if may < 1:
            self._left[name] = may, now, unsaid + 1
            raise structlog.DropEvent
        self._left[name] = may - 1, now, 0
        if unsaid:
            event["unsaid"] = unsaid
        return event


def begin(form: str, level: str) -> None:
    """Log in this form (`auto`, `json`, `console`) from this level on."""
    console = form == "console" or (form == "auto" and sys.stderr.isatty())
    structlog.configure(
        processors=[
            Seldom(),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
