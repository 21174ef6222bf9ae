"""The parent of all workers."""

import gc
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from soup import metrics
from soup.core.errors import DatabaseDown, Refused, SoupError
from soup.serve.ears import Ears
from soup.serve.listener import Listener
from soup.serve.reload import Reload
from soup.settings import Settings

HEARD = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
YOUNG = 5.0  # a worker that ends within so many seconds after its start had a bad one
PAUSES = (0.0, 0.25, 1.0, 2.0, 5.0, 10.0)  # seconds before the next try, after so many bad starts in a row
PATIENCE = 3.0  # seconds the preparation may take before workers start, to say that they wait for it
GRACE = 2.0  # seconds a worker gets for its own end, beyond what answers get
AGAIN = os.EX_TEMPFAIL

log = structlog.get_logger(__name__)

Prepare = Callable[[Settings], None]
Work = Callable[[Listener, Settings, socket.socket, Callable[[], None], bool], int]


@dataclass(slots=True)
class Place:
    """Where a worker is to be, and who is there."""

    listener: Listener
    pid: int = 0
    line: socket.socket | None = None  # to the worker; it ends when it reads the end of it
    born: float = 0.0
    bad: int = 0  # starts in a row that came to nothing
    due: float = 0.0


class Parent:
    """Keeps a worker in every place until told to stop.

    `prepare` makes the data folder ready, in a process of its own; `work` is a worker's life, and returns its
    exit status; `reload` reads the settings anew.
    """

    def __init__(
        self,
        settings: Settings,
        listeners: Sequence[Listener],
        *,
        prepare: Prepare,
        work: Work,
        reload: Reload,
    ) -> None:
        self._settings, self._prepare, self._work, self._reload = settings, prepare, work, reload
        self._places = [Place(one) for one in listeners for _ in range(one.workers)]
        self._preparing = Place(Listener("", 0, 1))
        self._prepared = False
        self._began = time.monotonic()
        self._ends: float | None = None  # when whoever has not stopped by itself is made to
        self._refusal: str | None = None

    def run(self) -> None:
        """Until everybody has ended. Raises Refused where soup must not start."""
        gc.collect()
        gc.freeze()  # what is there now is shared with all workers until somebody writes to it
        with Ears(HEARD) as self._ears:
            while self._ends is None or self._living():
                self._start()
                for number in self._ears.hear(self._pause()):
                    self._obey(number)
                self._bury()
                self._reread()
                self._press()
        if self._refusal is not None:
            raise Refused(self._refusal)

    def _living(self) -> list[Place]:
        return [place for place in (self._preparing, *self._places) if place.pid]

    def _pause(self) -> float | None:
        """Seconds until something is due; None when nothing is but to listen."""
        if self._ends is not None:
            return max(0.0, self._ends - time.monotonic())
        moments = [place.due for place in self._places if not place.pid]
        if not self._prepared:
            moments = [self._began + PATIENCE] if not self._patient() else []
            moments += [self._preparing.due] if not self._preparing.pid else []
        if self._reload.due is not None:
            moments.append(self._reload.due)
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def _patient(self) -> bool:
        """Whether the preparation has been waited for long enough."""
        return time.monotonic() >= self._began + PATIENCE or self._preparing.bad > 0

    def _start(self) -> None:
        """Whoever should be there and is not."""
        if self._ends is not None:
            return
        now = time.monotonic()
        if not self._prepared and not self._preparing.pid and self._preparing.due <= now:
            self._fork(self._preparing, self._preparation)
        if self._prepared or self._patient():
            for place in self._places:
                if not place.pid and place.due <= now:
                    self._fork(place, self._worker)

    def _fork(self, place: Place, act: Callable[[Place, socket.socket], int]) -> None:
        ours, theirs = socket.socketpair()
        sys.stdout.flush()
        try:
            pid = self._ears.fork()
        except OSError as error:
            ours.close()
            theirs.close()
            place.due = time.monotonic() + PAUSES[-1]
            log.error("process.not_started", reason=str(error), next_in=PAUSES[-1])  # noqa: TRY400 - it says all
            return
        if pid:
            theirs.close()
            ours.settimeout(0)
            place.pid, place.line, place.born = pid, ours, time.monotonic()
            return
        status = os.EX_SOFTWARE
        try:
            ours.close()
            for other in self._living():
                if other.line is not None:
                    other.line.close()
            status = act(place, theirs)
        except BaseException:
            log.exception("process.failed")
        finally:
            sys.stdout.flush()
            logging.shutdown()
            os._exit(status)

    def _preparation(self, _: Place, line: socket.socket) -> int:
        self._ears.admit()
        threading.Thread(target=_end_with, args=[line], daemon=True).start()
        try:
            self._prepare(self._settings)
        except DatabaseDown as error:
            if not self._preparing.bad % 10:
                log.warning("database.waiting", reason=str(error))
            return AGAIN
        except SoupError as error:
            line.sendall(str(error).encode())
            return os.EX_CONFIG
        return os.EX_OK

    def _worker(self, place: Place, line: socket.socket) -> int:
        return self._work(place.listener, self._settings, line, self._ears.admit, self._prepared)

    def _obey(self, number: int) -> None:
        if number == signal.SIGHUP:
            self._reload.ask()
        elif number == signal.SIGINT and self._ends is not None:
            self._ends = 0.0  # whoever presses Ctrl-C twice means it
        elif number in {signal.SIGTERM, signal.SIGINT}:
            self._stop()

    def _stop(self) -> None:
        if self._ends is None:
            log.info("stopping", seconds=self._settings.server.stop_seconds)
            self._ends = time.monotonic() + self._settings.server.stop_seconds + GRACE
            self._signal(self._leaving(), signal.SIGTERM)

    def _leaving(self) -> list[Place]:
        """Who is to stop first: as long as the public is answered, health is told."""
        living = self._living()
        return [place for place in living if not place.listener.control] or living

    @staticmethod
    def _signal(places: Sequence[Place], number: signal.Signals) -> None:
        for place in places:
            os.kill(place.pid, number)

    def _press(self) -> None:
        """Time is over for those who are still there."""
        if self._ends is not None and time.monotonic() >= self._ends:
            if late := self._living():
                log.warning("stopping.killed", processes=[place.pid for place in late])
                self._signal(late, signal.SIGKILL)
            self._ends = time.monotonic() + GRACE

    def _bury(self) -> None:
        """Take note of those who have ended."""
        for pid, status in _ended():
            place = next((one for one in self._living() if one.pid == pid), None)
            if place is None:
                continue  # no child of ours: somebody started this process with children
            said = _rest(place.line)
            place.pid, place.line = 0, None
            if place is self._preparing:
                self._heard(status, said)
            elif self._ends is None:
                self._missed(place, pid, status)
        if self._ends is not None:
            self._signal([place for place in self._leaving() if place.listener.control], signal.SIGTERM)

    def _heard(self, status: int, said: str) -> None:
        """Of the preparation."""
        if status == os.EX_OK:
            self._prepared = True
            self._tell({"prepared": True})
        elif status == AGAIN or status < 0:  # down, or somebody has killed it
            self._preparing.bad += 1
            self._preparing.due = time.monotonic() + 1
        elif self._ends is None:
            self._refusal = said or f"the data folder could not be prepared: status {status}"
            self._stop()

    def _missed(self, place: Place, pid: int, status: int) -> None:
        """A worker that nobody has told to stop."""
        now = time.monotonic()
        place.bad = place.bad + 1 if now - place.born < YOUNG else 0
        pause = PAUSES[min(place.bad, len(PAUSES) - 1)]
        place.due = now + pause
        metrics.WORKER_RESTARTS.inc()
        how = signal.Signals(-status).name if status < 0 else f"status {status}"
        log.error("worker.ended", process=pid, how=how, next_in=pause)

    def _tell(self, order: dict[str, Any]) -> None:
        """Every worker there is; whoever comes later is told at birth."""
        line = json.dumps(order).encode() + b"\n"
        for place in self._places:
            if place.line is not None:
                try:
                    place.line.sendall(line)
                except OSError as error:
                    # It has not read for long, or is about to end; another hears everything at birth.
                    log.warning("worker.deaf", process=place.pid, reason=str(error))
                    os.kill(place.pid, signal.SIGKILL)

    def _reread(self) -> None:
        """Take settings that have changed; whoever is stopping does not."""
        found = self._reload.settled(self._settings) if self._ends is None else None
        if found is not None:
            self._settings = found
            self._tell({"settings": found.model_dump(mode="json")})


def _end_with(line: socket.socket) -> None:
    """A database may keep the preparation for long; nobody wants it any more when the parent is gone."""
    line.recv(1)
    os._exit(os.EX_SOFTWARE)


def _ended() -> Iterator[tuple[int, int]]:
    """Process id and exit status of each child that has ended; a signal's number below 0."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        yield pid, os.waitstatus_to_exitcode(status)


def _rest(line: socket.socket | None) -> str:
    """What a process that has ended said last."""
    if line is None:
        return ""
    with line:
        try:
            return line.recv(65_536).decode()
        except OSError:
            return ""
