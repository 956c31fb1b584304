"""The real recognisers in virtual time. What they recognised is remembered, so only a first run takes long.

A remembered result belongs to the audio and to the engine's name: delete the file of the cache when the engine has changed.
"""

import asyncio
import hashlib
from concurrent.futures import Future
from dataclasses import asdict
from functools import cached_property
from typing import Any

from benchmarks.speech.speakers import CACHE
from benchmarks.virtual.loop import LoopThread
from benchmarks.virtual.memory import Memory
from services.asr.engine import ENGINES, Recognizer, Transcript, Utterance
from services.asr.engines.model import Clip, Recognition
from services.asr.engines.offline import OfflineUtterance
from services.asr.engines.offline_recognizer import OfflineRecognizer
from shared.engines.registry import create_engine
from shared.settings import Settings

DECODE_S = 0.18
"""Time of a decoding: Whisper tiny.en on one of two cores."""
UTTERANCES = 12
"""Real utterances at a time: another one would wait for ever, as virtual time stands still meanwhile."""
FINISH_S = 0.05
"""Time in which a streaming recogniser finishes."""


class VirtualRecognizer:
    """See `engine.Recognizer`. Utterances of an offline model ask it when and as often as they would in real time."""

    slots = 1000

    def __init__(self, engine: str, settings: Settings) -> None:
        """Raises `UnknownEngine` for an unknown name."""
        self.memory = Memory(CACHE / f"recognised-{engine}.jsonl")
        several = settings.model_copy(update={"asr_slots": UTTERANCES})
        self._engine: Recognizer = create_engine("asr", engine, ENGINES, several)

    async def load(self) -> None: ...

    async def open(self, language: str, hints: str = "") -> Utterance:
        if isinstance(self._engine, OfflineRecognizer):
            return OfflineUtterance(_VirtualDecoder(self), language, hints, asyncio.get_running_loop().time)
        return _RememberedUtterance(self, language)

    async def close(self) -> None: ...

    @cached_property
    def thread(self) -> LoopThread:
        return LoopThread()

    @cached_property
    def real(self) -> Recognizer:
        """The engine, loaded."""
        self.thread.run(self._engine.load())
        return self._engine


class _VirtualDecoder:
    """See `offline.Decoder`: every decoding takes `DECODE_S`."""

    def __init__(self, recognizer: VirtualRecognizer) -> None:
        self._recognizer = recognizer
        self._loop = asyncio.get_running_loop()

    def submit(self, question: Clip, /) -> Future[Recognition]:
        future: Future[Recognition] = Future()
        self._loop.call_later(DECODE_S, self._answer, future, question)
        return future

    async def ask(self, question: Clip, /) -> Recognition:
        await asyncio.sleep(DECODE_S)
        return self._decode(question)

    async def wait(self, future: Future[Recognition], /) -> Recognition:
        return await asyncio.wrap_future(future)

    def _answer(self, future: Future[Recognition], clip: Clip) -> None:
        if future.set_running_or_notify_cancel():
            future.set_result(self._decode(clip))

    def _decode(self, clip: Clip) -> Recognition:
        digest = hashlib.sha256(repr((clip.language, clip.hints)).encode() + b"".join(clip.pieces)).hexdigest()

        def compute() -> dict[str, Any]:
            real = self._recognizer.real
            assert isinstance(real, OfflineRecognizer)  # noqa: S101 - it has made this decoder
            return {name: value for name, value in asdict(real.recognize(clip)).items() if name != "words"}

        return Recognition(**self._recognizer.memory.get(digest, compute))


class _RememberedUtterance:
    """See `engine.Utterance`. The real utterance is made only when something is asked that is not remembered."""

    def __init__(self, recognizer: VirtualRecognizer, language: str) -> None:
        self._recognizer, self._language = recognizer, language
        self._pieces: list[bytes] = []
        self._digest = hashlib.sha256(language.encode())
        self._real: Utterance | None = None
        self._real_pieces = 0

    async def accept(self, pcm: bytes) -> str | None:
        self._pieces.append(pcm)
        self._digest.update(len(pcm).to_bytes(4) + pcm)
        partial: str | None = self._recognizer.memory.get(self._digest.hexdigest(), self._catch_up)
        return partial

    async def finish(self) -> Transcript:
        values = self._recognizer.memory.get(f"{self._digest.hexdigest()} final", self._finish)
        await asyncio.sleep(FINISH_S)
        return Transcript(**values)

    def _catch_up(self) -> str | None:
        """Give the real utterance the pieces that it does not have. Returns the partial transcript after the last one."""
        thread, partial = self._recognizer.thread, None
        if self._real is None:
            self._real = thread.run(self._recognizer.real.open(self._language))
        for piece in self._pieces[self._real_pieces :]:
            partial = thread.run(self._real.accept(piece))
        self._real_pieces = len(self._pieces)
        return partial

    def _finish(self) -> dict[str, Any]:
        self._catch_up()
        assert self._real is not None  # noqa: S101 - it has caught up
        transcript = self._recognizer.thread.run(self._real.finish())
        return {name: value for name, value in asdict(transcript).items() if name != "words"}

    def close(self) -> None:
        if self._real is not None:
            self._recognizer.thread.run(_close(self._real))


async def _close(utterance: Utterance) -> None:
    utterance.close()
