"""F5-TTS v1: speaks with any voice of which it has a few seconds and their text; English and Chinese, 24 kHz.

The network (336 million parameters) and the vocoder are run by their authors' packages `f5-tts` and `vocos`, from files
that are here: SWivid/F5-TTS, whose weights are for non-commercial use (CC BY-NC 4.0), and charactr/vocos-mel-24khz.

What was run: this file and `f5_plan.py` with a stand-in for the network, in the tests; and `f5_model.py` once, by hand, with
the source of both packages (f5-tts 1.1.22, vocos 0.1.0), networks of two layers with random weights, and stand-ins for
torchaudio, torchdiffeq, x-transformers and the Chinese spelling. What was not: the real weights, on any device, and those
libraries themselves. How it sounds and how fast it is, is not known here.

Pieces are spoken one at a time: each is one solution of an equation over reference and text together, and nothing can be
heard of it before its last step. A sentence that nobody wants any more ends at the solver's next step.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from services.tts.engine import Speech
from services.tts.engines.f5_model import CloningModel, Reference, load_f5
from services.tts.engines.f5_plan import (
    FASTEST,
    RATE_HZ,
    SLOWEST,
    most_bytes,
    piece_frames,
    pieces,
    reference_samples,
    reference_text,
    spread,
)
from services.tts.engines.waveform import active_span, pause_ms, shape, slices
from shared.audio.voices import ClonedVoice
from shared.engines.batching import Batcher
from shared.settings import Settings

VOICES_KEPT = 32
SLOTS = 4
"""Sentences in hand: one is spoken while the next ones wait. More would only hide from the queue how far behind it is."""
CALL_S = 300.0
"""A CPU takes many times as long for a sentence as it lasts, and three others may be before it."""
WARM_UP = "Ready when you are."


@dataclass(frozen=True, slots=True)
class _Piece:
    """Text to be spoken like a reference."""

    heard: Reference
    text: str
    frames: int
    wanted: Callable[[], bool]


class F5Synthesizer:
    """See `engine.Synthesizer` and `engine.Cloner`."""

    rate_hz = RATE_HZ

    def __init__(self, settings: Settings, load: Callable[[Settings], CloningModel] = load_f5) -> None:
        self.slots = min(settings.model_slots, SLOTS)
        self._settings, self._load = settings, load
        self._model: CloningModel
        self._batcher: Batcher[ClonedVoice | _Piece, Any] | None = None
        self._voices: OrderedDict[str, ClonedVoice] = OrderedDict()
        self._heard: OrderedDict[str, Reference] = OrderedDict()  # by digest; only the model's thread touches it

    async def load(self) -> None:
        """Raises `UnknownEngine` if the model, or what runs it, is not there."""
        self._model = await asyncio.to_thread(self._load, self._settings)
        self._batcher = Batcher("tts", self._answer, most=1, wait_ms=0, timeout_s=CALL_S)
        if self._model.own is not None:
            async for _ in self.speak(WARM_UP, voice="", speed=1.0, language="en"):
                pass

    def voices(self) -> tuple[str, ...]:
        return (self._model.own.name,) if self._model.own is not None else ()

    def learn(self, voice: ClonedVoice) -> None:
        _keep(self._voices, voice.name, voice)

    async def speak(self, text: str, *, voice: str, speed: float, language: str) -> AsyncGenerator[Speech, None]:
        """See `engine.Synthesizer`.

        Raises:
            ValueError: no such voice was learnt, or its recording is silent.
        """
        chosen = self._choose(voice)
        speed = min(max(speed, SLOWEST), FASTEST)
        assert self._batcher is not None, "load comes first"  # noqa: S101
        wanted = True
        try:
            heard: Reference = await self._batcher.ask(chosen)
            parts = pieces(text, most_bytes(heard.frames, heard.text, speed))
            said = 0
            for number, part in enumerate(parts):
                frames = piece_frames(heard.frames, heard.text, part, speed)
                wave = await self._batcher.ask(_Piece(heard, part, frames, lambda: wanted), urgent=number == 0)
                words = spread(part, *active_span(wave, RATE_HZ))
                shaped, moved = shape(wave, RATE_HZ, pause_ms(part) / speed, words)
                for piece in slices(shaped, RATE_HZ, moved, said):
                    yield piece
                said += len(shaped)
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
            raise ValueError("f5 has no voice of its own here: add one (parley voices add) and name it")
        if name not in self._voices:
            raise ValueError(f"unknown voice {name!r}: there is no cloned voice of that name")
        return self._voices[name]

    def _answer(self, questions: Sequence[ClonedVoice | _Piece]) -> list[Any]:
        """In the model's thread."""
        return [self._hear(one) if isinstance(one, ClonedVoice) else self._say(one) for one in questions]

    def _hear(self, voice: ClonedVoice) -> Reference:
        digest = voice.info.digest
        heard = self._heard.get(digest)
        if heard is None:
            heard = self._model.listen(reference_samples(voice), reference_text(voice.info.text))
        _keep(self._heard, digest, heard)
        return heard

    def _say(self, piece: _Piece) -> Any:
        return self._model(piece.heard, piece.text, piece.frames, piece.wanted)


def _keep(kept: OrderedDict[str, Any], key: str, value: Any) -> None:
    """Put it in as the newest, and let the oldest go where there are too many."""
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > VOICES_KEPT:
        kept.popitem(last=False)
