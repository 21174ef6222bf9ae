"""Host names looked up without holding up anybody.

The event loop has a handful of threads for all lookups of a process. A name server that does not answer keeps
each for ten seconds and more, and mirrors that are well would seem to be silent. So each name that is being
looked up has a thread of its own, and never more than one.
"""

import asyncio
import socket
import threading
from contextlib import suppress
from ipaddress import ip_address

from soup.core.errors import Busy

MOST = 64  # names that are being looked up at once


class Names:
    """Looks names up."""

    def __init__(self) -> None:
        self._asked: dict[str, asyncio.Future[list[str]]] = {}

    async def addresses(self, host: str) -> list[str]:
        """The addresses of a name, best first; of an address, that one.

        Raises OSError where there is none, Busy where so many names hang that this one cannot be asked for.
        """
        with suppress(ValueError):
            return [str(ip_address(host.strip("[]")))]
        future = self._asked.get(host)
        if future is None:
            if len(self._asked) >= MOST:
                raise Busy("too many names are being looked up")
            loop = asyncio.get_running_loop()
            future = self._asked[host] = loop.create_future()
            future.add_done_callback(lambda found: self._done(host, found))
            # A daemon: the end of the process does not wait for it.
            threading.Thread(
                target=_look, args=(host, loop, future), name=f"name {host}", daemon=True
            ).start()
        return await asyncio.shield(future)

    def _done(self, host: str, future: "asyncio.Future[list[str]]") -> None:
        del self._asked[host]
        if not future.cancelled():
            future.exception()  # who asked may have left: an unheard one is no news then


def _look(host: str, loop: asyncio.AbstractEventLoop, future: "asyncio.Future[list[str]]") -> None:
    with suppress(RuntimeError):  # the loop is closed: nobody waits any more
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            loop.call_soon_threadsafe(future.set_exception, OSError(str(error)))
        else:
            addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
            loop.call_soon_threadsafe(future.set_result, addresses)
