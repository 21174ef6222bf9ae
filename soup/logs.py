"""One stream of events on standard error, soup's and its libraries' alike."""

import logging.config
import sys
from typing import Any

import structlog

QUIET = ("httpx", "apscheduler", "alembic", "aiosqlite", "sqlalchemy", "asyncio")

_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
]


def dictconfig(form: str, level: str) -> dict[str, Any]:
    """Logging for `logging.config.dictConfig`. `form` is json, console, or auto: console on a terminal."""
    console = form == "console" or (form == "auto" and sys.stderr.isatty())
    last = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if console
        else structlog.processors.JSONRenderer()
    )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "soup": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": _SHARED,
                "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
            }
        },
        "handlers": {
            "stderr": {"class": "logging.StreamHandler", "stream": "ext://sys.stderr", "formatter": "soup"}
        },
        "root": {"handlers": ["stderr"], "level": level.upper()},
        "loggers": {
            **{name: {"level": "WARNING"} for name in QUIET},
            "granian.access": {"level": "WARNING"},
        },
    }


def set_up(form: str, level: str) -> None:
    """Send everything that is logged in this process to standard error."""
    logging.config.dictConfig(dictconfig(form, level))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
