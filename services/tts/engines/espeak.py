"""The embedded synthesizer: libespeak-ng in this process.

One thread speaks all sentences, one after another; a second of speech takes it about two milliseconds. The slices of a
sentence go to the event loop through a bounded queue. The thread waits while the queue is full. A cancelled sentence
ends at its next slice.
"""

import asyncio
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from queue import SimpleQueue

from services.tts.engine import Speech
from services.tts.engines.espeak_library import RATE_HZ, SLICE_MS, library
from services.tts.engines.waveform import CLOSERS, WORDS, pause_ms
from shared.protocol.session import Word
from shared.settings import Settings

DEFAULT_VOICE = "en-us"
NORMAL_WPM = 175
SLOWEST_WPM, FASTEST_WPM = 80, 450  # the range that espeak-ng documents
QUEUED_SLICES = 64
"""Capacity of a sentence's queue, about 12 s: the thread never waits during a sentence of usual length."""
CLOSE_TIMEOUT_S = 5.0

_KANA_ONLY = frozenset(("ja",))
"""espeak-ng reads each kanji as "Chinese letter", so it lists no Japanese, and reads runs of kana alone."""
_OPENERS = " \"'\u2018\u201c\u201e\u00ab([{\u300c\u300e\uff08"
# Control characters are commands to espeak-ng, and a NUL ends its text. Spaces instead keep the positions of the words.
_CONTROLS = dict.fromkeys((*range(32), *range(127, 160)), " ")


class _Sentence:
    """One sentence: espeak-ng's thread cuts it into slices with words, the event loop reads them."""

    def __init__(self, text: str, voice: str, wpm: int) -> None:
        self.text = text.translate(_CONTROLS).encode(errors="replace").decode()
        self.voice = voice
        self.wpm = wpm
        self.cancelled = False
        self._loop = asyncio.get_running_loop()
        # One place more than the semaphore allows slices: for the end of the sentence (None) or an error.
        self._queue: asyncio.Queue[Speech | Exception | None] = asyncio.Queue(QUEUED_SLICES + 1)
        self._room = threading.Semaphore(QUEUED_SLICES)
        self._word_starts = [match.start() for match in WORDS.finditer(self.text)]
        self._covered = 0  # characters of the text up to the end of the last complete word
        self._samples = 0
        # A slice waits here while one of its words has no end yet, at most for the length of that word.
        self._waiting: deque[tuple[bytes, list[Word]]] = deque()
        self._open: tuple[int, int, list[Word]] | None = None  # the open word: index, first sample, words of its slice

    def pronounced(self) -> str:
        """Return the text without quotation marks and brackets around it: espeak-ng turns them into half a second of
        silence.

        Spaces instead of the opening ones keep the positions of the words.
        """
        return self.text.rstrip(CLOSERS).lstrip(_OPENERS).rjust(len(self.text.rstrip(CLOSERS)))

    def receive(self, pcm: bytes, spoken: list[tuple[int, int]]) -> bool:
        """Take a slice and its words; see `espeak_library.OnSlice`."""
        words: list[Word] = []
        self._samples += len(pcm) // 2
        self._waiting.append((pcm, words))
        for position, sample in spoken:
            index = bisect_right(self._word_starts, position) - 1
            # "23" is reported as two words, and positions can be wrong after unusual characters: start a word only
            # once.
            if index >= 0 and (self._open is None or index > self._open[0]):
                self._end_word(index, sample)
                self._open = (index, sample, words)
        while self._waiting and not (self._open and self._open[2] is self._waiting[0][1]):
            self._post_slice()
        return not self.cancelled

    def finish(self, error: Exception | None) -> None:
        """Post the remaining slices and the end of the sentence, or the error."""
        if error is None:
            self._end_word(len(self._word_starts), self._samples)
            while self._waiting:
                self._post_slice()
        self._post(error)

    def _end_word(self, next_index: int, sample: int) -> None:
        """End the open word. Characters skipped before the next word (a dash, a bracket) belong to it."""
        if self._open is not None:
            _, start, words = self._open
            stop = self._word_starts[next_index] if next_index < len(self._word_starts) else len(self.text)
            words.append(Word(self.text[self._covered : stop].strip(), start, max(start, sample)))
            self._covered = stop

    def _post_slice(self) -> None:
        pcm, words = self._waiting.popleft()
        if pcm and not self.cancelled:
            self._room.acquire()
            self._post(Speech(pcm, tuple(words)))

    def _post(self, item: Speech | Exception | None) -> None:
        if self.cancelled:
            return
        try:
            self._loop.call_soon_threadsafe(self._queue.put_nowait, item)
        except RuntimeError:  # the event loop is closed, so nobody reads this sentence
            self.cancelled = True

    async def next_slice(self) -> Speech | None:
        """Return the next slice; None at the end.

        Raises:
            ValueError: espeak-ng rejected the sentence.
        """
        item = await self._queue.get()
        if isinstance(item, Exception):
            raise item
        self._room.release()
        return item

    def cancel(self) -> None:
        """End the sentence at its next slice, and wake the thread if it waits for room in the queue."""
        self.cancelled = True
        self._room.release()


class EspeakSynthesizer:
    """See `engine.Synthesizer`."""

    in_order = True
    rate_hz = RATE_HZ
    slots = 8
    also_reads = ("ja-Hira",)

    def __init__(self, settings: Settings) -> None:
        self._sentences: SimpleQueue[_Sentence | None] = SimpleQueue()  # at most `slots` sentences
        # A daemon thread, so that the process can exit in the middle of a sentence.
        self._thread = threading.Thread(target=self._run, name="espeak", daemon=True)
        self._voice_by_language: dict[str, str] = {}
        self._variants: frozenset[str] = frozenset()

    async def load(self) -> None:
        espeak = await asyncio.to_thread(library)
        self._voice_by_language, self._variants = espeak.voice_by_language, espeak.variants
        self._thread.start()
        async for _ in self.speak("Ready.", voice="", speed=1.0, language="en"):
            pass

    def voices(self) -> tuple[str, ...]:
        others = set(self._voice_by_language.values()) - {DEFAULT_VOICE, *_KANA_ONLY}
        return (DEFAULT_VOICE, *sorted(others))

    def languages(self) -> frozenset[str]:
        """See `engine.Multilingual`."""
        return frozenset(tag.partition("-")[0] for tag in self._voice_by_language) - _KANA_ONLY

    def voice_language(self, voice: str) -> str:
        """A voice is named by the tag of its language."""
        return voice

    def text_language(self, voice: str, language: str) -> str:
        """espeak-ng reads a text in the language of the voice; of written forms it reads few: "dollar five", "slash"."""
        return self._find_voice(voice, language).partition("+")[0]

    async def speak(self, text: str, *, voice: str, speed: float, language: str) -> AsyncGenerator[Speech, None]:
        """See `engine.Synthesizer`. `voice` may name a variant of espeak-ng, too: `en-us+f3`."""
        wpm = min(max(round(speed * NORMAL_WPM), SLOWEST_WPM), FASTEST_WPM)
        sentence = _Sentence(text, self._find_voice(voice, language), wpm)
        if not sentence.text.strip():
            return
        self._sentences.put(sentence)
        try:
            while (slice_ := await sentence.next_slice()) is not None:
                yield slice_
            # espeak-ng's own pause after a sentence (espeakENDPAUSE, 300 ms) is not requested: it sounds too long.
            for samples in _slices(RATE_HZ * pause_ms(text) * NORMAL_WPM // (1000 * wpm)):
                yield Speech(bytes(2 * samples))
        finally:
            sentence.cancel()

    def _find_voice(self, voice: str, language: str) -> str:
        if voice:
            base, plus, variant = voice.partition("+")
            base = base.lower()
            if base in self._voice_by_language.values() and (not plus or variant in self._variants):
                return base + plus + variant
            raise ValueError(f"unknown voice {voice!r}; available: {', '.join(self.voices()[:8])}, …")
        tag = language.lower().replace("_", "-")
        if tag == "en":
            return DEFAULT_VOICE
        while tag:
            if tag in self._voice_by_language:
                return self._voice_by_language[tag]
            tag = tag.rpartition("-")[0]
        raise ValueError(f"espeak-ng has no voice for the language {language!r}")

    async def close(self) -> None:
        if self._thread.is_alive():
            self._sentences.put(None)
            await asyncio.to_thread(self._thread.join, CLOSE_TIMEOUT_S)

    def _run(self) -> None:
        while (sentence := self._sentences.get()) is not None:
            if sentence.cancelled:
                continue
            error: Exception | None = None
            try:
                library().speak(sentence.pronounced(), sentence.voice, sentence.wpm, sentence.receive)
            except ValueError as refused:
                error = refused
            sentence.finish(error)


def _slices(samples: int) -> Iterator[int]:
    """Cut a pause into slices: at slow speeds it is longer than a slice may be."""
    longest = RATE_HZ * SLICE_MS // 1000
    for done in range(0, samples, longest):
        yield min(longest, samples - done)
