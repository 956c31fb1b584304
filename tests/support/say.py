"""Say a text with espeak: `say.py TEXT RATE_HZ` writes s16le mono to stdout."""

import asyncio
import sys

from services.tts.engines.espeak import EspeakSynthesizer
from shared.audio.pcm import Resampler
from shared.settings import Settings


async def say(text: str, rate_hz: int) -> bytes:
    synthesizer = EspeakSynthesizer(Settings())
    await synthesizer.load()
    pieces = [piece.pcm async for piece in synthesizer.speak(text, voice="", speed=1.0, language="en")]
    await synthesizer.close()
    resampler = Resampler(synthesizer.rate_hz, rate_hz)
    return resampler.process(b"".join(pieces)) + resampler.flush()


if __name__ == "__main__":
    sys.stdout.buffer.write(asyncio.run(say(sys.argv[1], int(sys.argv[2]))))
