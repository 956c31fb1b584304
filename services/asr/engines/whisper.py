"""Whisper and Distil-Whisper: they also report the language, the probability of no speech, and the confidence."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.asr.engines.model import Clip, Recognition, in_groups, without_control_tokens
from services.asr.engines.pretrained import Pretrained
from shared.engines.devices import Device
from shared.protocol.session import RATE_HZ
from shared.settings import Settings

CONTROL_TOKENS = 4
"""Tokens before the text: start, language, task, no timestamps."""


class Whisper(Pretrained):
    """See `model.Model`. No word timestamps: they need attention weights, which the fast kernels do not return."""

    def __init__(self, folder: Path, architecture: str, device: Device, settings: Settings) -> None:
        super().__init__(folder, architecture, device, settings)
        config = self._config = self._model.generation_config
        tokens = getattr(config, "lang_to_id", None) or {}
        multilingual = bool(tokens) and getattr(config, "is_multilingual", True)
        self._language_of = {token_id: token.strip("<|>") for token, token_id in tokens.items()} if multilingual else {}
        self.languages = frozenset(self._language_of.values() or {"en"})
        self.detects = multilingual
        config.max_length = None
        config.do_sample, config.num_beams = False, 1  # overrides the folder's settings
        config.forced_decoder_ids = None  # set by old folders; language and task are passed to `generate`
        self._positions: int = self._model.config.max_target_positions
        self._max_tokens: int = config.max_new_tokens or self._positions // 2
        self._compiled = settings.compile and device.kind == "cuda"
        # With a static cache the library compiles the decoder on a GPU by itself.
        config.cache_implementation = "static" if self._compiled else None

    def _transcribe(self, clips: Sequence[Clip]) -> list[Recognition]:
        features = self._processor([clip.samples for clip in clips], sampling_rate=RATE_HZ, return_tensors="pt")
        encoded = self._model.get_encoder()(features.input_features.to(self._device.name, self._device.dtype))
        return self._decode(clips, encoded.last_hidden_state)

    def _decode(self, clips: Sequence[Clip], encoded: Any) -> list[Recognition]:
        no_speech, detected = self._first_step(encoded)
        languages = [clip.language or found for clip, found in zip(clips, detected, strict=True)]

        def decode_group(indices: list[int]) -> list[Recognition]:
            batch = indices
            if self._compiled:  # only for powers of two; another size would be compiled when it first occurs
                batch = indices + indices[-1:] * ((1 << (len(indices) - 1).bit_length()) - len(indices))
            spoken = [languages[index] for index in batch]
            results = self._generate([clips[index] for index in batch], encoded[batch], spoken)[: len(indices)]
            return [
                Recognition(text, languages[index], no_speech[index], confidence)
                for index, (text, confidence) in zip(indices, results, strict=True)
            ]

        return in_groups((clip.hints for clip in clips), decode_group)  # a call has one prompt

    def _generate(self, clips: Sequence[Clip], encoded: Any, languages: list[str]) -> list[tuple[str, float]]:
        """Return each clip's text and the mean log-probability of its tokens. All clips have the same hints."""
        from transformers.modeling_outputs import BaseModelOutput

        options: dict[str, Any] = {"language": languages, "task": "transcribe"} if self._language_of else {}
        prompted = 0
        if hints := clips[0].hints:
            options["prompt_ids"] = self._prompt(hints)
            prompted = len(options["prompt_ids"])
        most = min(self._max_tokens, self._positions - prompted - CONTROL_TOKENS)
        counts = [min(most, clip.max_tokens) for clip in clips]
        recorder = _token_recorder()
        self._model.generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=encoded),
            # The static cache of compiled code has one size.
            max_new_tokens=most if self._compiled else max(counts),
            return_timestamps=False,
            logits_processor=[recorder],
            **options,
        )
        ends = self._config.eos_token_id
        rows = recorder.rows(counts, {ends} if isinstance(ends, int) else set(ends))
        texts = self._processor.batch_decode([tokens for tokens, _ in rows], skip_special_tokens=True)
        return [(text.strip(), confidence) for text, (_, confidence) in zip(texts, rows, strict=True)]

    def _prompt(self, hints: str) -> Any:
        """Return the tokens of the hints; only the last ones if there are more than the model was trained with."""
        import torch

        ids = self._processor.get_prompt_ids(without_control_tokens(hints), return_tensors="pt")
        most = self._positions // 2
        return torch.cat([ids[:1], ids[1:][1 - most :]]).to(self._device.name)

    def _first_step(self, encoded: Any) -> tuple[list[float | None], list[str]]:
        """Run the first decoding step. Returns the probability of no speech and the likeliest language of each clip."""
        import torch
        from transformers.modeling_outputs import BaseModelOutput

        start = torch.full((len(encoded), 1), self._config.decoder_start_token_id, device=self._device.name)
        outputs = BaseModelOutput(last_hidden_state=encoded)
        logits = self._model(encoder_outputs=outputs, decoder_input_ids=start).logits[:, 0].float()
        no_speech: list[float | None] = [None] * len(encoded)
        no_timestamps = getattr(self._config, "no_timestamps_token_id", None)
        if no_timestamps is not None:  # the token of no speech is the one before it
            no_speech = logits.softmax(-1)[:, no_timestamps - 1].tolist()
        if not self._language_of:
            return no_speech, ["en"] * len(encoded)
        ids = sorted(self._language_of)
        return no_speech, [self._language_of[ids[best]] for best in logits[:, ids].argmax(-1).tolist()]


def _token_recorder() -> Any:
    """Return a logits processor that changes nothing and records the chosen tokens with their log-probabilities.

    The return value of Whisper's `generate` cannot be used: it omits the end token in some rows and not in others.
    """
    import torch
    from transformers import LogitsProcessor

    class TokenRecorder(LogitsProcessor):
        """Greedy decoding chooses the largest score; its log-probability is that score minus the log-sum-exp of all."""

        def __init__(self) -> None:
            self._tokens: list[Any] = []
            self._log_probabilities: list[Any] = []

        def __call__(self, input_ids: Any, scores: Any) -> Any:
            best = scores.float().max(-1)
            self._tokens.append(best.indices)
            self._log_probabilities.append(best.values - scores.float().logsumexp(-1))
            return scores

        def rows(self, counts: Sequence[int], ends: set[int]) -> list[tuple[list[int], float]]:
            """Return each sequence's tokens before its end token, and the mean log-probability, end token included."""
            tokens, log_probabilities = (
                torch.stack(self._tokens, 1).tolist(),
                torch.stack(self._log_probabilities, 1).tolist(),
            )
            found = []
            for row, values, count in zip(tokens, log_probabilities, counts, strict=True):
                end = next((step for step, token in enumerate(row[:count]) if token in ends), count)
                counted = values[: min(end + 1, count)]
                found.append((row[:end], sum(counted) / len(counted)))
            return found

    return TokenRecorder()
