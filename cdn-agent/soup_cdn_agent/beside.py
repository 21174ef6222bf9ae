"""The web server as a child of the agent: a container's first process may be the agent, and has one command.

Outside a container too it is started and ended with the agent. It is in a process group of its own, so that a
Ctrl-C reaches the agent alone, which says that it is leaving before the web server takes no more requests.
"""

import asyncio
import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from urllib.parse import urlsplit

import structlog

log = structlog.get_logger(__name__)

LISTENS = 5.0  # seconds in which it should listen: the first look comes after that, or it would find a fault
LOOK = 0.02
LAST = 1.0  # seconds after a TERM until it is killed, and after that until it is believed to be dead
SECRETS = "SOUP_AGENT_"  # what begins so is the agent's own
PORTS = {"https": 443, "http": 80}
_PDEATHSIG = 1


class WebServer:
    """A web server while it runs, and what it ended with; `ended` is called then.

    To be made by the main thread, before there are others. Raises OSError where it cannot be started.
    """

    def __init__(self, command: Sequence[str], stop: str, reload: str, ended: Callable[[], None]) -> None:
        self._over, self._told = asyncio.Event(), ended
        self._stop, self._reload = (signal.Signals[f"SIG{name}"] for name in (stop, reload))
        environment = {name: value for name, value in os.environ.items() if not name.startswith(SECRETS)}
        loop, parent = asyncio.get_running_loop(), os.getpid()
        prctl = ctypes.CDLL(None).prctl

        def die_with_the_agent() -> None:
            """Whoever kills the agent with KILL has ended both. The kernel counts the thread that forks."""
            prctl(_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(1)

        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        self._process = subprocess.Popen(  # noqa: S603 - the command is a setting
            command,
            stdin=subprocess.DEVNULL,
            env=environment,
            process_group=0,
            preexec_fn=die_with_the_agent,  # noqa: PLW1509 - there is one thread yet
        )
        loop.add_signal_handler(signal.SIGHUP, self._send, self._reload)
        log.info("web_server.started", pid=self._process.pid, command=list(command))

    @property
    def status(self) -> int:
        """What the agent is to end with, where this one has ended by itself: never 0."""
        code = self._process.returncode or 1
        return code if code > 0 else 128 - code

    async def listens(self, url: str, over: asyncio.Event) -> None:
        """Wait until it does, or all is over; for so long as one can wait for that."""
        place = urlsplit(url)
        with suppress(TimeoutError):
            async with asyncio.timeout(LISTENS):
                while not over.is_set():
                    try:
                        _, writer = await asyncio.open_connection(
                            place.hostname, place.port or PORTS[place.scheme]
                        )
                    except (OSError, ValueError):  # the latter for a port that is none
                        await asyncio.sleep(LOOK)
                    else:
                        writer.close()
                        return

    async def stop(self, seconds: float) -> None:
        """End it: gracefully within so many seconds, then not; and whatever it has left behind."""
        for how, wait in ((self._stop, seconds), (signal.SIGTERM, LAST), (signal.SIGKILL, LAST)):
            if not self._over.is_set():
                self._send(how)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._over.wait(), wait)
        self.kill()

    def kill(self) -> None:
        """End it and its own children at once."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _send(self, how: signal.Signals) -> None:
        if not self._over.is_set():
            self._process.send_signal(how)

    def _reap(self) -> None:
        """Learn that it has ended; and, as a container's first process, bury what others have left."""
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None:
                return
            if found.si_pid != self._process.pid:
                os.waitpid(found.si_pid, 0)
                continue
            self._process.wait()
            self._over.set()
            self._told()
