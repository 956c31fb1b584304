"""What lets VITS speak many sentences in one call, each as if it were alone; and how its tokenizers want their text.

The network hides padding well, but two things let neighbours be heard. Its noise is drawn for the whole batch: here each
sentence has noise of its own, from its own text, and so is the same wherever and whenever it is spoken. And the decoder's
convolutions see what lies after a sentence, which is silence in a batch and their own zeros alone: here there is silence
after every sentence, for as far as they reach.

Measured with tiny models of the architecture, on a CPU in 32 bits, a sentence in a batch against the same alone: with both,
the same length, and samples within 5e-6 of its peak; without the silence, up to half of its peak in its last 8 frames
(128 ms); without the noise of its own, another length.
"""

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from services.tts.engines.family import Family, numbered, seed
from services.tts.engines.languages import two_letters
from shared.distribution import not_installed
from shared.engines.registry import UnknownEngine
from shared.settings import Settings

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_MOST_DIGITS = 9
"""A longer number is read digit by digit, as one does with telephones and cards."""

_COMMA_PARTS_THOUSANDS = frozenset(("en", "he", "hi", "ja", "ko", "th", "zh", "bn", "te", "kn", "am", "fa"))
"""Where 1,000 is a thousand; elsewhere that is 1.000."""


class Vits(Family):
    """See `families.Model`; 36 million parameters for each language."""

    batches = has_speed = True

    def _finish(self, folder: Path, settings: Settings) -> None:
        from torch.nn.functional import pad

        config = self._model.config
        self.rate_hz = int(config.sampling_rate)
        if config.num_speakers > 1:
            self.voices = numbered(config.num_speakers)
        language = language_of(self._reader, str(folder))
        self.languages = frozenset({language} - {""})
        self._spell = speller(self._reader, language)
        silence = reach_frames(config)
        self._model.decoder.register_forward_pre_hook(lambda _, given: (pad(given[0], (0, silence)), *given[1:]))
        self._watch(self._model.decoder)

    def prepare(self, text: str) -> str:
        return self._spell(text)

    def _has_sound(self, text: str) -> bool:
        if self._reader.phonemize:
            return super()._has_sound(text)  # espeak-ng would be asked twice
        return bool(self._reader.prepare_for_tokenization(text)[0].strip())

    def _speak(self, texts: list[str], voice: str, speed: float) -> Sequence[Any]:
        speaker = {"speaker_id": self.voices.index(voice)} if len(self.voices) > 1 else {}
        with own_noise(texts):
            made = self._model(**self._inputs(texts), speaking_rate=speed * self._model.speaking_rate, **speaker)
        return [wave[:count] for wave, count in zip(made.waveform, made.sequence_lengths.tolist(), strict=True)]


def own_noise(texts: Sequence[str]) -> Any:
    """A context in which torch's noise for row n of a batch is that of the n-th text, whatever the length of the rows."""
    import torch
    from torch.overrides import TorchFunctionMode

    seeds = [seed(text) for text in texts]

    class OwnNoise(TorchFunctionMode):
        """In this thread only. Time is the last axis; numpy's numbers, unlike torch's, begin alike for all lengths."""

        def __init__(self) -> None:
            super().__init__()
            self._calls = 0

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = func(*args, **(kwargs or {}))
            if func not in (torch.randn, torch.randn_like) or made.shape[0] != len(seeds):
                return made
            self._calls += 1
            channels, steps = made.shape[1:]
            drawn = [np.random.default_rng([one, self._calls]) for one in seeds]
            noise = [one.standard_normal((steps, channels), np.float32).T for one in drawn]
            return torch.from_numpy(np.stack(noise)).to(made.device, made.dtype)

    return OwnNoise()


def reach_frames(config: Any) -> int:
    """How many frames of the spectrogram after a sample the decoder looks at, at most."""
    reach, rate = 3.0, 1.0
    widest = zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True)
    block = max((kernel - 1) // 2 * (sum(dilations) + len(dilations)) for kernel, dilations in widest)
    for kernel, stride in zip(config.upsample_kernel_sizes, config.upsample_rates, strict=True):
        reach += kernel / stride / rate
        rate *= stride
        reach += block / rate
    return int(reach + 3 / prod(config.upsample_rates)) + 1


def language_of(tokenizer: Any, folder: str) -> str:
    """What the model speaks, in two letters where there are two; empty: it does not say."""
    if getattr(tokenizer, "phonemize", False):
        return "en"  # transformers calls the phonemizer for no other
    named = re.search(r"mms-tts-([a-z]{3})", folder)
    return two_letters(getattr(tokenizer, "language", None) or (named[1] if named else ""))


def speller(tokenizer: Any, language: str) -> Callable[[str], str]:
    """What makes of a text one that the tokenizer knows all letters of.

    Raises:
        UnknownEngine: the model needs a package that is not installed; the message says which.
    """
    romanize: Callable[[str], str] | None = None
    if getattr(tokenizer, "is_uroman", False):
        try:
            import uroman  # type: ignore[import-not-found,unused-ignore]
        except ImportError as error:
            raise UnknownEngine(not_installed("The romanizer that this model needs", "speech", "uroman")) from error
        romanize = uroman.Uroman().romanize_string  # once: the tokenizer would load its tables for every sentence
    if getattr(tokenizer, "phonemize", False):
        if find_spec("phonemizer") is None:
            raise UnknownEngine(not_installed("The phonemizer that this model needs", "neural", "phonemizer"))
        with suppress(ImportError):
            import misaki.espeak  # noqa: F401 - it tells phonemizer where espeak-ng is

    digits = any(digit in tokenizer.get_vocab() for digit in "0123456789")

    def spell(text: str) -> str:
        text = text if digits else numbers_in_words(text, language)
        if romanize is None:
            return text
        return "".join(char for char in romanize(text.lower()) if char.isascii())

    return spell


def numbers_in_words(text: str, language: str) -> str:
    """The text with its numbers written out, where there is somebody to write them in that language."""
    try:
        from num2words import num2words  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        return text

    thousands = "," if language in _COMMA_PARTS_THOUSANDS else "."

    def word(number: float) -> str:
        return str(num2words(number, lang=language))

    def written(found: re.Match[str]) -> str:
        number = re.sub(rf"[{thousands}](?=\d{{3}}(?!\d))", "", found[0])
        parts = re.split("[.,]", number)
        try:
            if len(parts) > 2 or len(number) > _MOST_DIGITS or re.match(r"0\d", number):
                words = " ".join(word(int(digit)) for digit in number if digit.isdigit())
            else:
                words = word(float(".".join(parts)) if len(parts) == 2 else int(number))
        except (NotImplementedError, OverflowError, ValueError, TypeError, KeyError, IndexError):
            return found[0]  # it knows the language in part, or not at all
        return f" {words} "

    return re.sub(r"\s+", " ", _NUMBER.sub(written, text)).strip() if _NUMBER.search(text) else text
