"""VITS and MMS: batches in which every sentence sounds as it does alone, and the text normalization of their
tokenizers.

The network masks padding, but two things depend on the other sentences of a batch. Its noise is drawn for the whole
batch: here it is drawn for each sentence, with a seed from its text, so that a second attempt sounds the same, too. And
the decoder's convolutions reach beyond the end of a sentence, where a batch has padding: here every sentence is padded
with silence as far as they reach.

Measured with tiny models of the architecture on a CPU in 32 bits, a sentence in a batch against the same alone. With
both measures: same length, samples within 5e-6 of the peak. Without the silence: differences up to half of the peak in
the last 8 frames (128 ms). Without the noise per sentence: another length.
"""

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from services.tts.engines.languages import two_letters
from services.tts.engines.model import Model, numbered, seed
from services.tts.normalizer.numbers import number_rules
from shared.distribution import not_installed
from shared.engines.registry import UnknownEngine
from shared.settings import Settings

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_MAX_DIGITS = 9
"""A longer number is read digit by digit, like telephone and card numbers."""

_COMMA_GROUPS_THOUSANDS = frozenset(("en", "he", "hi", "ja", "ko", "th", "zh", "bn", "te", "kn", "am", "fa"))
"""Languages that write a thousand as 1,000; others write 1.000."""


class Vits(Model):
    """VITS; 36 million parameters per language."""

    batches = has_speed = True

    def _finish(self, folder: Path, settings: Settings) -> None:
        from torch.nn.functional import pad

        config = self._model.config
        self.rate_hz = int(config.sampling_rate)
        if config.num_speakers > 1:
            self.voices = numbered(config.num_speakers)
        language = language_of(self._processor, str(folder))
        self.languages = frozenset({language} - {""})
        self._normalize = text_normalizer(self._processor, language)
        silence = reach_frames(config)
        self._model.decoder.register_forward_pre_hook(lambda _, args: (pad(args[0], (0, silence)), *args[1:]))
        self._stop_at(self._model.decoder)

    def prepare(self, text: str) -> str:
        return self._normalize(text)

    def _has_sound(self, text: str) -> bool:
        if self._processor.phonemize:
            return super()._has_sound(text)  # `prepare_for_tokenization` would run espeak-ng
        return bool(self._processor.prepare_for_tokenization(text)[0].strip())

    def _speak(self, texts: list[str], voice: str, speed: float) -> Sequence[Any]:
        speaker = {"speaker_id": self.voices.index(voice)} if len(self.voices) > 1 else {}
        with noise_per_text(texts):
            output = self._model(**self._inputs(texts), speaking_rate=speed * self._model.speaking_rate, **speaker)
        return [wave[:count] for wave, count in zip(output.waveform, output.sequence_lengths.tolist(), strict=True)]


def noise_per_text(texts: Sequence[str]) -> Any:
    """Return a context in which torch's noise for row n depends only on the n-th text, not on the row's length."""
    import torch
    from torch.overrides import TorchFunctionMode

    seeds = [seed(text) for text in texts]

    class NoisePerText(TorchFunctionMode):
        """Affects this thread only. Time is the last axis. In numpy, unlike torch, a longer draw extends a shorter."""

        def __init__(self) -> None:
            super().__init__()
            self._calls = 0

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            if func not in (torch.randn, torch.randn_like) or result.shape[0] != len(seeds):
                return result
            self._calls += 1
            channels, steps = result.shape[1:]
            generators = [np.random.default_rng([one, self._calls]) for one in seeds]
            noise = [one.standard_normal((steps, channels), np.float32).T for one in generators]
            return torch.from_numpy(np.stack(noise)).to(result.device, result.dtype)

    return NoisePerText()


def reach_frames(config: Any) -> int:
    """Return the decoder's receptive field after a sample, in frames of the spectrogram, rounded up."""
    reach, rate = 3.0, 1.0
    widest = zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True)
    block = max((kernel - 1) // 2 * (sum(dilations) + len(dilations)) for kernel, dilations in widest)
    for kernel, stride in zip(config.upsample_kernel_sizes, config.upsample_rates, strict=True):
        reach += kernel / stride / rate
        rate *= stride
        reach += block / rate
    return int(reach + 3 / prod(config.upsample_rates)) + 1


def language_of(tokenizer: Any, folder: str) -> str:
    """Return the model's language, as two letters if possible; empty if neither tokenizer nor name has it."""
    if getattr(tokenizer, "phonemize", False):
        return "en"  # transformers uses the phonemizer only for English
    named = re.search(r"mms-tts-([a-z]{3})", folder)
    return two_letters(getattr(tokenizer, "language", None) or (named[1] if named else ""))


def text_normalizer(tokenizer: Any, language: str) -> Callable[[str], str]:
    """Return a function that rewrites a text in characters that the tokenizer knows.

    Raises:
        UnknownEngine: the model needs a package that is not installed; the message says which.
    """
    romanize: Callable[[str], str] | None = None
    if getattr(tokenizer, "is_uroman", False):
        try:
            import uroman  # type: ignore[import-not-found,unused-ignore]
        except ImportError as error:
            raise UnknownEngine(not_installed("The romanizer that this model needs", "speech", "uroman")) from error
        romanize = (
            uroman.Uroman().romanize_string
        )  # loaded once: the tokenizer would load the tables for every sentence
    if getattr(tokenizer, "phonemize", False):
        if find_spec("phonemizer") is None:
            raise UnknownEngine(not_installed("The phonemizer that this model needs", "neural", "phonemizer"))
        with suppress(ImportError):
            import misaki.espeak  # noqa: F401 - its import tells phonemizer where espeak-ng is

    digits = any(digit in tokenizer.get_vocab() for digit in "0123456789")

    def normalize(text: str) -> str:
        text = text if digits else numbers_in_words(text, language)
        if romanize is None:
            return text
        return "".join(char for char in romanize(text.lower()) if char.isascii())

    return normalize


def numbers_in_words(text: str, language: str) -> str:
    """Write the numbers in a text as words; unchanged if CLDR has no rules for the language.

    The stage has done so with more care in the languages that it normalizes.
    """
    try:
        spell = number_rules(language)
    except ValueError:
        return text
    thousands = "," if language in _COMMA_GROUPS_THOUSANDS else "."

    def in_words(found: re.Match[str]) -> str:
        number = re.sub(rf"[{thousands}](?=\d{{3}}(?!\d))", "", found[0])
        parts = re.split("[.,]", number)
        if len(parts) > 2 or len(number) > _MAX_DIGITS or re.match(r"0\d", number):
            words = " ".join(spell.format_number(int(digit)).text for digit in number if digit.isdigit())
        else:
            words = spell.format_number(".".join(parts)).text
        return f" {words} "

    return re.sub(r"\s+", " ", _NUMBER.sub(in_words, text)).strip() if _NUMBER.search(text) else text
