"""A narrow way for those who have had their share: served all the same, a few at a time. It knows nobody.

Refusing them would refuse everybody who stands behind the same address, for as long as one of them likes.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Lane:
    """Lets *width* in at a time, first come, first served.

    Args:
        width: How many at a time.
        rest: How long a place stays empty after each, in times of what that one took.
    """

    def __init__(self, width: int, *, rest: float = 0.0) -> None:
        self._rest = rest
        self._places = asyncio.Semaphore(width)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a place, and hold it."""
        loop = asyncio.get_running_loop()
        await self._places.acquire()
        began = loop.time()
        try:
            yield
        finally:
            loop.call_later((loop.time() - began) * self._rest, self._places.release)
