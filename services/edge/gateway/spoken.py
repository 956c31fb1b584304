"""A sentence spoken by the tts stage for the edge itself, without a conversation."""

import asyncio
import secrets
from collections.abc import Sequence

from services.edge.conversation.apologies import Recording
from shared.bus.bus import Bus
from shared.protocol.frames import Frame, ReplySentence, StageFailed, VoiceChunk, VoiceDone
from shared.protocol.streams import StreamKind
from shared.protocol.turns import WHOLE_SESSION

TIMEOUT_S = 20.0
LONGEST_S = 15.0
"""An engine that goes on for longer is stopped."""
TURN = 1


class NotSpoken(Exception):
    """There is no audio of the sentence; the message says why."""


async def speak(bus: Bus, text: str, voice: str, speed: float, language: str) -> Recording:
    """Let a tts worker speak a sentence.

    Raises:
        NotSpoken: the engine rejects voice or language, fails, makes no sound, or takes too long.
        BrokerGone: the connection to the broker was lost.
    """
    session = secrets.token_hex(16)
    whole: asyncio.Future[Recording] = asyncio.get_running_loop().create_future()
    heard = _Speech(whole)
    bus.channel("edge", session).publish(ReplySentence(session, TURN, 0, 0, text, voice, speed, language))
    bus.keep_alive(session)
    subscription = bus.follow(StreamKind.OUT, session, "0-0", heard.deliver)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await whole
    except TimeoutError:
        raise NotSpoken("the voice did not answer in time") from None
    finally:
        subscription.close()
        bus.stop(session, WHOLE_SESSION, 0)
        bus.forget(session)


class _Speech:
    """The slices of the sentence. A second attempt of a worker begins again at the first sample."""

    def __init__(self, whole: asyncio.Future[Recording]) -> None:
        self._whole = whole
        self._pcm = bytearray()
        self._rate_hz = 0

    def deliver(self, entry_id: str, fence: int, frames: Sequence[Frame]) -> None:
        for frame in frames:
            if self._whole.done():
                return
            match frame:
                case VoiceChunk(offset=offset, rate_hz=rate_hz, pcm=pcm):
                    self._rate_hz = rate_hz
                    self._pcm[2 * offset :] = pcm
                    if len(self._pcm) > 2 * LONGEST_S * rate_hz:
                        self._finish()
                case VoiceDone():
                    self._finish()
                case StageFailed(message=message):
                    self._whole.set_exception(NotSpoken(message.partition(": ")[2] or message))

    def _finish(self) -> None:
        if self._pcm:
            self._whole.set_result(Recording(self._rate_hz, bytes(self._pcm)))
        else:
            self._whole.set_exception(NotSpoken("the voice made no sound"))
