"""The embedded voice: libespeak-ng in this process, through ctypes.

The library is one global instance, so all sentences are spoken by one thread, one after another: a second of
speech takes it about two milliseconds. Each sentence's slices cross to the event loop through a bounded queue;
a reader that falls that far behind stops the thread, and a reader that is gone ends the sentence at the next slice.
"""

import asyncio
import ctypes
import re
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import espeakng_loader

from services.tts.engine import Speech
from services.tts.engines.waveform import CLOSERS, pause_ms
from shared.protocol.session import Word
from shared.settings import Settings

DEFAULT_VOICE = "en-us"
NORMAL_WPM = 175
RATE_HZ = 22_050
SLOWEST_WPM, FASTEST_WPM = 80, 450  # the range that espeak-ng documents
SLICE_MS = 190
"""The library gives a sample more than it is asked for; a slice stays below 200 ms."""
QUEUED_SLICES = 64
"""Slices of one sentence on their way to the loop, about 12 s: a usual sentence never makes the thread wait."""
CLOSE_TIMEOUT_S = 5.0

# From espeak-ng's speak_lib.h.
_OUTPUT_SYNCHRONOUS = 2
_DONT_EXIT = 0x8000
_CHARS_UTF8 = 1
_PARAMETER_RATE = 1
_LAST_EVENT, _EVENT_WORD = 0, 1
_GO_ON, _STOP = 0, 1

# Chinese and Japanese have no blanks: there each character counts as a word.
_WORDS = re.compile(r"[\u2e80-\u9fff]|[^\s\u2e80-\u9fff]+")
_OPENERS = " \"'\u2018\u201c\u201e\u00ab([{\u300c\u300e\uff08"
# Control characters are commands to espeak-ng (and a NUL ends its text); a blank in their place keeps the positions.
_CONTROLS = dict.fromkeys((*range(32), *range(127, 160)), " ")


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    ]


class _Voice(ctypes.Structure):  # as far as it is read here
    _fields_ = [("name", ctypes.c_char_p), ("languages", ctypes.c_void_p), ("identifier", ctypes.c_char_p)]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Event))


class _Sentence:
    """One sentence on its way: cut into slices with their words in espeak-ng's thread, read on the event loop."""

    def __init__(self, text: str, voice: str, wpm: int) -> None:
        self.text = text.translate(_CONTROLS).encode(errors="replace").decode()
        self.voice = voice
        self.wpm = wpm
        self.cancelled = False
        self._loop = asyncio.get_running_loop()
        # One place more than there is room for slices: the end (None) or an error needs no room.
        self._queue: asyncio.Queue[Speech | Exception | None] = asyncio.Queue(QUEUED_SLICES + 1)
        self._room = threading.Semaphore(QUEUED_SLICES)
        self._word_starts = [match.start() for match in _WORDS.finditer(self.text)]
        self._told = 0  # characters of the text that belong to words that are ended
        self._samples = 0
        # A slice is held back while one of its words has no end yet, at most for the length of that word.
        self._held: deque[tuple[bytes, list[Word]]] = deque()
        self._open: tuple[int, int, list[Word]] | None = None  # index of the word, its start, its slice's words

    def pronounced(self) -> str:
        """The text without the quotation marks and brackets around it: espeak-ng makes half a second of silence of them.

        Blanks in front keep the places of the words.
        """
        return self.text.rstrip(CLOSERS).lstrip(_OPENERS).rjust(len(self.text.rstrip(CLOSERS)))

    def receive(self, pcm: bytes, spoken: list[tuple[int, int]]) -> None:
        """Take a slice and the words that begin in it, each as its place in the text and its first sample."""
        words: list[Word] = []
        self._samples += len(pcm) // 2
        self._held.append((pcm, words))
        for place, sample in spoken:
            index = bisect_right(self._word_starts, place) - 1
            # "23" comes as two words, and a place may be off after unusual characters: a word begins only once.
            if index >= 0 and (self._open is None or index > self._open[0]):
                self._end_word(index, sample)
                self._open = (index, sample, words)
        while self._held and not (self._open and self._open[2] is self._held[0][1]):
            self._post_slice()

    def finish(self, error: Exception | None) -> None:
        """No more comes."""
        if error is None:
            self._end_word(len(self._word_starts), self._samples)
            while self._held:
                self._post_slice()
        self._post(error)

    def _end_word(self, next_index: int, sample: int) -> None:
        """End the open word; what espeak-ng passed over before the next one (a dash, a bracket) belongs to it."""
        if self._open is not None:
            _, start, words = self._open
            stop = self._word_starts[next_index] if next_index < len(self._word_starts) else len(self.text)
            words.append(Word(self.text[self._told : stop].strip(), start, max(start, sample)))
            self._told = stop

    def _post_slice(self) -> None:
        pcm, words = self._held.popleft()
        if pcm and not self.cancelled:
            self._room.acquire()
            self._post(Speech(pcm, tuple(words)))

    def _post(self, item: Speech | Exception | None) -> None:
        if self.cancelled:
            return
        try:
            self._loop.call_soon_threadsafe(self._queue.put_nowait, item)
        except RuntimeError:  # the loop was closed under a sentence that nobody reads any more
            self.cancelled = True

    async def next_slice(self) -> Speech | None:
        """The next slice; None at the end.

        Raises:
            ValueError: espeak-ng refused the sentence.
        """
        item = await self._queue.get()
        if isinstance(item, Exception):
            raise item
        self._room.release()
        return item

    def cancel(self) -> None:
        """End the sentence at its next slice, and free the thread if it waits for room."""
        self.cancelled = True
        self._room.release()


class _Library:
    """The one espeak-ng of this process."""

    def __init__(self) -> None:
        data = espeakng_loader.get_data_path()
        self._lock = threading.Lock()
        self._lib = ctypes.CDLL(espeakng_loader.get_library_path())
        self._lib.espeak_ListVoices.argtypes = [ctypes.c_void_p]
        self._lib.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_Voice))
        rate_hz = self._lib.espeak_Initialize(_OUTPUT_SYNCHRONOUS, SLICE_MS, data.encode(), _DONT_EXIT)
        if rate_hz != RATE_HZ:
            raise RuntimeError(f"espeak-ng did not start with its data in {data}: rate {rate_hz}")
        self.identifiers: dict[str, bytes] = {}  # by voice: espeak-ng does not find every one by its language
        self.voice_by_language = self._list_voices()
        self.variants = frozenset(path.name for path in Path(data, "voices", "!v").glob("*"))
        self._sentence: _Sentence | None = None
        self._callback = _Callback(self._on_slice)  # kept here: the library holds only its address
        self._lib.espeak_SetSynthCallback(self._callback)

    def _list_voices(self) -> dict[str, str]:
        """Each language and the voice that speaks it best; a voice goes by the first of its own languages."""
        best: dict[str, tuple[int, str]] = {}
        listed = self._lib.espeak_ListVoices(None)
        index = 0
        while listed[index]:
            languages = list(_languages_at(listed[index].contents.languages))
            self.identifiers.setdefault(languages[0][1], listed[index].contents.identifier)
            index += 1
            for priority, language in languages:
                rank = (0 if language == languages[0][1] else priority, languages[0][1])
                best[language] = min(best.get(language, rank), rank)
        return {language: voice for language, (_, voice) in sorted(best.items())}

    def speak(self, sentence: _Sentence) -> None:
        """Speak a sentence to its end, or until it is cancelled.

        Raises:
            ValueError: the voice cannot be loaded.
        """
        base, plus, variant = sentence.voice.partition("+")
        voice = self.identifiers[base] + (plus + variant).encode()
        with self._lock:
            self._sentence = sentence
            if self._lib.espeak_SetVoiceByName(voice) != 0:
                raise ValueError(f"espeak-ng cannot load the voice {sentence.voice!r}")
            self._lib.espeak_SetParameter(_PARAMETER_RATE, sentence.wpm, 0)
            text = sentence.pronounced().encode()
            self._lib.espeak_Synth(text, ctypes.c_size_t(len(text) + 1), 0, 0, 0, _CHARS_UTF8, None, None)

    def _on_slice(self, wav: int | None, count: int, events: Any) -> int:
        sentence = self._sentence
        if sentence is None:
            return _STOP
        spoken = []
        position = 0
        while (kind := events[position].type) != _LAST_EVENT:
            if kind == _EVENT_WORD:
                spoken.append((events[position].text_position - 1, events[position].sample))
            position += 1
        sentence.receive(ctypes.string_at(wav, 2 * count) if wav and count > 0 else b"", spoken)
        return _STOP if sentence.cancelled else _GO_ON


def _slices(samples: int) -> Iterator[int]:
    """Cut a pause: at slow speeds it is longer than a slice may be."""
    longest = RATE_HZ * SLICE_MS // 1000
    for done in range(0, samples, longest):
        yield min(longest, samples - done)


def _languages_at(address: int) -> Iterator[tuple[int, str]]:
    """Walk espeak-ng's list of languages: a priority byte, a language, a NUL; a priority of 0 ends it."""
    while (priority := ctypes.string_at(address, 1)[0]) != 0:
        language = ctypes.string_at(address + 1)
        address += len(language) + 2
        yield priority, language.decode().lower()


@cache
def _library() -> _Library:
    return _Library()


class EspeakSynthesizer:
    """See `engine.Synthesizer`."""

    rate_hz = RATE_HZ
    slots = 8

    def __init__(self, settings: Settings) -> None:
        self._sentences: SimpleQueue[_Sentence | None] = SimpleQueue()  # never holds more than `slots`
        # A daemon, so that a process that ends in the middle of a sentence does not wait for it.
        self._thread = threading.Thread(target=self._run, name="espeak", daemon=True)
        self._voice_by_language: dict[str, str] = {}
        self._variants: frozenset[str] = frozenset()

    async def load(self) -> None:
        library = await asyncio.to_thread(_library)
        self._voice_by_language, self._variants = library.voice_by_language, library.variants
        self._thread.start()
        async for _ in self.speak("Ready.", voice="", speed=1.0, language="en"):
            pass

    def voices(self) -> tuple[str, ...]:
        others = set(self._voice_by_language.values()) - {DEFAULT_VOICE}
        return (DEFAULT_VOICE, *sorted(others))

    async def speak(self, text: str, *, voice: str, speed: float, language: str) -> AsyncGenerator[Speech, None]:
        """See `engine.Synthesizer`; `voice` may add one of espeak-ng's variants, as in `en-us+f3`.

        Raises:
            ValueError: no such voice, or none for that language.
        """
        wpm = min(max(round(speed * NORMAL_WPM), SLOWEST_WPM), FASTEST_WPM)
        sentence = _Sentence(text, self._find_voice(voice, language), wpm)
        if not sentence.text.strip():
            return
        self._sentences.put(sentence)
        try:
            while (slice_ := await sentence.next_slice()) is not None:
                yield slice_
            # Of its own pauses espeak-ng leaves none here: 300 ms after a sentence are longer than a person would take.
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
            raise ValueError(f"unknown voice {voice!r}: there are {', '.join(self.voices()[:8])}, …")
        tag = language.lower().replace("_", "-")
        if tag == "en":
            return DEFAULT_VOICE
        while tag:
            if tag in self._voice_by_language:
                return self._voice_by_language[tag]
            tag = tag.rpartition("-")[0]
        raise ValueError(f"no voice speaks the language {language!r}")

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
                _library().speak(sentence)
            except ValueError as refused:
                error = refused
            sentence.finish(error)
