"""A scripted recogniser: a given text after a given delay. For benchmarks and tests."""

import asyncio

from services.asr.engine import Transcript, Utterance
from shared.protocol.session import RATE_HZ
from shared.settings import Settings


class ScriptedRecognizer:
    """See `engine.Recognizer`."""

    slots = 256

    def __init__(self, settings: Settings) -> None:
        self._transcript = settings.scripted_transcript
        self._delay_s = settings.scripted_asr_ms / 1000
        self._least_bytes = 2 * RATE_HZ * settings.scripted_asr_least_ms // 1000

    async def load(self) -> None:
        pass

    async def open(self, language: str, hints: str = "") -> Utterance:
        return ScriptedUtterance(Transcript(self._transcript, language), self._delay_s, self._least_bytes)

    async def close(self) -> None:
        pass


class ScriptedUtterance:
    """See `engine.Utterance`. Its only partial transcript is the first word, once there is enough audio."""

    def __init__(self, transcript: Transcript, delay_s: float, least_bytes: int) -> None:
        self._transcript = transcript
        self._delay_s = delay_s
        self._missing = least_bytes  # audio still needed before there are words
        self._partial: str | None = transcript.text.partition(" ")[0] or None

    async def accept(self, pcm: bytes) -> str | None:
        partial = None
        self._missing -= len(pcm)
        if pcm and self._missing <= 0:
            partial, self._partial = self._partial, None
        return partial

    async def finish(self) -> Transcript:
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        return self._transcript if self._missing <= 0 else Transcript("", self._transcript.language)

    def close(self) -> None:
        pass
