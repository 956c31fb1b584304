"""A Whisper model of CTranslate2. Blocking, for one thread.

Whisper pads each clip to 30 s, so a word takes as long as half a minute of speech. The encoder accepts shorter input,
too. At 15 s a clip takes a third of the time and has as few wrong words; at 10 s it has more, and some are repeated.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from services.asr.engines.model import Clip, Recognition, Samples, in_groups, without_control_tokens

LEAST_WINDOW_S, WINDOW_STEP_S, WINDOW_S = 15, 5, 30
"""A clip is padded to a multiple of the step, at least to the first and at most to the last of these."""
MARGIN_S = 3
"""Least padding; with 1 s the end of a long clip is omitted more often."""
BEAMS = 5
"""Whisper's default. The time is that of the encoder, so beams cost little, and fewer words are wrong."""

FRAMES_PER_S = 100


class CTranslate2Whisper:
    """See `model.Model`. A call has clips of the same window and hints: CTranslate2 wants prompts of one length.

    Words have no timestamps: nobody reads them, and the alignment takes another 18 to 41 ms.
    """

    def __init__(self, whisper: Any) -> None:
        """`whisper` is a `faster_whisper.WhisperModel`: CTranslate2's model, its tokenizer and its features."""
        self._model, self._tokenizer = whisper.model, whisper.hf_tokenizer
        self._features, self._positions = whisper.feature_extractor, whisper.max_length
        # On two cores a call with four clips takes four times as long as one with one clip.
        self.supports_batching = self._model.device == "cuda"
        codes = whisper.supported_languages if self._model.is_multilingual else ()
        ids = {code: self._tokenizer.token_to_id(f"<|{code}|>") for code in codes}
        self._language_ids = {code: token for code, token in ids.items() if token is not None}
        self.languages = frozenset(self._language_ids or {"en"})
        self.detects = bool(self._language_ids)
        self._end = self._token("endoftext")

    def transcribe(self, clips: Sequence[Clip]) -> list[Recognition]:
        keys = ((window_s(clip.seconds), clip.hints) for clip in clips)
        return in_groups(keys, lambda indices: self._transcribe([clips[index] for index in indices]))

    def _transcribe(self, clips: Sequence[Clip]) -> list[Recognition]:
        import ctranslate2

        window, hints = window_s(clips[0].seconds), clips[0].hints
        features = np.stack([self._padded_features(clip.samples, window) for clip in clips])
        encoded = self._model.encode(ctranslate2.StorageView.from_array(features))
        languages = self._languages(clips, encoded)
        prefix = self._hint_tokens(hints) if hints else []
        prompts = [[*prefix, *self._start(language), self._token("notimestamps")] for language in languages]
        most = max(clip.max_tokens for clip in clips)
        results = self._model.generate(
            encoded,
            prompts,
            beam_size=BEAMS,
            # CTranslate2 generates at most half of it, and what the prompt leaves.
            max_length=min(self._positions, max(2 * most, most + len(prompts[0]))),
            return_scores=True,
            return_no_speech_prob=True,
        )
        rows = [
            [token for token in result.sequences_ids[0][: clip.max_tokens] if token < self._end]
            for clip, result in zip(clips, results, strict=True)
        ]
        texts = [self._tokenizer.decode(row).strip() for row in rows]
        return [
            Recognition(text, language, result.no_speech_prob, _confidence(result))
            for text, language, result in zip(texts, languages, results, strict=True)
        ]

    def _padded_features(self, samples: Samples, window: int) -> Samples:
        """Return the log-mel features [mel bands, frames] of a clip in a window of that many seconds."""
        frames = window * FRAMES_PER_S
        features: Samples = self._features(samples)[:, :frames]
        return np.pad(features, ((0, 0), (0, frames - features.shape[1])))

    def _languages(self, clips: Sequence[Clip], encoded: Any) -> list[str]:
        if not self.detects:
            return ["en"] * len(clips)
        if all(clip.language for clip in clips):
            return [clip.language for clip in clips]
        detected = [ranking[0][0].strip("<|>") for ranking in self._model.detect_language(encoded)]
        return [clip.language or found for clip, found in zip(clips, detected, strict=True)]

    def _token(self, name: str) -> int:
        token: int = self._tokenizer.token_to_id(f"<|{name}|>")
        return token

    def _start(self, language: str) -> list[int]:
        """Return the control tokens before the text."""
        start = [self._token("startoftranscript")]
        return [*start, self._language_ids[language], self._token("transcribe")] if self.detects else start

    def _hint_tokens(self, hints: str) -> list[int]:
        """Return the tokens of the hints; only the last ones if there are more than the model was trained with."""
        ids: list[int] = self._tokenizer.encode(f" {without_control_tokens(hints)}", add_special_tokens=False).ids
        return [self._token("startofprev"), *ids[1 - self._positions // 2 :]]


def window_s(seconds: float) -> int:
    """Return the length of the window in which a clip is transcribed."""
    padded = WINDOW_STEP_S * math.ceil((seconds + MARGIN_S) / WINDOW_STEP_S)
    return min(WINDOW_S, max(LEAST_WINDOW_S, padded))


def _confidence(result: Any) -> float | None:
    """Return the mean log-probability of the tokens, the end token included."""
    count = len(result.sequences_ids[0])
    return float(result.scores[0]) * count / (count + 1) if count else None
