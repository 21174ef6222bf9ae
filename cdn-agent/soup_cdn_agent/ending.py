"""The end of the process: who is waited for, and for how long."""

import asyncio
import os
import threading

import structlog

from soup_cdn_agent.beside import WebServer
from soup_cdn_agent.pulling import Pulling

log = structlog.get_logger(__name__)

ENOUGH = 8.0  # seconds to end in: a thread may hang in DNS or on a disk, and nobody can wait for that
MORE = 1.75  # seconds beyond `stop_seconds` for a web server that has to be killed
LEAST = 0.5  # seconds for answers in any case


class Ending:
    """`over` is set when it has begun, `code` is what to exit with; `web`, a web server that ends too."""

    def __init__(self, seconds: float) -> None:
        self.over, self.code = asyncio.Event(), 0
        self.web: WebServer | None = None
        self._seconds, self._until = seconds, 0.0

    def begin(self) -> None:
        """The process is told to end."""
        self.over.set()
        self.start_clock()
        timer = threading.Timer(max(ENOUGH, self._seconds + MORE), self._give_up)
        timer.daemon = True
        timer.start()

    def fell(self) -> None:
        """The web server has ended: by itself, unless all has."""
        if self.web and not self.over.is_set():
            self.code = self.web.status
            log.error("web_server.ended", status=self.code)
            self.begin()

    def start_clock(self) -> None:
        """From now on answers have so many seconds."""
        self._until = asyncio.get_running_loop().time() + self._seconds

    async def last(self, pulling: Pulling | None) -> None:
        """Wait for answers that have begun; the web server has ended then."""
        left = max(LEAST, self._until - asyncio.get_running_loop().time())
        if self.web:
            await self.web.stop(left)
        elif pulling:
            await pulling.finish(left)

    def _give_up(self) -> None:
        if self.web:
            self.web.kill()
        os._exit(self.code)
