"""Read a sentence out: in words, each run by a voice that can speak its script, with the times of the written words."""

from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing, suppress
from dataclasses import replace

import structlog

from services.tts.engine import Multilingual, Speech, Synthesizer
from services.tts.normalizer.normalize import LANGUAGES, normalize, prepare
from services.tts.normalizer.scripts import Run, runs
from services.tts.normalizer.timings import WrittenWords

log = structlog.get_logger()


def prepare_rules(synthesizer: Synthesizer) -> None:
    """Compile the rules for the languages of an engine, about 50 ms each, so that no first sentence waits for them."""
    for language in sorted(LANGUAGES):
        with suppress(ValueError):  # the engine does not speak it
            if reads := synthesizer.text_language("", language):
                prepare(reads)


def _languages(synthesizer: Synthesizer) -> Collection[str]:
    """Return what an engine can read: primary subtags, and `ja-Hira` for kana alone; empty: anything, or unknown."""
    if not isinstance(synthesizer, Multilingual):
        return ()
    return {*synthesizer.languages(), *getattr(synthesizer, "also_reads", ())}


async def read_out(
    synthesizer: Synthesizer, text: str, *, voice: str, speed: float, language: str
) -> AsyncGenerator[Speech, None]:
    """Stream a sentence; see `Synthesizer.speak`. The words are those of `text`.

    A run in a script that the language does not use is spoken by a voice of its own, or left out if no voice speaks it.
    """
    reads = synthesizer.text_language(voice, language)
    if not reads:
        async with aclosing(synthesizer.speak(text, voice=voice, speed=speed, language=language)) as speech:
            async for piece in speech:
                yield piece
        return
    known = _languages(synthesizer)
    parts = runs(text, reads, known) if known else [Run(text, reads)]
    if silent := [run.text for run in parts if not run.language]:
        log.warning(
            "text left out: no voice for its script",
            language=language,
            runs=len(silent),
            characters=sum(map(len, silent)),
        )
    samples = 0
    for run in filter(lambda run: run.language, parts):
        own = run.language == reads
        chosen = {"voice": voice, "language": language} if own else {"voice": "", "language": run.language}
        async with aclosing(_read_run(synthesizer, run, speed=speed, **chosen)) as speech:
            begun = samples
            async for piece in speech:
                samples += len(piece.pcm) // 2
                yield replace(
                    piece,
                    words=tuple(replace(word, start=begun + word.start, end=begun + word.end) for word in piece.words),
                )


async def _read_run(
    synthesizer: Synthesizer, run: Run, *, voice: str, speed: float, language: str
) -> AsyncGenerator[Speech, None]:
    """Stream a run of one language in words."""
    spans = normalize(run.text, run.language)
    words = WrittenWords(spans)
    said = "".join(span.spoken for span in spans)
    async with aclosing(synthesizer.speak(said, voice=voice, speed=speed, language=language)) as speech:
        async for piece in speech:
            yield Speech(piece.pcm, words.feed(piece.words))
    if rest := words.finish():
        yield Speech(b"", rest)
