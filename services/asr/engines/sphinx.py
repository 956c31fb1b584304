"""The embedded recogniser: PocketSphinx with the US-English model of its wheel.

Its Python binding holds the interpreter lock while it decodes, for a second or more. So its C interface, which the
same shared object exports, is called through ctypes, which releases the lock. An utterance borrows a decoder from a
pool, and leaves no state in it for the next utterance.
"""

import asyncio
import ctypes
import json
import re
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pocketsphinx
from pocketsphinx import _pocketsphinx

from services.asr.engine import Transcript, Utterance
from shared.protocol.session import RATE_HZ
from shared.settings import Settings

T = TypeVar("T")

FIRST_MS = 1000
"""Decoding begins with this much audio, or at the end. The cepstral mean for decoding is measured on it."""
RESTART_MS = 2000
"""Here the mean is measured again and decoding restarts. This corrects one in six of the wrong words."""
PAUSE_MS, PAUSE_LEVEL = 100, 0.05
"""No restart while the latest audio of this length stays below this share of the peak: the utterance may be ending."""
PARTIAL_MS = 250
"""New audio needed for the next partial transcript."""
FEED_MS = 80
"""Audio that is passed to the thread in one call. Less is not worth the thread switch."""
SOFTEST = 8
"""Blocks of 10 ms with no sample above this (of 32768) are digital silence and are left out of the cepstral mean."""
SHORT_MS = 1500
"""An utterance that is not longer, with the silence around it, is also compared with the words below."""
MURMURS = (
    "uh-huh | mhm | mm hm | hmm | mm | huh | uh | um | oh | ah | aha | yeah | yep | yes | okay | right | sure | i see"
)
SHORT_WORDS = (
    "stop [it] | wait [a (moment | minute)] | no | no no | hold on | hang on | excuse me | not that | what | why | "
    "please | thanks | hello | sorry"
)
"""What people say into a reply without taking the floor, and what they take it with. The language model of 20,000 words
finds "the memo" in "mm-hmm"; of these few, a murmur is the most similar."""
TYPICAL_MEAN = (40.0, 3.0, -1.0, *(0.0,) * 10)
"""PocketSphinx's default, for audio that is too short to measure."""

# The second pass (fwdflat) takes 50 ms for each second of speech, at the end, without a gain in accuracy here.
# A third of the default number of active states does not change any word, and keeps up with noisy speech.
_CONFIG = {"fwdflat": False, "maxhmmpf": 10_000, "loglevel": "FATAL"}
_BYTES_PER_MS = 2 * RATE_HZ // 1000
_BLOCK = RATE_HZ // 100  # samples of a frame
_MEAN_WEIGHT = 500  # frames that a set mean counts for in the library's running sum (CMN_WIN in its cmn.h)
_DECODE, _MEASURE, _SHORT = b"_default", b"measure", b"short"
_MURMURS = frozenset(MURMURS.split(" | "))
_NO_WORDS = re.compile(r"<[^>]*>|\[[^\]]*\]|\+\+[^+]*\+\+|\(\d+\)")


class _Decoder:
    """One PocketSphinx decoder. Blocking, for one thread at a time."""

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
        # `measure` uses a search for one keyphrase. Ending an utterance decodes its frames, and this search is cheap.
        grammar = f"#JSGF V1.0; grammar short; public <short> = {MURMURS} | {SHORT_WORDS};".encode()
        if (
            not self._ps
            or lib.ps_add_keyphrase(self._ps, _MEASURE, b"forward") != 0
            or lib.ps_add_jsgf_string(self._ps, _SHORT, grammar) != 0
        ):
            raise RuntimeError(f"PocketSphinx cannot load its model in {model}")

    def free(self) -> None:
        self._lib.ps_free(self._ps)
        self._ps = None

    def start(self, mean: tuple[float, ...], search: bytes = _DECODE) -> None:
        """Begin an utterance, without state of earlier ones."""
        self._lib.ps_activate_search(self._ps, search)
        self._lib.ps_start_stream(self._ps)
        self._lib.ps_set_cmn(self._ps, ",".join(f"{value:g}" for value in mean).encode())
        self._lib.ps_start_utt(self._ps)

    def feed(self, pcm: bytes, *, search: bool = True) -> None:
        self._lib.ps_process_raw(self._ps, pcm, len(pcm) // 2, not search, False)

    def end(self) -> None:
        self._lib.ps_end_utt(self._ps)

    def words(self) -> str:
        words: bytes | None = self._lib.ps_get_hyp(self._ps, None)
        return " ".join(_NO_WORDS.sub("", (words or b"").decode()).split())

    def is_murmur(self, pcm: bytes, mean: tuple[float, ...]) -> bool:
        """Whether a short utterance resembles a murmur more than the other short words, or none of them."""
        self.start(mean, _SHORT)
        self.feed(pcm)
        self.end()
        found = self.words()
        return not found or found in _MURMURS

    def measure(self, pcm: bytes) -> tuple[float, ...]:
        """Return the cepstral mean of the audio; `TYPICAL_MEAN` if it is too short."""
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
    """Return PocketSphinx's C interface (pocketsphinx.h), with signatures.

    Raises:
        RuntimeError: this build does not export a function.
    """
    lib = ctypes.CDLL(_pocketsphinx.__file__)
    decoder, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    signatures = {
        "ps_config_parse_json": (decoder, decoder, text),
        "ps_config_free": (number, decoder),
        "ps_init": (decoder, decoder),
        "ps_free": (number, decoder),
        "ps_add_keyphrase": (number, decoder, text, text),
        "ps_add_jsgf_string": (number, decoder, text, text),
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

    A decoder takes 0.3 to 0.7 s to create and 95 MB. One is created by `load`, more when utterances overlap.
    """

    languages = ("en",)

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
            raise ValueError(
                f"the recogniser sphinx does not know the language {language!r}; it knows English (en) only"
            )
        await self._free.acquire()
        try:
            decoder = self._idle.pop() if self._idle else await asyncio.wrap_future(self._threads.submit(_Decoder))
        except BaseException:  # also when cancelled, so that the slot is not lost
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
    """See `engine.Utterance`. Keeps all audio, so that decoding can restart."""

    def __init__(self, decoder: _Decoder, threads: ThreadPoolExecutor, give_back: Callable[[_Decoder], None]) -> None:
        self._decoder = decoder
        self._threads = threads
        self._give_back = give_back
        self._loop = asyncio.get_running_loop()
        self._job: Future[Any] | None = None
        self._pcm = bytearray()
        self._fed = 0  # bytes passed to the decoder; 0: decoding has not begun
        self._measured = 0  # bytes on which the mean was measured
        self._mean: tuple[float, ...] = TYPICAL_MEAN
        self._partial_at = 0  # bytes decoded at the latest partial transcript
        self._partial = ""
        self._final: Transcript | None = None  # of all audio so far; None: not decoded yet

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
            text = await self._run(self._decode_to_end)
            short = bool(text) and len(self._pcm) <= SHORT_MS * _BYTES_PER_MS
            murmur = short and await self._run(lambda: self._decoder.is_murmur(bytes(self._pcm), self._mean))
            self._final = Transcript(text, "en", murmur=murmur)
        return self._final

    def close(self) -> None:
        job, self._job = self._job, None
        if job is None or job.done():
            self._give_back(self._decoder)
        else:  # cancelled while the thread still decodes
            job.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._give_back, self._decoder))

    async def _run(self, work: Callable[[], T]) -> T:
        job = self._job = self._threads.submit(work)
        return await asyncio.wrap_future(job)

    # -- in the thread ------------------------------------------------------------------------------

    def _decode(self) -> str:
        """Decode new audio. Returns the partial transcript, updated at most every `PARTIAL_MS` of audio."""
        self._feed()
        if self._fed - self._partial_at < PARTIAL_MS * _BYTES_PER_MS:
            return self._partial
        self._partial_at = self._fed
        return self._decoder.words()

    def _decode_to_end(self) -> str:
        """Decode all audio and return the transcript. Decoding restarts from the beginning when more audio comes."""
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
        """Pass new audio to the decoder; begin or restart decoding where due."""
        restart = self._measured < RESTART_MS * _BYTES_PER_MS <= len(self._pcm)
        if self._fed and restart and not self._is_pausing():
            self._decoder.end()
            self._fed = 0
        if not self._fed:
            # After a pause within the turn, keep the mean: the transcript must be the same as without the pause.
            if self._measured < RESTART_MS * _BYTES_PER_MS:
                self._mean = self._decoder.measure(bytes(self._pcm))
                self._measured = len(self._pcm)
            self._decoder.start(self._mean)
        # In equal steps, however the audio arrived: the library updates its mean after every step.
        step = FEED_MS * _BYTES_PER_MS
        while len(self._pcm) - self._fed >= (1 if to_the_end else step):
            self._decoder.feed(bytes(self._pcm[self._fed : self._fed + step]))
            self._fed = min(self._fed + step, len(self._pcm))
