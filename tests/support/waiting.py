"""Waiting in tests: for an event, however slow the machine is, and never for a length of time."""

import asyncio
from collections.abc import Callable

HANG_S = 300.0
"""Only what hangs takes this long, on a slow and busy machine too."""
POLL_S = 0.005


async def until(reached: Callable[[], object]) -> None:
    """Return once it is true.

    Raises:
        TimeoutError: it hangs.
    """
    async with asyncio.timeout(HANG_S):
        while not reached():
            await asyncio.sleep(POLL_S)
