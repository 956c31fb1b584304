"""The vad stage: listens to sessions, decides on turns, and gives every turn its number."""

import asyncio
from collections.abc import Sequence
from typing import Any

from services.vad.engine import SpeechDetector
from services.vad.listener import Listener
from shared.frames import AudioChunk, Frame, SessionStarted
from shared.streams import Place
from shared.worker import Work

CHECK_S = 1.0
STALLED_S = 2.0
"""A client that is silent on the wire for so long within a turn has ended it."""
ABANDONED_S = 30.0
"""After so long without input it is asked whether the session still lives."""


class VadStage:
    """Its work is a session; it lasts until the session ends."""

    name = "vad"
    long_lived = True
    interruptible = False

    def __init__(self, detector: SpeechDetector, slots: int, engine: str) -> None:
        self._detector, self.slots, self._engine = detector, slots, engine

    async def load(self) -> None:
        await self._detector.load()

    def info(self) -> dict[str, Any]:
        return {"engine": self._engine, "slots": self.slots}

    async def work(self, work: Work) -> Sequence[Frame]:
        """Listen until the session ends."""
        if not isinstance(work.frame, SessionStarted):
            raise TypeError(f"{type(work.frame).__name__} is no session")
        listener = Listener(work.session, work.frame.settings, self._detector.open())
        if work.attempt > 1 and (checkpoint := await work.load_checkpoint()) is not None:
            settings, _ = await work.conversation()
            listener.restore(checkpoint, settings)
        session = _Session(work, listener)
        work.follow(Place.IN, listener.replay_from, session.deliver)
        await session.over()
        return ()

    async def close(self) -> None:
        await self._detector.close()


class _Session:
    """Publishes what the listener says, and notices when the client has gone without a word."""

    def __init__(self, work: Work, listener: Listener) -> None:
        self._work, self._listener = work, listener
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._heard_at_s = self._loop.time()

    def deliver(self, entry_id: str, fence: int, frames: list[Frame]) -> None:
        if self._ended.done():
            return
        self._heard_at_s = self._loop.time()
        try:
            heard = self._listener.accept(entry_id, frames)
        except Exception as error:  # becomes the failure of this session's work, not of the reader of all
            self._ended.set_exception(error)
            return
        self._publish(heard.speech)
        if heard.facts:
            self._work.checkpoint(heard.facts, self._listener.checkpoint())
            self._publish(heard.late_speech)
        if heard.ended:
            self._ended.set_result(None)

    def _publish(self, speech: Sequence[AudioChunk]) -> None:
        for chunk in speech:
            self._work.publish(chunk, urgent=False)

    async def over(self) -> None:
        """Returns when the session is."""
        while not self._ended.done():
            await asyncio.wait([self._ended], timeout=CHECK_S)
            silent_s = self._loop.time() - self._heard_at_s
            if silent_s > STALLED_S and self._listener.turns.in_turn and self._listener.settings.detect_turns:
                facts = self._listener.stalled()
                self._work.checkpoint(facts, self._listener.checkpoint())
            if silent_s > ABANDONED_S:
                if not await self._work.session_lives():
                    self._work.forget_session()
                    return
                self._heard_at_s = self._loop.time()
        self._ended.result()
