"""The scripted recogniser returns its script after its delay."""

import asyncio

from services.asr.engine import Transcript
from services.asr.engines.scripted import ScriptedRecognizer
from shared.settings import Settings


async def test_the_first_audio_gives_the_first_word_and_finish_gives_all() -> None:
    utterance = await ScriptedRecognizer(Settings(scripted_transcript="ten of clubs")).open("en-US")
    assert await utterance.accept(b"") is None
    assert await utterance.accept(bytes(640)) == "ten"
    assert await utterance.accept(bytes(640)) is None
    assert await utterance.finish() == Transcript("ten of clubs", "en-US")
    assert await utterance.accept(bytes(640)) is None
    assert (await utterance.finish()).text == "ten of clubs"
    utterance.close()


async def test_an_empty_script_has_no_partial_transcript() -> None:
    utterance = await ScriptedRecognizer(Settings(scripted_transcript="")).open("en")
    assert await utterance.accept(bytes(640)) is None
    assert (await utterance.finish()).text == ""


async def test_the_transcript_waits_for_its_delay() -> None:
    utterance = await ScriptedRecognizer(Settings(scripted_asr_ms=50)).open("en")
    loop = asyncio.get_running_loop()
    began = loop.time()
    await utterance.accept(bytes(640))
    assert loop.time() - began < 0.04
    await utterance.finish()
    assert 0.05 <= loop.time() - began < 0.5
