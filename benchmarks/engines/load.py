"""Puts a loaded engine under load: several sessions that begin at the same time, or within a second."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import aclosing
from itertools import count, pairwise
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any

import numpy as np
import soundfile

from benchmarks.engines.figures import Piece
from services.asr.engine import Recognizer
from services.llm.engine import ChatModel, Usage
from services.llm.sentences import SentenceCutter
from services.tts.engine import Synthesizer
from shared.protocol.session import RATE_HZ, Message

CLAUSE = "Sure, I can help you."
SENTENCE = "The next train to the city leaves at half past nine from the second platform."
CLAUSE_WORDS = 5
PROMPT_TOKENS, REPLY_TOKENS = 300, 64
LIMIT_S = 900.0
"""Limit of one repetition."""

_VOICES = 8
_TEXT = (
    "the a train ticket please could you tell me when next one leaves from here and how much it costs for two people with "
    "bags because we want to go home before night and not wait long again"
)
_WORDS = _TEXT.split()
_INSTRUCTIONS = "You are a friendly assistant on the telephone. Answer in short sentences, without lists or markup."

Work = Callable[[], Coroutine[Any, Any, Piece]]


class EmptyAnswer(RuntimeError):
    """An engine gave an empty answer, so there is no time to measure."""


async def rush(work: Work, offsets_s: Sequence[float]) -> list[Piece]:
    """Run one session for each offset, started after that time.

    Raises:
        ExceptionGroup: a session failed, or the repetition took longer than `LIMIT_S`.
    """

    async def session(offset_s: float) -> Piece:
        if offset_s:
            await asyncio.sleep(offset_s)
        return await work()

    async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
        tasks = [group.create_task(session(offset_s)) for offset_s in offsets_s]
    return [task.result() for task in tasks]


def offsets(sessions: int, seed: int) -> list[float]:
    """Random start times of the sessions within one second, in seconds. The first is 0."""
    chance = Random(seed)
    found = sorted(chance.random() for _ in range(sessions))
    return [one - found[0] for one in found]


class Material:
    """Utterances and prompts of the sessions. All runs use the same; no run uses one twice, so that no cache can answer."""

    def __init__(self, seconds: float, language: str, *, letters: bool, clips: Path | None = None) -> None:
        """`letters`: each letter is a token, as in the tokenizer of a random model."""
        self.language = language
        self._letters, self._numbers = letters, count(1)
        self._utterances = [
            utterance(seconds, voice) if clips is None else recorded(clips, seconds, voice) for voice in range(_VOICES)
        ]

    def pcm(self) -> bytes:
        return self._utterances[next(self._numbers) % _VOICES]

    def messages(self) -> list[Message]:
        """A prompt of about `PROMPT_TOKENS`."""
        chance = Random(next(self._numbers))
        words = " ".join(chance.choice(_WORDS) for _ in range(PROMPT_TOKENS - len(_INSTRUCTIONS.split()) - 20))
        if self._letters:
            words = words[: PROMPT_TOKENS - len(_INSTRUCTIONS) - 60]  # for the template around it
        return [Message("system", _INSTRUCTIONS, 0), Message("user", words, 1)]


def utterance(seconds: float, voice: int) -> bytes:
    """A synthetic sound shaped like speech, s16le: harmonics through moving formants, in syllables, with noise."""
    chance = np.random.default_rng(voice)
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    pitch_hz = (95 + 15 * voice) * (1 + 0.08 * np.sin(2 * np.pi * 0.6 * time_s + voice))
    phase = 2 * np.pi * np.cumsum(pitch_hz) / RATE_HZ
    sound = 0.03 * chance.standard_normal(len(time_s))
    formants_hz = [
        middle * (1 + 0.25 * np.sin(2 * np.pi * speed * time_s + voice))
        for middle, speed in ((500, 1.7), (1500, 2.3), (2500, 1.1))
    ]
    for harmonic in range(1, 30):
        distances = [np.square((harmonic * pitch_hz - formant) / 180) for formant in formants_hz]
        sound += sum(np.exp(-distance / 2) for distance in distances) * np.sin(harmonic * phase) / harmonic**0.3
    syllables = np.clip(np.sin(2 * np.pi * 2.1 * time_s + voice) + 0.4, 0.02, 1)
    sound *= syllables / np.abs(sound).max()
    return bytes((sound * 12_000).astype("<i2").tobytes())


def recorded(folder: Path, seconds: float, voice: int) -> bytes:
    """Speech of this length from the recordings in a folder. Each voice begins with a different recording.

    Raises:
        ValueError: the folder has no recording in mono at 16 kHz.
    """
    paths = sorted(folder.glob("*.wav"))
    sounds = []
    for path in [*paths[voice % max(1, len(paths)) :], *paths]:
        samples, rate_hz = soundfile.read(path, dtype="int16")
        if rate_hz == RATE_HZ and samples.ndim == 1:
            sounds.append(samples)
        if sum(map(len, sounds)) >= seconds * RATE_HZ:
            break
    if not sum(map(len, sounds)):
        raise ValueError(f"{folder} contains no recording (*.wav) in mono at {RATE_HZ} Hz")
    speech = np.concatenate(sounds)
    samples = np.resize(speech, round(seconds * RATE_HZ))
    return bytes(samples.astype("<i2").tobytes())


async def transcribe(engine: Recognizer, material: Material) -> Piece:
    """Transcribe one utterance. The waiting time begins after the last audio, the engine's busy time at the start."""
    pcm, start_s = material.pcm(), perf_counter()
    stream = await engine.open(material.language)
    try:
        await stream.accept(pcm)
        asked_s = perf_counter()
        await stream.finish()
        end_s = perf_counter()
    finally:
        stream.close()
    return Piece(start_s, end_s, len(pcm) / 2 / RATE_HZ, {"final_ms": [1000 * (end_s - asked_s)]})


async def reply(engine: ChatModel, material: Material) -> Piece:
    """Generate one reply. Each non-empty delta counts as a token."""
    messages, start_s = material.messages(), perf_counter()
    marks_s: list[float] = []
    async with aclosing(engine.reply(messages, language=material.language)) as deltas:
        async for delta in deltas:
            if delta and not isinstance(delta, Usage):
                marks_s.append(perf_counter())
            if len(marks_s) == REPLY_TOKENS:
                break
    if not marks_s:
        raise EmptyAnswer("the chat model gave no text")
    gaps_ms = [1000 * (after - before) for before, after in pairwise(marks_s)]
    times_ms = {"first_token_ms": [1000 * (marks_s[0] - start_s)], "next_token_ms": gaps_ms}
    return Piece(start_s, marks_s[-1], len(marks_s), times_ms)


async def speak(engine: Synthesizer, material: Material) -> Piece:
    """Speak a clause and then a sentence, as at the beginning of a reply."""
    start_s = perf_counter()
    clause_ms, clause_s = await _spoken(engine, CLAUSE, material.language)
    sentence_ms, sentence_s = await _spoken(engine, SENTENCE, material.language)
    times_ms = {"first_clause_audio_ms": [clause_ms], "first_sentence_audio_ms": [sentence_ms]}
    return Piece(start_s, perf_counter(), clause_s + sentence_s, times_ms)


async def _spoken(engine: Synthesizer, text: str, language: str) -> tuple[float, float]:
    """Speak a text to its end. Returns the time to its first audio in ms, and its length in seconds."""
    asked_s, first_ms, samples = perf_counter(), 0.0, 0
    async with aclosing(engine.speak(text, voice="", speed=1.0, language=language)) as slices:
        async for speech in slices:
            if speech.pcm and not samples:
                first_ms = 1000 * (perf_counter() - asked_s)
            samples += len(speech.pcm) // 2
    if not samples:
        raise EmptyAnswer("the synthesiser gave no audio")
    return first_ms, samples / engine.rate_hz


async def converse(asr: Recognizer, llm: ChatModel, tts: Synthesizer, material: Material) -> Piece:
    """Measure the delays of a turn: transcript, first token, first clause, first audio.

    The spoken clause is always the same, because the words of a random model can be endless. It is spoken when the model
    has written a clause.
    """
    transcript = await transcribe(asr, material)
    (final_ms,) = transcript.times_ms["final_ms"]
    messages, asked_s, token_s, text = material.messages(), perf_counter(), 0.0, ""
    cutter = SentenceCutter(material.language, 3)
    async with aclosing(llm.reply(messages, language=material.language)) as deltas:
        async for delta in deltas:
            if not isinstance(delta, str) or not delta:
                continue
            token_s, text = token_s or perf_counter(), text + delta
            # Only the next word shows that the fifth is complete.
            if cutter.feed(delta) or len(text.split()) > CLAUSE_WORDS:
                break
    if not token_s:
        raise EmptyAnswer("the chat model gave no text")
    clause_s = perf_counter()
    first_audio_ms, _ = await _spoken(tts, CLAUSE, material.language)
    times_ms = {
        "final_ms": final_ms,
        "first_token_ms": 1000 * (token_s - asked_s),
        "clause_ms": 1000 * (clause_s - token_s),
        "first_audio_ms": first_audio_ms,
    }
    times_ms["total_ms"] = sum(times_ms.values())
    return Piece(
        transcript.start_s, clause_s + first_audio_ms / 1000, 1, {name: [value] for name, value in times_ms.items()}
    )
