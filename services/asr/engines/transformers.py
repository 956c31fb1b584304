"""Any recogniser of transformers: Whisper, Moonshine, Parakeet, Voxtral and the others, by the name of the model.

Utterances of all sessions share calls of the model. While a person speaks, all that they said is decoded again and again,
and the words on which two decodings agree are the partial transcript; nobody waits for a partial one, and a final one goes
first. What lies more than half a minute back is settled and not decoded again.

A model that hears as it is spoken to needs none of that: its utterances are those of `realtime`.
"""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import Future

import numpy as np
import structlog

from services.asr.engine import Transcript, Utterance
from services.asr.engines.agreement import Agreement
from services.asr.engines.clips import BYTES_PER_S, Clip, Model, Recognition, silent_clip, trusted
from services.asr.engines.families import load_model
from services.asr.engines.guards import Voice, has_voice
from services.asr.engines.languages import model_language
from services.asr.engines.realtime import Streams
from services.asr.engines.voxtral_realtime import Realtime
from shared.engines.batching import Batcher
from shared.engines.devices import device_kind, open_device
from shared.engines.models import find_model, model_name
from shared.engines.registry import EngineLost, UnknownEngine
from shared.protocol.session import RATE_HZ, Word
from shared.settings import Settings

log = structlog.get_logger()

FIRST_PARTIAL_MS, PARTIAL_MS = 300, 400
"""Audio before the first partial decoding, and between two."""

PARTIAL_SHARE = 0.34
"""Part of the time, at most, in which an utterance waits for partial transcripts; a slow or busy model has fewer."""

WINDOW_S, KEPT_S = 28.0, 8.0
"""Whisper hears 30 s at once. When a window is full, all but the end of it is settled, cut where it is quietest."""

_WINDOW_BYTES = round(WINDOW_S * BYTES_PER_S)
_QUIET = RATE_HZ // 5  # samples of the pause that is looked for


class TransformersRecognizer:
    """See `engine.Recognizer`."""

    def __init__(self, settings: Settings) -> None:
        self.slots = settings.model_slots
        self._settings = settings
        self._model: Model
        self._batcher: Batcher[Clip, Recognition] | None = None
        self._streams: Streams | None = None  # in place of it, where the model hears as it is spoken to

    async def load(self) -> None:
        """Raises `UnknownEngine` if the model, or what runs it, is not there."""
        settings = self._settings
        self._model = await asyncio.to_thread(self._load)
        try:
            language = self._known(settings.session.language)
        except ValueError as error:
            raise UnknownEngine(f"PARLEY_LANGUAGE: {error}") from error
        try:
            await self._warm_up(language)
        except EngineLost:
            raise
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError) as error:
            raise UnknownEngine(f"the recogniser was loaded, but hears nothing: {error}") from error

    async def _warm_up(self, language: str) -> None:
        settings = self._settings
        if isinstance(self._model, Realtime):
            self._streams = Streams(self._model, settings)
            await self._streams.warm_up()
            return
        most = 1 if self._model.alone else settings.batch
        self._batcher = Batcher(
            "asr",
            self._answer,
            most=most,
            wait_ms=settings.batch_ms,
            timeout_s=600 if settings.compile else 120,
            cost=lambda clip: clip.seconds,
        )
        for count in _batch_sizes(most if settings.compile else 1):
            await asyncio.gather(*(self._batcher.ask(silent_clip(3, language)) for _ in range(count)))

    def _load(self) -> Model:
        name = model_name("asr", "transformers", self._settings.asr_model, device_kind(self._settings))
        return load_model(find_model(name), open_device(self._settings), self._settings)

    def _answer(self, clips: Sequence[Clip]) -> list[Recognition]:
        return [trusted(heard, clip) for heard, clip in zip(self._model.transcribe(clips), clips, strict=True)]

    async def open(self, language: str, hints: str = "") -> Utterance:
        """See `engine.Recognizer`; an empty language, or `auto`, is found out, by the models that can.

        Raises:
            ValueError: the model does not know the language.
        """
        if self._streams is not None:
            return await self._streams.open(self._known(language))
        assert self._batcher is not None, "load comes first"  # noqa: S101
        return TransformersUtterance(self._batcher, self._known(language), hints.strip())

    def _known(self, language: str) -> str:
        return model_language(language, self._model.languages, detects=self._model.detects)

    async def close(self) -> None:
        for opened in (self._batcher, self._streams):
            if opened is not None:
                await opened.close()


class TransformersUtterance:
    """See `engine.Utterance`."""

    def __init__(self, batcher: Batcher[Clip, Recognition], language: str, hints: str) -> None:
        self._batcher, self._language, self._hints = batcher, language, hints
        self._pieces: list[bytes] = []  # of the window
        self._bytes = 0  # in them
        self._voice = Voice()  # in them
        self._settled: list[Recognition] = []  # of the windows before it
        self._settled_samples = 0
        self._agreement, self._agreed = Agreement(), ""
        self._pending: Future[Recognition] | None = None
        self._asked_bytes = 0  # of the window, at the last partial decoding
        self._asked_at_s = self._took_s = 0.0
        self._partial = ""
        self._final: Transcript | None = None  # of all of it, where it is known

    async def accept(self, pcm: bytes) -> str | None:
        self._pieces.append(pcm)
        self._bytes += len(pcm)
        self._voice.hear(pcm)
        self._final = None
        while self._bytes > _WINDOW_BYTES:
            await self._settle()
        self._take_partial()
        self._ask_partial()
        partial = " ".join([*(heard.text for heard in self._settled), self._agreed]).strip()
        if partial == self._partial:
            return None
        self._partial = partial
        return partial

    async def finish(self) -> Transcript:
        if self._final is None:
            self._drop_partial()
            heard = await self._batcher.ask(self._clip()) if self._voice.heard else Recognition("")
            found = [*self._settled, _moved(heard, self._settled_samples)]
            text = " ".join(one.text for one in found if one.text)
            words = tuple(word for one in found for word in one.words)
            if len(words) != len(text.split()):
                words = ()
            language = next((one.language for one in reversed(found) if one.language), self._language)
            self._final = Transcript(text, language, words)
        return self._final

    def close(self) -> None:
        self._drop_partial()

    def _clip(self) -> Clip:
        return Clip(tuple(self._pieces), self._language, self._hints)

    def _take_partial(self) -> None:
        """The answer to the last partial question, if it has come."""
        pending = self._pending
        if pending is None or not pending.done():
            return
        self._pending = None
        error = None if pending.cancelled() else pending.exception()
        if isinstance(error, EngineLost):
            raise error
        if error is not None:  # the final decoding will say so where it counts
            log.warning("partial_transcript_failed", error=repr(error))
        elif not pending.cancelled():
            self._agreed = self._agreement.take(pending.result().text)

    def _ask_partial(self) -> None:
        least_ms = PARTIAL_MS if self._asked_bytes else FIRST_PARTIAL_MS
        fresh = self._bytes - self._asked_bytes >= least_ms * BYTES_PER_S // 1000
        rested = time.monotonic() - self._asked_at_s >= self._took_s / PARTIAL_SHARE
        if self._pending is None and fresh and rested and self._voice.heard:
            self._asked_bytes, self._asked_at_s = self._bytes, time.monotonic()
            self._pending = self._batcher.submit(self._clip())
            self._pending.add_done_callback(self._note_time)

    def _note_time(self, answered: Future[Recognition]) -> None:
        """When the answer is there, which may be long before more audio comes."""
        if not answered.cancelled():
            self._took_s = time.monotonic() - self._asked_at_s

    def _drop_partial(self) -> None:
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None

    async def _settle(self) -> None:
        """Decode the window up to its quietest place for good, and go on from there."""
        self._drop_partial()
        pcm = b"".join(self._pieces)
        cut = 2 * quietest(np.frombuffer(pcm[:_WINDOW_BYTES], "<i2"))
        if has_voice(pcm[:cut]):
            heard = await self._batcher.ask(Clip((pcm[:cut],), self._language, self._hints))
            if heard.text:
                self._settled.append(_moved(heard, self._settled_samples))
        self._settled_samples += cut // 2
        self._pieces, self._bytes, self._voice = [pcm[cut:]], len(pcm) - cut, Voice()
        self._voice.hear(pcm[cut:])
        self._agreement, self._agreed, self._asked_bytes = Agreement(), "", 0


def _moved(heard: Recognition, samples: int) -> Recognition:
    """The same with the times of its words later by so much."""
    words = tuple(Word(word.text, word.start + samples, word.end + samples) for word in heard.words)
    return Recognition(heard.text, heard.language, heard.no_speech, heard.confidence, words)


def quietest(samples: np.ndarray[tuple[int], np.dtype[np.int16]]) -> int:
    """Where to cut a full window: the middle of its quietest fifth of a second, from its middle on and not quite at its end."""
    first = round((WINDOW_S - 2 * KEPT_S) * RATE_HZ)
    last = len(samples) - round(KEPT_S / 4 * RATE_HZ)
    blocks = samples[first:last]
    blocks = blocks[: len(blocks) // _QUIET * _QUIET].reshape(-1, _QUIET).astype(np.float32)
    return first + int(np.square(blocks).mean(axis=1).argmin()) * _QUIET + _QUIET // 2


def _batch_sizes(most: int) -> Sequence[int]:
    """Those that are compiled for before the first call: powers of two."""
    return [size for size in (1, 2, 4, 8, 16, 32, 64) if size <= most]
