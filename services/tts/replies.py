"""The order and the pace in which the sentences of a reply are synthesised, where an engine takes one at a time."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shared.protocol.frames import ReplySentence
from shared.worker.work import Work

KEPT = 10_000
"""Replies that a worker remembers. One that it has forgotten is not held back."""
LONGEST_WAIT_S = 10.0
"""A sentence is held back for this long at most: less than the deadline of a turn without progress."""


class ReplyPace:
    """One reply. Its sentences arrive in order, and a lock serves in the order of arrival."""

    def __init__(self, ahead_s: float) -> None:
        self._ahead_s = ahead_s
        self._turn = asyncio.Lock()
        self._made_s = self._began_s = 0.0

    @asynccontextmanager
    async def turn_of(self, work: Work) -> AsyncIterator[None]:
        """Wait until the earlier sentences are synthesised, and until this one is not too far ahead of its playing."""
        with work.parked():
            await self._turn.acquire()
        try:
            loop = asyncio.get_running_loop()
            wait_s = self._made_s - (loop.time() - self._began_s) - self._ahead_s
            if self._made_s and wait_s > 0:
                with work.parked():
                    await asyncio.sleep(min(wait_s, LONGEST_WAIT_S))
            if not self._made_s:
                self._began_s = loop.time()
            yield
        finally:
            self._turn.release()

    def add(self, seconds: float) -> None:
        """A sentence of this length was synthesised."""
        self._made_s += seconds


class Replies:
    """The replies that a worker speaks, or has spoken."""

    def __init__(self, ahead_s: float) -> None:
        """`ahead_s`: a sentence is held back while its reply is made further ahead than this of the moment at which it would be
        played, if its playing had begun with its making."""
        self._ahead_s = ahead_s
        self._paces: OrderedDict[tuple[str, int, int], ReplyPace] = OrderedDict()

    def of(self, job: ReplySentence) -> ReplyPace:
        key = (job.session, job.turn, job.revision)
        pace = self._paces.pop(key, None) or ReplyPace(self._ahead_s)
        self._paces[key] = pace
        if len(self._paces) > KEPT:
            self._paces.popitem(last=False)
        return pace
