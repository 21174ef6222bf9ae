"""Settings that change while soup runs (D10)."""

import time
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path

import structlog

from soup import logs
from soup.core.errors import Refused
from soup.settings import Settings, settings

TAKEN = frozenset({"auth", "cdn", "log", "serve", "upload"})  # sections that workers change in place
SETTLED = 0.1  # seconds for which a file must not have changed: editors and copies write in steps
LOOKS = 8  # after which it is read as it is

log = structlog.get_logger(__name__)


class Reload:
    """Reads settings anew when asked. `load` raises Refused; `file` is where they stand, if in a file.

    Nothing changes for a file that cannot be read, has a fault, is empty, or is still being written.
    """

    def __init__(self, load: Callable[[], Settings], file: Path | None) -> None:
        self._load, self._file = load, file
        self._seen: bytes | None = None
        self._looks = 0
        self.due: float | None = None

    def ask(self) -> None:
        """Somebody wants it. Whoever asks while it is under way is served by it."""
        if self.due is None:
            self._looks = 0
            self._look()

    def _look(self) -> None:
        self._looks += 1
        self._seen, self.due = self._read(), time.monotonic() + SETTLED

    def _read(self) -> bytes | None:
        try:
            return self._file.read_bytes() if self._file is not None else None
        except OSError:
            return None  # `load` says why

    def settled(self, now: Settings) -> Settings | None:
        """The settings from here on, once they are asked for and stand; None otherwise."""
        if self.due is None or time.monotonic() < self.due:
            return None
        if self._read() != self._seen and self._looks < LOOKS:
            self._look()
            return None
        self.due = None
        if self._seen is not None and not self._seen.strip():
            log.error("settings.refused", reason=f"{self._file} is empty")
            return None
        try:
            return _taken(now, self._load())
        except Refused as error:
            log.error("settings.refused", reason=str(error))  # noqa: TRY400 - the reason says it all
            return None


def _taken(now: Settings, found: Settings) -> Settings:
    taken, left = differences(now, found)
    new = now.model_copy(update={name: getattr(found, name) for name in TAKEN})
    logs.set_up(new.log.format, new.log.level)
    log.info("settings.reloaded", changed=taken)
    if left:
        log.warning("settings.restart_needed", settings=left)
    return new


def differences(now: Settings, found: Settings) -> tuple[list[str], list[str]]:
    """Which settings differ: those that are taken while soup runs, and those that need another start."""
    taken: list[str] = []
    left: list[str] = []
    for name in settings():
        if attrgetter(name)(now) != attrgetter(name)(found):
            (taken if name.partition(".")[0] in TAKEN else left).append(name)
    return taken, left
