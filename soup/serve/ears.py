"""Signals, heard where it suits."""

import os
import select
import signal
import socket
from collections.abc import Iterable
from typing import Self


class Ears:
    """Hears signals one after the other, never in the middle of something, and forks so that none is lost."""

    def __init__(self, numbers: Iterable[signal.Signals]) -> None:
        self._numbers = list(numbers)

    def __enter__(self) -> Self:
        self._reading, self._writing = socket.socketpair()
        self._reading.settimeout(0)
        self._writing.settimeout(0)
        signal.set_wakeup_fd(self._writing.fileno(), warn_on_full_buffer=False)
        self._before = [signal.signal(number, lambda *_: None) for number in self._numbers]
        return self

    def __exit__(self, *_: object) -> None:
        self._deafen(self._before)

    def hear(self, seconds: float | None) -> list[int]:
        """The signals that have come, or that do within so many seconds; None waits for ever."""
        select.select([self._reading], [], [], seconds)
        try:
            return list(self._reading.recv(4096))
        except BlockingIOError:
            return []

    def fork(self) -> int:
        """As `os.fork`. In the child signals do what they do by default, once it lets them in: `admit`."""
        signal.pthread_sigmask(signal.SIG_BLOCK, self._numbers)
        pid = -1
        try:
            pid = os.fork()
        finally:
            if pid:
                self.admit()
        if not pid:
            self._deafen([signal.SIG_DFL] * len(self._numbers))
        return pid

    def admit(self) -> None:
        """Let in what has waited since the fork."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._numbers)

    def _deafen(self, instead: Iterable[object]) -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in zip(self._numbers, instead, strict=True):
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal has returned
        self._reading.close()
        self._writing.close()
