"""The embedded recogniser: PocketSphinx with the US-English model that comes in its wheel.

Its Python binding holds the interpreter's lock while it decodes, a second or more at a time. So the C interface is
called, which the same shared object exports, through ctypes, which lets the lock go. An utterance borrows a decoder
from a pool; nothing of one utterance is left in it for the next.
"""

import asyncio
import ctypes
import json
import re
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import pocketsphinx
from pocketsphinx import _pocketsphinx

from services.asr.engine import Transcript, Utterance
from shared.protocol.session import RATE_HZ
from shared.settings import Settings

T = TypeVar("T")

FIRST_MS = 1000
"""Decoding begins with so much audio (or at the end): the cepstral mean that it needs is taken from it."""
AGAIN_MS = 2000
"""Here the mean is taken once more, and decoding begins anew: one word in six that would be wrong comes right."""
PAUSE_MS, PAUSE_LEVEL = 100, 0.05
"""But not while so much of the newest audio stays below this part of the loudest: the end may be near."""
PARTIAL_MS = 250
FEED_MS = 80
"""The least audio that is worth a way to the thread and back."""
SOFTEST = 8
"""Blocks of 10 ms that never exceed this (of 32768) are digital silence and say nothing about the channel."""
TYPICAL_MEAN = (40.0, 3.0, -1.0, *(0.0,) * 10)
"""PocketSphinx's own first guess, for audio too short to measure."""

# The second pass (fwdflat) costs 50 ms for each second of speech at the very end, and makes nothing better here.
# A third of the usual number of active states costs no word and keeps noisy speech from running late.
_CONFIG = {"fwdflat": False, "maxhmmpf": 10_000, "loglevel": "FATAL"}
_BYTES_PER_MS = 2 * RATE_HZ // 1000
_BLOCK = RATE_HZ // 100  # samples of a frame
_MEAN_WEIGHT = 500  # frames that a set mean counts for in the library's running sum (CMN_WIN in its cmn.h)
_DECODE, _MEASURE = b"_default", b"measure"
_NO_WORDS = re.compile(r"<[^>]*>|\[[^\]]*\]|\+\+[^+]*\+\+|\(\d+\)")


class _Decoder:
    """One PocketSphinx decoder. Blocks; used by one thread at a time."""

    def __init__(self) -> None:
        lib = self._lib = _library()
        model = Path(pocketsphinx.__file__).parent / "model" / "en-us"
        config = _CONFIG | {
            "hmm": str(model / "en-us"),
            "lm": str(model / "en-us.lm.bin"),
            "dict": str(model / "cmudict-en-us.dict"),
        }
        parsed = lib.ps_config_parse_json(None, json.dumps(config).encode())
        self._ps = lib.ps_init(parsed) if parsed else None
        lib.ps_config_free(parsed)
        # Another search is measured with, because ending an utterance decodes what was held back: it spots one word.
        if not self._ps or lib.ps_add_keyphrase(self._ps, _MEASURE, b"forward") != 0:
            raise RuntimeError(f"PocketSphinx cannot load its model in {model}")

    def free(self) -> None:
        self._lib.ps_free(self._ps)
        self._ps = None

    def start(self, mean: tuple[float, ...], search: bytes = _DECODE) -> None:
        """Begin an utterance as if it were the decoder's first."""
        self._lib.ps_activate_search(self._ps, search)
        self._lib.ps_start_stream(self._ps)
        self._lib.ps_set_cmn(self._ps, ",".join(f"{value:g}" for value in mean).encode())
        self._lib.ps_start_utt(self._ps)

    def feed(self, pcm: bytes, *, search: bool = True) -> None:
        self._lib.ps_process_raw(self._ps, pcm, len(pcm) // 2, not search, False)

    def end(self) -> None:
        self._lib.ps_end_utt(self._ps)

    def words(self) -> str:
        """What is understood so far."""
        words: bytes | None = self._lib.ps_get_hyp(self._ps, None)
        return " ".join(_NO_WORDS.sub("", (words or b"").decode()).split())

    def measure(self, pcm: bytes) -> tuple[float, ...]:
        """The cepstral mean of the audio."""
        samples = np.frombuffer(pcm, np.int16)
        blocks = samples[: samples.size // _BLOCK * _BLOCK].reshape(-1, _BLOCK)
        blocks = blocks[(blocks.max(axis=1) > SOFTEST) | (blocks.min(axis=1) < -SOFTEST)]
        frames = len(blocks) - 1  # a frame is a little longer than two blocks, and the last is padded
        if frames < PARTIAL_MS // 10:
            return TYPICAL_MEAN
        self.start((0.0,) * len(TYPICAL_MEAN), _MEASURE)
        self.feed(blocks.tobytes(), search=False)
        self.end()
        running = self._lib.ps_get_cmn(self._ps, False).decode().split(",")
        return tuple(float(value) * (_MEAN_WEIGHT + frames) / frames for value in running)


def _library() -> ctypes.CDLL:
    """PocketSphinx's C interface (pocketsphinx.h)."""
    lib = ctypes.CDLL(_pocketsphinx.__file__)
    decoder, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    signatures = {
        "ps_config_parse_json": (decoder, decoder, text),
        "ps_config_free": (number, decoder),
        "ps_init": (decoder, decoder),
        "ps_free": (number, decoder),
        "ps_add_keyphrase": (number, decoder, text, text),
        "ps_activate_search": (number, decoder, text),
        "ps_start_stream": (number, decoder),
        "ps_set_cmn": (number, decoder, text),
        "ps_get_cmn": (text, decoder, number),
        "ps_start_utt": (number, decoder),
        "ps_process_raw": (number, decoder, text, ctypes.c_size_t, number, number),
        "ps_end_utt": (number, decoder),
        "ps_get_hyp": (text, decoder, decoder),
    }
    for name, (result, *arguments) in signatures.items():
        function = getattr(lib, name, None)
        if function is None:
            raise RuntimeError(f"this build of PocketSphinx does not export {name}")
        function.restype, function.argtypes = result, arguments
    return lib


class SphinxRecognizer:
    """See `engine.Recognizer`.

    A decoder takes 0.3 to 0.7 s to make and 95 MB; one is made at load and more as utterances overlap.
    """

    def __init__(self, settings: Settings) -> None:
        self.slots = settings.asr_slots
        self._free = asyncio.Semaphore(self.slots)
        self._idle: list[_Decoder] = []
        self._threads = ThreadPoolExecutor(self.slots, thread_name_prefix="sphinx")

    async def load(self) -> None:
        warm_up = await self.open("en")
        await warm_up.accept(bytes(FIRST_MS * _BYTES_PER_MS))
        await warm_up.finish()
        warm_up.close()

    async def open(self, language: str, hints: str = "") -> Utterance:
        """See `engine.Recognizer`.

        Raises:
            ValueError: the language is not English.
        """
        if language.lower().replace("_", "-").partition("-")[0] != "en":
            raise ValueError(f"the recogniser sphinx has no {language!r}: it understands English (en) only")
        await self._free.acquire()
        try:
            decoder = self._idle.pop() if self._idle else await asyncio.wrap_future(self._threads.submit(_Decoder))
        except BaseException:  # also cancelled: the place must not be lost
            self._free.release()
            raise
        return SphinxUtterance(decoder, self._threads, self._give_back)

    def _give_back(self, decoder: _Decoder) -> None:
        self._idle.append(decoder)
        self._free.release()

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
        while self._idle:
            self._idle.pop().free()


class SphinxUtterance:
    """See `engine.Utterance`. All audio is kept, so that decoding can begin anew."""

    def __init__(self, decoder: _Decoder, threads: ThreadPoolExecutor, give_back: Callable[[_Decoder], None]) -> None:
        self._decoder = decoder
        self._threads = threads
        self._give_back = give_back
        self._loop = asyncio.get_running_loop()
        self._job: Future[str] | None = None
        self._pcm = bytearray()
        self._fed = 0  # bytes of it that the decoder was given; 0: it has not begun
        self._begun_at = 0  # bytes of it that were there when its mean was taken
        self._mean: tuple[float, ...] = TYPICAL_MEAN
        self._asked = 0  # bytes of it that the last partial transcript stands for
        self._partial = ""
        self._final: Transcript | None = None  # of all of it, where it is known

    async def accept(self, pcm: bytes) -> str | None:
        self._pcm += pcm
        self._final = None
        if len(self._pcm) < FIRST_MS * _BYTES_PER_MS or len(self._pcm) - self._fed < FEED_MS * _BYTES_PER_MS:
            return None
        partial = await self._run(self._decode)
        if partial == self._partial:
            return None
        self._partial = partial
        return partial

    async def finish(self) -> Transcript:
        if self._final is None:
            self._final = Transcript(await self._run(self._conclude), "en")
        return self._final

    def close(self) -> None:
        job, self._job = self._job, None
        if job is None or job.done():
            self._give_back(self._decoder)
        else:  # cancelled in the middle: the thread is still at it
            job.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._give_back, self._decoder))

    async def _run(self, work: Callable[[], str]) -> str:
        self._job = self._threads.submit(work)
        return await asyncio.wrap_future(self._job)

    # -- in the thread ------------------------------------------------------------------------------

    def _decode(self) -> str:
        """Decode what has come. Returns the transcript so far, unless the last one is too fresh."""
        self._feed()
        if self._fed - self._asked < PARTIAL_MS * _BYTES_PER_MS:
            return self._partial
        self._asked = self._fed
        return self._decoder.words()

    def _conclude(self) -> str:
        """Decode to the end. What comes after it begins anew, with all that was heard."""
        if not self._pcm:
            return ""
        self._feed(to_the_end=True)
        self._decoder.end()
        self._fed = 0
        return self._decoder.words()

    def _is_pausing(self) -> bool:
        samples = np.abs(np.frombuffer(bytes(self._pcm), np.int16).astype(np.int32))
        return bool(samples[-PAUSE_MS * RATE_HZ // 1000 :].max() < samples.max() * PAUSE_LEVEL)

    def _feed(self, *, to_the_end: bool = False) -> None:
        again = self._begun_at < AGAIN_MS * _BYTES_PER_MS <= len(self._pcm)
        if self._fed and again and not self._is_pausing():
            self._decoder.end()
            self._fed = 0
        if not self._fed:
            # After a pause that did not end the turn it decodes as if it had never concluded: with the mean that it had.
            if self._begun_at < AGAIN_MS * _BYTES_PER_MS:
                self._mean = self._decoder.measure(bytes(self._pcm))
                self._begun_at = len(self._pcm)
            self._decoder.start(self._mean)
        # In equal steps, however the audio came: the library moves its mean on after every step.
        step = FEED_MS * _BYTES_PER_MS
        while len(self._pcm) - self._fed >= (1 if to_the_end else step):
            self._decoder.feed(bytes(self._pcm[self._fed : self._fed + step]))
            self._fed = min(self._fed + step, len(self._pcm))
