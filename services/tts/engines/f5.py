"""F5-TTS v1: clones a voice from a few seconds of speech and their transcript. English and Chinese, 24 kHz.

The network (336 million parameters) and the vocoder run with their authors' packages `f5-tts` and `vocos` and local
files: SWivid/F5-TTS, whose weights are for non-commercial use (CC BY-NC 4.0), and charactr/vocos-mel-24khz.

Tested: this file and `f5_inputs.py`, with a fake network; and `f5_model.py` once by hand, with the source of both
packages (f5-tts 1.1.22, vocos 0.1.0), networks of two layers with random weights, and fakes for torchaudio,
torchdiffeq, x-transformers and the conversion of Chinese to pinyin. Untested: the real weights, on any device, and
those libraries themselves. Sound quality and speed are unknown.

Pieces do not share calls: the solver integrates over reference and text together, and there is no audio before its last
step. A cancelled sentence ends at the solver's next step.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from services.tts.engine import Speech
from services.tts.engines.f5_inputs import (
    FASTEST,
    RATE_HZ,
    SLOWEST,
    estimated_words,
    max_bytes,
    piece_frames,
    pieces,
    reference_samples,
    reference_text,
)
from services.tts.engines.f5_model import CloningModel, Reference, load_f5
from services.tts.engines.waveform import active_span, pause_ms, shape, slices
from shared.audio.voices import ClonedVoice
from shared.engines.batching import Batcher
from shared.settings import Settings

VOICES_KEPT = 32
SLOTS = 4
"""Maximum sentences of a worker: one is synthesized, the others wait. More would hide the backlog from the queue."""
CALL_S = 300.0
"""Timeout of a call. A CPU is many times slower than real time, and three other sentences may be queued before."""
WARM_UP = "Ready when you are."


@dataclass(frozen=True, slots=True)
class _Piece:
    """A text to speak in the voice of a reference."""

    reference: Reference
    text: str
    frames: int
    wanted: Callable[[], bool]


class F5Synthesizer:
    """See `engine.Synthesizer` and `engine.Cloner`."""

    in_order = True
    rate_hz = RATE_HZ

    def __init__(self, settings: Settings, load: Callable[[Settings], CloningModel] = load_f5) -> None:
        self.slots = min(settings.model_slots, SLOTS)
        self._settings, self._load = settings, load
        self._model: CloningModel
        self._batcher: Batcher[ClonedVoice | _Piece, Any] | None = None
        self._voices: OrderedDict[str, ClonedVoice] = OrderedDict()
        self._references: OrderedDict[str, Reference] = OrderedDict()  # by digest; used by the model's thread only

    async def load(self) -> None:
        self._model = await asyncio.to_thread(self._load, self._settings)
        self._batcher = Batcher("tts", self._run, most=1, wait_ms=0, timeout_s=CALL_S)
        if self._model.own is not None:
            async for _ in self.speak(WARM_UP, voice="", speed=1.0, language="en"):
                pass

    def voices(self) -> tuple[str, ...]:
        return (self._model.own.name,) if self._model.own is not None else ()

    def learn(self, voice: ClonedVoice) -> None:
        _keep(self._voices, voice.name, voice)

    def text_language(self, voice: str, language: str) -> str:
        """F5 reads the language of the recording; it was trained on text without written forms."""
        return language

    async def speak(self, text: str, *, voice: str, speed: float, language: str) -> AsyncGenerator[Speech, None]:
        """See `engine.Synthesizer`.

        Raises:
            ValueError: the voice is unknown, or its recording is silent.
        """
        chosen = self._choose(voice)
        speed = min(max(speed, SLOWEST), FASTEST)
        assert self._batcher is not None, "load comes first"  # noqa: S101
        wanted = True
        try:
            reference: Reference = await self._batcher.ask(chosen)
            parts = pieces(text, max_bytes(reference.frames, reference.text, speed))
            sent = 0
            for number, part in enumerate(parts):
                frames = piece_frames(reference.frames, reference.text, part, speed)
                job = _Piece(reference, part, frames, lambda: wanted)
                wave = await self._batcher.ask(job, urgent=number == 0)
                words = estimated_words(part, *active_span(wave, RATE_HZ))
                shaped, moved = shape(wave, RATE_HZ, pause_ms(part) / speed, words)
                for piece in slices(shaped, RATE_HZ, moved, sent):
                    yield piece
                sent += len(shaped)
        finally:
            wanted = False

    async def close(self) -> None:
        if self._batcher is not None:
            await self._batcher.close()

    def _choose(self, name: str) -> ClonedVoice:
        own = self._model.own
        if own is not None and name in ("", own.name):
            return own
        if not name:
            raise ValueError("f5 has no default voice: add a voice (parley voices add) and select it by name")
        if name not in self._voices:
            raise ValueError(f"unknown voice {name!r}: there is no cloned voice of that name")
        return self._voices[name]

    # The methods below run in the batcher's thread.

    def _run(self, jobs: Sequence[ClonedVoice | _Piece]) -> list[Any]:
        return [self._encode(job) if isinstance(job, ClonedVoice) else self._synthesize(job) for job in jobs]

    def _encode(self, voice: ClonedVoice) -> Reference:
        digest = voice.info.digest
        reference = self._references.get(digest)
        if reference is None:
            reference = self._model.encode(reference_samples(voice), reference_text(voice.info.text))
        _keep(self._references, digest, reference)
        return reference

    def _synthesize(self, piece: _Piece) -> Any:
        return self._model.synthesize(piece.reference, piece.text, piece.frames, piece.wanted)


def _keep(kept: OrderedDict[str, Any], key: str, value: Any) -> None:
    """Insert an entry as the newest, and drop the oldest ones beyond `VOICES_KEPT`."""
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > VOICES_KEPT:
        kept.popitem(last=False)
