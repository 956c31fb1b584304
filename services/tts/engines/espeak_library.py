"""A binding to libespeak-ng through ctypes. The library is one global instance, so it speaks one sentence at a time."""

import ctypes
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import espeakng_loader

RATE_HZ = 22_050
SLICE_MS = 190
"""Length of a slice. The library returns a sample more than requested, and a slice must stay below 200 ms."""

# From espeak-ng's speak_lib.h.
_OUTPUT_SYNCHRONOUS = 2
_DONT_EXIT = 0x8000
_CHARS_UTF8 = 1
_PARAMETER_RATE = 1
_LAST_EVENT, _EVENT_WORD = 0, 1
_CONTINUE, _STOP = 0, 1

OnSlice = Callable[[bytes, list[tuple[int, int]]], bool]
"""Gets a slice (s16le) and the words that start in it, each as its position in the text and its first sample. Returns
whether to continue."""


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


class _Voice(ctypes.Structure):  # only the first fields of the C structure, which are used here
    _fields_ = [("name", ctypes.c_char_p), ("languages", ctypes.c_void_p), ("identifier", ctypes.c_char_p)]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Event))


class EspeakLibrary:
    """The instance of libespeak-ng of this process. Get it from `library`."""

    def __init__(self) -> None:
        data = espeakng_loader.get_data_path()
        self._lock = threading.Lock()
        self._lib = ctypes.CDLL(espeakng_loader.get_library_path())
        self._lib.espeak_ListVoices.argtypes = [ctypes.c_void_p]
        self._lib.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_Voice))
        rate_hz = self._lib.espeak_Initialize(_OUTPUT_SYNCHRONOUS, SLICE_MS, data.encode(), _DONT_EXIT)
        if rate_hz != RATE_HZ:
            raise RuntimeError(f"espeak-ng did not start with its data in {data}: rate {rate_hz}")
        self._identifiers: dict[str, bytes] = {}  # by voice: espeak-ng does not find every voice by its language
        self.voice_by_language = self._list_voices()
        self.variants = frozenset(path.name for path in Path(data, "voices", "!v").glob("*"))
        self._on_slice: OnSlice | None = None
        self._callback = _Callback(self._receive)  # the library holds only its address: keep it from being collected
        self._lib.espeak_SetSynthCallback(self._callback)

    def _list_voices(self) -> dict[str, str]:
        """Return the best voice of each language. A voice is named after the first of its languages."""
        best: dict[str, tuple[int, str]] = {}
        listed = self._lib.espeak_ListVoices(None)
        index = 0
        while listed[index]:
            languages = list(_languages_at(listed[index].contents.languages))
            self._identifiers.setdefault(languages[0][1], listed[index].contents.identifier)
            index += 1
            for priority, language in languages:
                rank = (0 if language == languages[0][1] else priority, languages[0][1])
                best[language] = min(best.get(language, rank), rank)
        return {language: voice for language, (_, voice) in sorted(best.items())}

    def speak(self, text: str, voice: str, wpm: int, on_slice: OnSlice) -> None:
        """Speak a text to its end, or until `on_slice` returns False. Blocks; `on_slice` runs in the calling thread.

        Args:
            text: Must not contain control characters, which are commands to espeak-ng.
            voice: Its name, optionally with a variant: `en-us+f3`.
            wpm: Words per minute.
            on_slice: Gets the audio.

        Raises:
            ValueError: the voice cannot be loaded.
        """
        base, plus, variant = voice.partition("+")
        identifier = self._identifiers[base] + (plus + variant).encode()
        with self._lock:
            self._on_slice = on_slice
            if self._lib.espeak_SetVoiceByName(identifier) != 0:
                raise ValueError(f"espeak-ng cannot load the voice {voice!r}")
            self._lib.espeak_SetParameter(_PARAMETER_RATE, wpm, 0)
            encoded = text.encode()
            self._lib.espeak_Synth(encoded, ctypes.c_size_t(len(encoded) + 1), 0, 0, 0, _CHARS_UTF8, None, None)

    def _receive(self, wav: int | None, count: int, events: Any) -> int:
        if self._on_slice is None:
            return _STOP
        words = []
        index = 0
        while (kind := events[index].type) != _LAST_EVENT:
            if kind == _EVENT_WORD:
                words.append((events[index].text_position - 1, events[index].sample))
            index += 1
        pcm = ctypes.string_at(wav, 2 * count) if wav and count > 0 else b""
        return _CONTINUE if self._on_slice(pcm, words) else _STOP


def _languages_at(address: int) -> Iterator[tuple[int, str]]:
    """Read espeak-ng's list of languages: each is a priority byte, a name and a NUL; a priority of 0 ends the list."""
    while (priority := ctypes.string_at(address, 1)[0]) != 0:
        language = ctypes.string_at(address + 1)
        address += len(language) + 2
        yield priority, language.decode().lower()


@cache
def library() -> EspeakLibrary:
    """Return the instance of this process; the first call loads it."""
    return EspeakLibrary()
