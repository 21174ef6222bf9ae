"""The parts of a mirror in mode pull: it fills itself from what clients ask for.

A request for what is not here comes from the web server (`listener`, `door`), and begins a fetch for all who
ask (`pull`, `origin`). What came whole and right is a file that the web server serves alone from then on,
until it has to make room (`shelf`), is deleted by the core (`removals`), or is found to be damaged (`scrub`).
"""

import resource
from collections.abc import Awaitable, Callable

from soup_cdn_agent.core import Core
from soup_cdn_agent.door import Door
from soup_cdn_agent.feed import Holds
from soup_cdn_agent.folder import Folder
from soup_cdn_agent.index import Index
from soup_cdn_agent.known import Known, Threads
from soup_cdn_agent.listener import Listener
from soup_cdn_agent.pace import Pace
from soup_cdn_agent.pull import Pulls
from soup_cdn_agent.removals import Removals
from soup_cdn_agent.settings import Settings
from soup_cdn_agent.shelf import Shelf
from soup_cdn_agent.survey import Survey
from soup_cdn_agent.traffic import Traffic


class Pulling:
    """What does in mode pull what feed, fetch and scan do in mode full."""

    def __init__(
        self,
        settings: Settings,
        core: Core,
        index: Index,
        folder: Folder,
        threads: Threads,
        known: Known,
        traffic: Traffic,
        holds: Holds,
    ) -> None:
        """Raises OSError where it cannot listen."""
        parts = index, folder, threads, known
        pace = Pace(settings.bandwidth)
        self.shelf = Shelf(*parts, traffic, keep=settings.pull_keep_seconds, again=settings.check_seconds)
        self.pulls = Pulls(core, *parts, self.shelf, holds=holds, most=settings.pulls, pace=pace)
        self.feed = Removals(core, *parts, holds, pulls=self.pulls, strays=settings.strays)
        self.survey = Survey(*parts)
        door = Door(core, self.pulls, folder, threads, known, pace)
        self._listener = Listener(settings.pull_listen, threads, door.answer, settings.pull_idle_seconds)

    def works(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """What it does, for ever."""
        return {
            "feed": self.feed.run,
            "keeping of room": self.shelf.run,
            "scan": self.survey.run,
            "pulling": self._listen,
        }

    async def _listen(self) -> None:
        """Answer who asks: each has a file number, and there may be thousands."""
        least, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most) if least < most else (least, most))
        await self._listener.run()

    async def finish(self, seconds: float) -> None:
        """Take no more, and wait for so long until those who are given something have it."""
        await self._listener.finish(seconds)

    async def close(self) -> None:
        """Cut everybody off."""
        self._listener.close()
        await self.pulls.close()
