"""Any recogniser of transformers: Whisper, Moonshine, Parakeet, Voxtral and the others, by the name of the model.

Utterances of all sessions share calls of the model. While a person speaks, all that they said is decoded again and again,
and the words on which two decodings agree are the partial transcript; nobody waits for a partial one, and a final one goes
first. What lies more than half a minute back is settled and not decoded again.
"""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import Future

import numpy as np
import structlog

from services.asr.agreement import Agreement
from services.asr.engine import Transcript, Utterance
from services.asr.families import Clip, Heard, Model, load_model, silent_clip
from services.asr.guards import has_voice, is_invented, is_too_much, without_loops
from shared.batching import Batcher
from shared.devices import device_kind, open_device
from shared.models import find_model, model_name
from shared.session import RATE_HZ
from shared.settings import Settings

log = structlog.get_logger()

FIRST_PARTIAL_MS, PARTIAL_MS = 300, 400
"""Audio before the first partial decoding, and between two."""

PARTIAL_SHARE = 0.34
"""Part of the time, at most, in which an utterance is being decoded for partial transcripts; a slow model has fewer."""

WINDOW_S, KEPT_S = 28.0, 8.0
"""Whisper hears 30 s at once. When a window is full, all but the end of it is settled, cut where it is quietest."""

_BYTES_PER_S = 2 * RATE_HZ
_QUIET = RATE_HZ // 5  # samples of the pause that is looked for


class TransformersRecognizer:
    """See `engine.Recognizer`."""

    def __init__(self, settings: Settings) -> None:
        self.slots = settings.model_slots
        self._settings = settings
        self._model: Model
        self._batcher: Batcher[Clip, Heard] | None = None

    async def load(self) -> None:
        """Raises `UnknownEngine` if the model, or what runs it, is not there."""
        settings = self._settings
        self._model = await asyncio.to_thread(self._load)
        self._batcher = Batcher(
            "asr",
            self._model.transcribe,
            most=settings.batch,
            wait_ms=settings.batch_ms,
            timeout_s=600 if settings.compile else 120,
            cost=lambda clip: clip.seconds,
        )
        language = self._known(settings.language)
        for count in _batch_sizes(settings.batch if settings.compile else 1):
            await asyncio.gather(*(self._batcher.ask(silent_clip(3, language)) for _ in range(count)))

    def _load(self) -> Model:
        name = model_name("asr", "transformers", self._settings.asr_model, device_kind(self._settings))
        return load_model(find_model(name), open_device(self._settings), self._settings)

    async def open(self, language: str) -> Utterance:
        """See `engine.Recognizer`; an empty language is found out, by the models that can.

        Raises:
            ValueError: the model does not know the language.
        """
        assert self._batcher is not None, "load comes first"  # noqa: S101
        return TransformersUtterance(self._batcher, self._known(language))

    def _known(self, language: str) -> str:
        code = language.lower().replace("_", "-").partition("-")[0]
        languages = self._model.languages
        if code in ("", "auto") and (self._model.detects or not languages):
            return ""
        if languages and code not in languages:
            known = ", ".join(sorted(languages)[:12])
            raise ValueError(f"the recogniser has no {language!r}: it knows {len(languages)} languages ({known}, …)")
        return code

    async def close(self) -> None:
        if self._batcher is not None:
            await self._batcher.close()


class TransformersUtterance:
    """See `engine.Utterance`."""

    def __init__(self, batcher: Batcher[Clip, Heard], language: str) -> None:
        self._batcher, self._language = batcher, language
        self._pcm = bytearray()  # of the window
        self._settled: list[str] = []  # of the windows before it
        self._agreement, self._agreed = Agreement(), ""
        self._pending: Future[Heard] | None = None
        self._asked_bytes = 0  # of the window, at the last partial decoding
        self._asked_at_s = self._took_s = 0.0
        self._partial = ""
        self._final: Transcript | None = None  # of all of it, where it is known

    async def accept(self, pcm: bytes) -> str | None:
        self._pcm += pcm
        self._final = None
        if len(self._pcm) > WINDOW_S * _BYTES_PER_S:
            await self._settle()
        self._take_partial()
        self._ask_partial()
        partial = " ".join([*self._settled, self._agreed]).strip()
        if partial == self._partial:
            return None
        self._partial = partial
        return partial

    async def finish(self) -> Transcript:
        if self._final is None:
            self._drop_partial()
            heard = await self._decode(bytes(self._pcm))
            text = " ".join([*self._settled, heard.text]).strip()
            self._final = Transcript(text, heard.language or self._language)
        return self._final

    def close(self) -> None:
        self._drop_partial()

    async def _decode(self, pcm: bytes) -> Heard:
        """What was said, with nothing invented."""
        if not has_voice(pcm):
            return Heard("", self._language)
        clip = _clip(pcm, self._language)
        return _trusted(await self._batcher.ask(clip), clip)

    def _take_partial(self) -> None:
        """The answer to the last partial question, if it has come."""
        pending = self._pending
        if pending is None or not pending.done():
            return
        self._pending = None
        self._took_s = time.monotonic() - self._asked_at_s
        if not pending.cancelled() and pending.exception() is None:
            clip = _clip(bytes(self._pcm[: self._asked_bytes]), self._language)
            self._agreed = self._agreement.take(_trusted(pending.result(), clip).text)

    def _ask_partial(self) -> None:
        least_ms = PARTIAL_MS if self._asked_bytes else FIRST_PARTIAL_MS
        fresh = len(self._pcm) - self._asked_bytes >= least_ms * _BYTES_PER_S // 1000
        rested = time.monotonic() - self._asked_at_s >= self._took_s / PARTIAL_SHARE
        if self._pending is None and fresh and rested and has_voice(bytes(self._pcm)):
            self._asked_bytes, self._asked_at_s = len(self._pcm), time.monotonic()
            self._pending = self._batcher.submit(_clip(bytes(self._pcm), self._language))

    def _drop_partial(self) -> None:
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None

    async def _settle(self) -> None:
        """Decode the window up to its quietest place for good, and go on from there."""
        self._drop_partial()
        cut = 2 * _quietest(np.frombuffer(bytes(self._pcm), "<i2"))
        heard = await self._decode(bytes(self._pcm[:cut]))
        if heard.text:
            self._settled.append(heard.text)
        del self._pcm[:cut]
        self._agreement, self._agreed, self._asked_bytes = Agreement(), "", 0


def _clip(pcm: bytes, language: str) -> Clip:
    return Clip((np.frombuffer(pcm, "<i2") / np.float32(32_768)).astype(np.float32), language)


def _trusted(heard: Heard, clip: Clip) -> Heard:
    """What a model wrote, less what it made up."""
    text = without_loops(heard.text)
    if is_invented(heard.no_speech, heard.confidence) or is_too_much(text, clip.seconds):
        text = ""
    return Heard(text, heard.language, heard.no_speech, heard.confidence)


def _quietest(samples: np.ndarray[tuple[int], np.dtype[np.int16]]) -> int:
    """Where to cut a full window: the middle of its quietest fifth of a second, in its last third."""
    first = round((WINDOW_S - 2 * KEPT_S) * RATE_HZ)
    last = len(samples) - round(KEPT_S / 4 * RATE_HZ)
    blocks = samples[first:last]
    blocks = blocks[: len(blocks) // _QUIET * _QUIET].reshape(-1, _QUIET).astype(np.float32)
    return first + int(np.square(blocks).mean(axis=1).argmin()) * _QUIET + _QUIET // 2


def _batch_sizes(most: int) -> Sequence[int]:
    """Those that are compiled for before the first call: powers of two."""
    return [size for size in (1, 2, 4, 8, 16, 32, 64) if size <= most]
