"""Utterances of an offline model, which transcribes whole clips.

While a person speaks, the audio so far is decoded again and again. The partial transcript is the words on which two
consecutive decodings agree. A final decoding is called first. It is saved where the latest partial one has all of the
voice: when the voice stops, one is requested at once, before it is known whether the turn is over. Audio that is more
than half a minute old is settled: decoded a last time and not again.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol

import numpy as np
import structlog

from services.asr.engine import Transcript
from services.asr.engines.guards import VoiceEnd, VoiceGate, has_voice, is_murmur
from services.asr.engines.local_agreement import LocalAgreement
from services.asr.engines.model import BYTES_PER_S, Clip, Recognition
from shared.engines.registry import EngineLost
from shared.protocol.session import RATE_HZ, Word

log = structlog.get_logger()

FIRST_PARTIAL_MS, PARTIAL_MS = 300, 400
"""New audio needed for the first partial decoding, and for each further one."""

PARTIAL_SHARE, LULL_SHARE = 0.34, 1.0
"""Share of the time that partial decodings of an utterance may take, and those at a lull. A slow or busy model is asked
less often."""

LULL_MS, TAIL_MS = 60, 40
"""Silence after which a partial decoding is requested at once, and what one needs after the voice to have all of it."""

PREROLL_MS = 300
"""Audio before the voice, as the vad stage sends it by default (`preroll_ms`)."""

WINDOW_S, KEPT_S = 28.0, 8.0
"""Whisper takes 30 s at once. A full window is settled up to a quiet place in its last 2 * KEPT_S seconds."""

_WINDOW_BYTES = round(WINDOW_S * BYTES_PER_S)
_LULL_BYTES, _TAIL_BYTES = LULL_MS * BYTES_PER_S // 1000, TAIL_MS * BYTES_PER_S // 1000
_QUIET = RATE_HZ // 5  # samples of the block whose loudness is compared


class Decoder(Protocol):
    """Decodes clips of all utterances: a `Batcher` for a model on this machine, or a server."""

    async def ask(self, question: Clip, /) -> Recognition:
        """Decode a clip that somebody waits for."""
        ...

    def submit(self, question: Clip, /) -> Future[Recognition]:
        """Decode a clip without waiting. The future may be cancelled."""
        ...

    async def wait(self, future: Future[Recognition], /) -> Recognition:
        """Wait for what was submitted. It goes before what nobody waits for."""
        ...


class OfflineUtterance:
    """See `engine.Utterance`."""

    def __init__(
        self,
        decoder: Decoder,
        language: str,
        hints: str,
        clock: Callable[[], float] = time.monotonic,
        *,
        partials: bool = True,
    ) -> None:
        """`partials`: whether to decode while the person speaks."""
        self._decoder, self._language, self._hints, self._clock = decoder, language, hints, clock
        self._partials = partials
        self._pieces: list[bytes] = []  # the audio of the current window
        self._bytes = 0  # length of the current window
        self._voice, self._voice_end = VoiceGate(), VoiceEnd()  # of the current window
        self._settled: list[Recognition] = []  # of the windows before the current one
        self._settled_samples = 0
        self._agreement, self._agreed = LocalAgreement(), ""
        self._decoding: Future[Recognition] | None = None  # the latest partial decoding of the window
        self._decoding_bytes = 0  # length of the window when it was requested
        self._awaited = False  # its result is not taken yet
        self._asked_at_s = self._took_s = 0.0  # when the latest partial decoding was requested, and how long it took
        self._partial = ""
        self._final: Transcript | None = None  # of all audio so far; None: not decoded yet

    async def accept(self, pcm: bytes) -> str | None:
        self._pieces.append(pcm)
        self._bytes += len(pcm)
        self._voice.add(pcm)
        self._voice_end.add(pcm)
        self._final = None
        while self._bytes > _WINDOW_BYTES:
            await self._settle()
        self._take_partial()
        self._request_partial()
        partial = " ".join([*(settled.text for settled in self._settled), self._agreed]).strip()
        if partial == self._partial:
            return None
        self._partial = partial
        return partial

    async def finish(self) -> Transcript:
        if self._final is None:
            latest = await self._decode() if self._voice.is_open else Recognition("")
            parts = [*self._settled, _shifted(latest, self._settled_samples)]
            text = " ".join(part.text for part in parts if part.text)
            words = tuple(word for part in parts for word in part.words)
            if len(words) != len(text.split()):
                words = ()
            language = next((part.language for part in reversed(parts) if part.language), self._language)
            self._final = Transcript(text, language, words, latest.confidence, self._is_murmur(latest))
        return self._final

    def _is_murmur(self, latest: Recognition) -> bool:
        """Whether the whole utterance is a murmur. Its audio begins with up to `PREROLL_MS` without voice."""
        if self._settled:
            return False
        seconds = self._voice_end.position / BYTES_PER_S - PREROLL_MS / 1000
        return is_murmur(seconds, latest.confidence)

    def close(self) -> None:
        self._cancel_partial()

    async def _decode(self) -> Recognition:
        """Return the words of the window: those of the latest partial decoding, if that has all of the voice."""
        decoding = self._decoding
        if decoding is None or decoding.cancelled() or not self._has_all_voice():
            self._cancel_partial()
            return await self._decoder.ask(self._window())
        try:
            return await self._decoder.wait(decoding)
        except EngineLost:
            raise
        except Exception as error:  # noqa: BLE001 - whatever the model raised
            log.warning("partial transcript failed", error=repr(error))
            return await self._decoder.ask(self._window())

    def _has_all_voice(self) -> bool:
        """Whether the latest partial decoding has all of the voice."""
        return self._decoding_bytes >= self._voice_end.position + _TAIL_BYTES

    def _window(self) -> Clip:
        return Clip(tuple(self._pieces), self._language, self._hints)

    def _take_partial(self) -> None:
        """Take the result of the partial decoding, if it is done."""
        decoding = self._decoding
        if not self._awaited or decoding is None or not decoding.done():
            return
        self._awaited = False
        error = None if decoding.cancelled() else decoding.exception()
        if isinstance(error, EngineLost):
            raise error
        if error is not None:  # a final decoding raises it if it lasts
            log.warning("partial transcript failed", error=repr(error))
            self._decoding = None
        elif not decoding.cancelled():
            self._agreed = self._agreement.add(decoding.result().text)

    def _request_partial(self) -> None:
        if self._awaited or not self._partials or not self._voice.is_open:
            return
        least_ms = PARTIAL_MS if self._decoding_bytes else FIRST_PARTIAL_MS
        enough = self._bytes - self._decoding_bytes >= least_ms * BYTES_PER_S // 1000
        silent = self._bytes - self._voice_end.position
        rested_s = self._clock() - self._asked_at_s
        # While it is silent, but not for long enough, a decoding would be in the way of the one at the lull.
        due = silent < _TAIL_BYTES and enough and rested_s >= self._took_s / PARTIAL_SHARE
        lull = silent >= _LULL_BYTES and not self._has_all_voice() and rested_s >= self._took_s / LULL_SHARE
        if due or lull:
            self._decoding_bytes, self._asked_at_s = self._bytes, self._clock()
            self._decoding, self._awaited = self._decoder.submit(self._window()), True
            self._decoding.add_done_callback(self._measure)

    def _measure(self, done: Future[Recognition]) -> None:
        """Measure a decoding when it is done; its result may be taken much later, with the next audio."""
        if not done.cancelled():
            self._took_s = self._clock() - self._asked_at_s

    def _cancel_partial(self) -> None:
        if self._decoding is not None:
            self._decoding.cancel()
        self._decoding, self._awaited = None, False

    async def _settle(self) -> None:
        """Decode the window up to its quietest place for the last time, and begin a new window there."""
        self._cancel_partial()
        pcm = b"".join(self._pieces)
        cut = 2 * quietest(np.frombuffer(pcm[:_WINDOW_BYTES], "<i2"))
        if has_voice(pcm[:cut]):
            recognition = await self._decoder.ask(Clip((pcm[:cut],), self._language, self._hints))
            if recognition.text:
                self._settled.append(_shifted(recognition, self._settled_samples))
        self._settled_samples += cut // 2
        self._pieces, self._bytes = [pcm[cut:]], len(pcm) - cut
        self._voice, self._voice_end = VoiceGate(), VoiceEnd()
        self._voice.add(pcm[cut:])
        self._voice_end.add(pcm[cut:])
        self._agreement, self._agreed, self._decoding_bytes = LocalAgreement(), "", 0


def _shifted(recognition: Recognition, samples: int) -> Recognition:
    """Return the recognition with all its timestamps later by `samples`."""
    words = tuple(Word(word.text, word.start + samples, word.end + samples) for word in recognition.words)
    return Recognition(recognition.text, recognition.language, recognition.no_speech, recognition.confidence, words)


def quietest(samples: np.ndarray[tuple[int], np.dtype[np.int16]]) -> int:
    """Return where to cut a full window: the middle of the quietest 200 ms between 12 s and 26 s of 28 s."""
    first = round((WINDOW_S - 2 * KEPT_S) * RATE_HZ)
    last = len(samples) - round(KEPT_S / 4 * RATE_HZ)
    blocks = samples[first:last]
    blocks = blocks[: len(blocks) // _QUIET * _QUIET].reshape(-1, _QUIET).astype(np.float32)
    return first + int(np.square(blocks).mean(axis=1).argmin()) * _QUIET + _QUIET // 2
