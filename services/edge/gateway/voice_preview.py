"""A sentence in a voice, for a person who chooses one: through the tts stage, without a conversation."""

import asyncio
import io
import secrets
import wave
from collections.abc import Sequence

from shared.bus.bus import Bus
from shared.protocol.frames import Frame, ReplySentence, StageFailed, VoiceChunk, VoiceDone
from shared.protocol.streams import StreamKind
from shared.protocol.turns import WHOLE_SESSION

TIMEOUT_S = 20.0
LONGEST_S = 15.0
"""An engine that goes on for longer is stopped."""
TURN = 1

SENTENCES = {
    "ar": "مرحبا، هكذا يبدو صوتي.",
    "de": "Hallo, so klinge ich.",
    "en": "Hello, this is how I sound.",
    "es": "Hola, así suena mi voz.",
    "fr": "Bonjour, voici comment sonne ma voix.",
    "hi": "नमस्ते, मेरी आवाज़ ऐसी है।",
    "it": "Ciao, ecco come suona la mia voce.",
    "ja": "こんにちは。私の声はこんな感じです。",
    "nl": "Hallo, zo klink ik.",
    "pl": "Cześć, tak brzmi mój głos.",
    "pt": "Olá, esta é a minha voz.",
    "ru": "Здравствуйте, вот как звучит мой голос.",
    "zh": "你好，这就是我的声音。",
}


class PreviewFailed(Exception):
    """The voice cannot be heard; the message is for the person."""


def sentence(language: str) -> str:
    """What is said in a preview: in the language if we have it, else in English."""
    return SENTENCES.get(language.lower().replace("_", "-").partition("-")[0], SENTENCES["en"])


async def preview(bus: Bus, voice: str, language: str, speed: float) -> bytes:
    """Let a tts worker speak a sentence. Returns a WAV file.

    Raises:
        PreviewFailed: the engine rejects voice or language, fails, or takes too long.
        BrokerGone: the connection to the broker was lost.
    """
    session = secrets.token_hex(16)
    speech: asyncio.Future[_Speech] = asyncio.get_running_loop().create_future()
    heard = _Speech(speech)
    bus.channel("edge", session).publish(ReplySentence(session, TURN, 0, 0, sentence(language), voice, speed, language))
    bus.keep_alive(session)
    subscription = bus.follow(StreamKind.OUT, session, "0-0", heard.deliver)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return (await speech).as_wav()
    except TimeoutError:
        raise PreviewFailed("the voice did not answer in time") from None
    finally:
        subscription.close()
        bus.stop(session, WHOLE_SESSION, 0)
        bus.forget(session)


class _Speech:
    """The slices of the sentence. A second attempt of a worker begins again at the first sample."""

    def __init__(self, whole: "asyncio.Future[_Speech]") -> None:
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
                        self._whole.set_result(self)
                case VoiceDone():
                    self._whole.set_result(self)
                case StageFailed(message=message):
                    self._whole.set_exception(PreviewFailed(message.partition(": ")[2] or message))

    def as_wav(self) -> bytes:
        """Raises `PreviewFailed` if the engine made no sound."""
        if not self._pcm:
            raise PreviewFailed("the voice made no sound")
        file = io.BytesIO()
        with wave.open(file, "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(self._rate_hz)
            out.writeframes(self._pcm)
        return file.getvalue()
