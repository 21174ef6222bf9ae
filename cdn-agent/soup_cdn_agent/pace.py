"""So many bytes a second, and no more."""

import asyncio


class Pace:
    """A rate that several share. 0: no limit."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._free = 0.0

    async def take(self, count: int) -> None:
        """Wait until so many bytes may pass."""
        if not self.rate:
            return
        now = asyncio.get_running_loop().time()
        self._free = max(self._free, now) + count / self.rate
        if self._free > now:
            await asyncio.sleep(self._free - now)
