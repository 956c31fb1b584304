"""A sentence in a voice, for a person who chooses one: through the tts stage, without a conversation."""

import io
import wave

from services.edge.gateway.spoken import speak
from shared.bus.bus import Bus

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


def sentence(language: str) -> str:
    """What is said in a preview: in the language if we have it, else in English."""
    return SENTENCES.get(language.lower().replace("_", "-").partition("-")[0], SENTENCES["en"])


async def preview(bus: Bus, voice: str, language: str, speed: float) -> bytes:
    """Let a tts worker speak a sentence. Returns a WAV file.

    Raises:
        NotSpoken: the engine rejects voice or language, fails, or takes too long.
        BrokerGone: the connection to the broker was lost.
    """
    recording = await speak(bus, sentence(language), voice, speed, language)
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(recording.rate_hz)
        out.writeframes(recording.pcm)
    return file.getvalue()
