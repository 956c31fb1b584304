"""The voices of Piper in a folder: `x.onnx`, the network, beside `x.onnx.json`, its symbols, language and speakers.

Piper's package converts text to phonemes, with an espeak-ng of its own; it is a second library in the process, apart from
the one of the espeak engine.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unicodedata import category

import sentencex

from services.tts.engines.languages import two_letters
from services.tts.engines.model import seed
from services.tts.engines.piper_network import Network, Utterance, load_network
from services.tts.engines.pronunciation import Pronounced, aligned, matched
from services.tts.engines.waveform import Waveform
from shared.distribution import not_installed
from shared.engines.registry import UnknownEngine, first_line
from shared.protocol.session import Word

START, PAD, END, SPACE = "^", "_", "$", " "
"""Symbols of every voice: the start of a sentence, what follows each symbol, and the end."""

_INNER_STOP = re.compile(r"(?<=\w)\.(?=\s)")
"""A full stop inside a sentence. Piper's espeak-ng would end the sentence there: "Dr. Smith", "No. 5"."""

_PUNCTUATION = ".,:;!?\u2026\"'\u2018\u2019\u201c\u201d\u00ab\u00bb()[]{}\u2013\u2014-"


@dataclass(frozen=True, slots=True)
class Planned:
    """An utterance that can be decoded, and its words."""

    utterance: Utterance
    words: tuple[Word, ...]
    last_word: int
    """The frame in which the last word starts."""
    frames_per_s: float

    def stretches(self, first_ms: int, longest_ms: int) -> Iterator[tuple[int, int]]:
        """Yield the first frame of each stretch to decode, and the one after its last.

        Each is twice as long as the one before. The last word starts in the last stretch: where a word ends is known
        only when the silence after it is trimmed.
        """
        size, longest = (round(ms * self.frames_per_s / 1000) for ms in (first_ms, longest_ms))
        start, latest = 0, min(self.last_word, self.utterance.frames - size)
        while start + size <= latest:
            yield start, start + size
            start, size = start + size, min(2 * size, longest)
        yield start, self.utterance.frames


class PiperVoice:
    """A voice. Blocking; used by one thread. The network is loaded at its first use."""

    def __init__(self, path: Path, threads: int) -> None:
        """Read the configuration.

        Raises:
            UnknownEngine: it is missing or damaged, or Piper is not installed.
        """
        try:
            from piper import PiperVoice as Phonemizer
            from piper.config import PhonemeType, PiperConfig
        except ImportError as error:
            raise UnknownEngine(not_installed("The piper engine", "light", error.name)) from error
        self._path, self._threads = path, threads
        described = _read(path.with_name(f"{path.name}.json"))
        try:
            config = PiperConfig.from_dict(described)
            self._symbols = {symbol: list(ids) for symbol, ids in config.phoneme_id_map.items()}
            self._pad = self._symbols[PAD]
            self._edges = self._symbols[START], self._symbols[END]
            self.rate_hz = int(config.sample_rate)
            self._scales = float(config.noise_scale), float(config.length_scale), float(config.noise_w_scale)
            speakers = config.speaker_id_map or {str(number): number for number in range(config.num_speakers)}
            # By number, but the default speaker first.
            self._speakers = dict(
                sorted(
                    ((name, int(number)) for name, number in speakers.items()),
                    key=lambda one: (one[1] != config.default_speaker_id, one[1]),
                )
            )
            language = str(described.get("language", {}).get("code") or config.espeak_voice)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UnknownEngine(f"{path}.json is not the configuration of a Piper voice: {error!r}") from error
        if config.phoneme_type == PhonemeType.PINYIN:
            raise UnknownEngine(f"{path}: voices with pinyin are not supported; others of the language are")
        self.name = path.stem
        self.language = language.lower().replace("_", "-")
        """BCP 47, in lower case."""
        self._config = config
        self._phonemizer = Phonemizer(session=None, config=config)
        try:
            self._phonemize("a")
        except (RuntimeError, ImportError) as error:
            raise UnknownEngine(f"{path}: its text cannot be converted to phonemes: {first_line(error)}") from error
        self._longest_symbol = max(map(len, self._symbols))
        self._network: Network | None = None

    def names(self) -> list[str]:
        """Return what `speaker` finds: the voice, or each of its speakers as voice/speaker."""
        if len(self._speakers) < 2:
            return [self.name]
        return [f"{self.name}/{speaker}" for speaker in self._speakers]

    def speaker(self, name: str) -> int:
        """Return the number of a speaker by one of `names`, or the first for the voice's own name."""
        _, _, speaker = name.partition("/")
        return self._speakers[speaker] if speaker else self._config.default_speaker_id

    def sentences(self, text: str) -> list[list[Pronounced]]:
        """Return the words of each sentence of a text, with their phonemes."""
        printable = "".join(char if char.isprintable() else " " for char in text)
        found = (self._pronounce(one.strip()) for one in sentencex.segment(two_letters(self.language), printable))
        return [words for words in found if words]

    def _pronounce(self, sentence: str) -> list[Pronounced]:
        phonemes, words = self._phonemize(_INNER_STOP.sub("", sentence)), sentence.split()
        if len(phonemes.split()) == len(words):
            return aligned(sentence, phonemes)
        # "$23.50" is read as several words, and "of the" as one. Commas keep the words of a list apart.
        bare = [word.strip(_PUNCTUATION) for word in words]
        listed = self._phonemize(", ".join(filter(None, bare))).split(",")
        if len(listed) != sum(map(bool, bare)):
            return aligned(sentence, phonemes)
        alone = iter(listed)
        return matched(words, [next(alone).strip() if word else "" for word in bare], phonemes)

    def _phonemize(self, text: str) -> str:
        return " ".join("".join(phonemes) for phonemes in self._phonemizer.phonemize(text))

    def load(self) -> Network:
        """Return the network; the first call loads it.

        Raises:
            UnknownEngine: it is damaged, or does not fit its configuration.
        """
        if self._network is None:
            try:
                network = load_network(self._path, self._threads, self._config.hop_length)
            except Exception as error:  # onnxruntime raises types of its own
                raise UnknownEngine(f"{self._path} cannot be loaded: {first_line(error)}") from error
            try:
                highest = max(number for ids in self._symbols.values() for number in ids)
                network.prepare([highest] * 8, max(self._speakers.values(), default=0), self._scales, 0)
            except Exception as error:
                raise UnknownEngine(f"{self._path} does not fit {self._path.name}.json: {first_line(error)}") from error
            self._network = network
        return self._network

    def plan(self, words: Sequence[Pronounced], speaker: int, speed: float, rate_hz: int) -> Planned:
        """Run the parts of the network before its decoder. The times of the words are in samples at `rate_hz`."""
        network = self.load()
        symbols, spans = self._encode(words)
        noise, length, rhythm = self._scales
        text = " ".join(word.phonemes for word in words)
        utterance = network.prepare(symbols, speaker, (noise, length / speed, rhythm), seed(text))
        frames_per_s = self.rate_hz / network.samples_per_frame
        ends = [0.0, *utterance.ends.tolist()]
        samples = [int(end * rate_hz / frames_per_s) for end in ends]
        timed = (Word(word.word, samples[at], samples[to]) for word, (at, to) in zip(words, spans, strict=True))
        return Planned(utterance, tuple(timed), int(ends[spans[-1][0]]), frames_per_s)

    def decode(self, planned: Planned, start: int, end: int) -> Waveform:
        """Return the samples of the frames from `start` to `end`, at the voice's rate."""
        return self.load().decode(planned.utterance, start, end)

    def _encode(self, words: Sequence[Pronounced]) -> tuple[list[int], list[tuple[int, int]]]:
        """Return the numbers of a sentence's symbols, and for each word where its sounds start and end among them."""
        start, end = self._edges
        numbers, spans = [*start, *self._pad], []
        for index, word in enumerate(words):
            if index and not word.joined:
                numbers += [*self._symbols.get(SPACE, ()), *self._pad]
            at = to = len(numbers)
            for symbol in self._split(word.phonemes):
                numbers += [*self._symbols[symbol], *self._pad]
                if not category(symbol[0]).startswith("P"):
                    to = len(numbers)
            spans.append((at, to))
        return numbers + end, spans

    def _split(self, phonemes: str) -> Iterator[str]:
        """Yield the symbols in a string, the longest first; characters that the voice does not know are left out."""
        at = 0
        while at < len(phonemes):
            lengths = range(min(self._longest_symbol, len(phonemes) - at), 0, -1)
            size = next((size for size in lengths if phonemes[at : at + size] in self._symbols), 0)
            if size:
                yield phonemes[at : at + size]
            at += size or 1


def find_voices(place: Path, threads: int) -> list[PiperVoice]:
    """Return the voices of a folder and the folders in it, or the one of an .onnx file.

    Raises:
        UnknownEngine: there is no voice, or a configuration is missing or damaged.
    """
    paths = [place] if place.is_file() else sorted(place.rglob("*.onnx"))
    if not paths:
        raise UnknownEngine(f"{place} has no voice of Piper: a file x.onnx beside its x.onnx.json")
    return [PiperVoice(path, threads) for path in paths]


def _read(path: Path) -> dict[str, Any]:
    try:
        described = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise UnknownEngine(f"{path} is missing: a voice of Piper is an .onnx file and this one") from error
    except (OSError, ValueError) as error:
        raise UnknownEngine(f"{path} cannot be read: {first_line(error)}") from error
    if not isinstance(described, dict):
        raise UnknownEngine(f"{path} is not the configuration of a Piper voice")
    return described
