"""Whisper and Distil-Whisper: the only ones that also tell whether anybody spoke, how sure they are, and in what language."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.asr.engines.clips import Clip, Recognition, in_groups
from services.asr.engines.pretrained import Pretrained
from shared.engines.devices import Device
from shared.protocol.session import RATE_HZ
from shared.settings import Settings

LEADING = 4
"""Tokens that say what is to be done: start, language, task, no timestamps."""


class Whisper(Pretrained):
    """See `clips.Model`. It tells no times of words: it would need its attentions for that, which costs the fast kernels."""

    def __init__(self, folder: Path, architecture: str, device: Device, settings: Settings) -> None:
        super().__init__(folder, architecture, device, settings)
        config = self._config = self._model.generation_config
        tokens = getattr(config, "lang_to_id", None) or {}
        multilingual = bool(tokens) and getattr(config, "is_multilingual", True)
        self._language_of = {place: token.strip("<|>") for token, place in tokens.items()} if multilingual else {}
        self.languages = frozenset(self._language_of.values() or {"en"})
        self.detects = multilingual
        config.max_length = None
        config.do_sample, config.num_beams = False, 1  # whatever the folder says
        config.forced_decoder_ids = None  # of old folders; it is told the language and the task
        self._places: int = self._model.config.max_target_positions
        self._most: int = config.max_new_tokens or self._places // 2
        self._compiled = settings.compile and device.kind == "cuda"
        # With a cache of one size the library compiles the decoder on a GPU by itself, so only where that is wanted.
        config.cache_implementation = "static" if self._compiled else None

    def _transcribe(self, clips: Sequence[Clip]) -> list[Recognition]:
        features = self._processor([clip.samples for clip in clips], sampling_rate=RATE_HZ, return_tensors="pt")
        encoded = self._model.get_encoder()(features.input_features.to(self._device.name, self._device.dtype))
        return self._decoded(clips, encoded.last_hidden_state)

    def _decoded(self, clips: Sequence[Clip], encoded: Any) -> list[Recognition]:
        no_speech, detected = self._first_step(encoded)
        languages = [clip.language or found for clip, found in zip(clips, detected, strict=True)]

        def written(places: list[int]) -> list[Recognition]:
            asked = places
            if self._compiled:  # for powers of two only; each other size would be compiled when it first comes
                asked = places + places[-1:] * ((1 << (len(places) - 1).bit_length()) - len(places))
            spoken = [languages[place] for place in asked]
            texts = self._written([clips[place] for place in asked], encoded[asked], spoken)[: len(places)]
            return [
                Recognition(text, languages[place], no_speech[place], sure)
                for place, (text, sure) in zip(places, texts, strict=True)
            ]

        return in_groups((clip.hints for clip in clips), written)  # one prompt in a call

    def _written(self, clips: Sequence[Clip], encoded: Any, languages: list[str]) -> list[tuple[str, float]]:
        """The texts, and the mean log-probability of the tokens of each."""
        from transformers.modeling_outputs import BaseModelOutput

        options: dict[str, Any] = {"language": languages, "task": "transcribe"} if self._language_of else {}
        prompted = 0
        if hints := clips[0].hints:
            options["prompt_ids"] = self._prompt(hints)
            prompted = len(options["prompt_ids"])
        most = min(self._most, self._places - prompted - LEADING)
        counts = [min(most, clip.most_tokens) for clip in clips]
        chosen = _chosen_tokens()
        self._model.generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=encoded),
            # Compiled code is for a cache of one size.
            max_new_tokens=most if self._compiled else max(counts),
            return_timestamps=False,
            logits_processor=[chosen],
            **options,
        )
        ends = self._config.eos_token_id
        rows = chosen.rows(counts, {ends} if isinstance(ends, int) else set(ends))
        texts = self._processor.batch_decode([tokens for tokens, _ in rows], skip_special_tokens=True)
        return [(text.strip(), sure) for text, (_, sure) in zip(texts, rows, strict=True)]

    def _prompt(self, hints: str) -> Any:
        """The tokens of the hints; the last ones, where there are more than the model was trained with."""
        import torch

        # What looks like a token of its own would be one.
        ids = self._processor.get_prompt_ids(hints.replace("<|", " ").replace("|>", " "), return_tensors="pt")
        most = self._places // 2
        return torch.cat([ids[:1], ids[1:][1 - most :]]).to(self._device.name)

    def _first_step(self, encoded: Any) -> tuple[list[float | None], list[str]]:
        """What the model says before its first word: the probability of no speech, and the likeliest language."""
        import torch
        from transformers.modeling_outputs import BaseModelOutput

        start = torch.full((len(encoded), 1), self._config.decoder_start_token_id, device=self._device.name)
        outputs = BaseModelOutput(last_hidden_state=encoded)
        logits = self._model(encoder_outputs=outputs, decoder_input_ids=start).logits[:, 0].float()
        silent: list[float | None] = [None] * len(encoded)
        stamps = getattr(self._config, "no_timestamps_token_id", None)
        if stamps is not None:
            silent = logits.softmax(-1)[:, stamps - 1].tolist()
        if not self._language_of:
            return silent, ["en"] * len(encoded)
        places = sorted(self._language_of)
        return silent, [self._language_of[places[best]] for best in logits[:, places].argmax(-1).tolist()]


def _chosen_tokens() -> Any:
    """A logits processor that changes nothing and keeps what is chosen, and how sure the model was of it.

    What `generate` returns does not do: Whisper's leaves out the token that ends a text in some rows and not in others.
    """
    import torch
    from transformers import LogitsProcessor

    class Chosen(LogitsProcessor):
        """Greedy decoding takes the likeliest: its log-probability is the largest score less the sum of all."""

        def __init__(self) -> None:
            self._tokens: list[Any] = []
            self._sure: list[Any] = []

        def __call__(self, input_ids: Any, scores: Any) -> Any:
            best = scores.float().max(-1)
            self._tokens.append(best.indices)
            self._sure.append(best.values - scores.float().logsumexp(-1))
            return scores

        def rows(self, counts: Sequence[int], ends: set[int]) -> list[tuple[list[int], float]]:
            """Of each sequence the tokens up to its end, at most so many, and the mean log-probability with the end's."""
            tokens, sure = torch.stack(self._tokens, 1).tolist(), torch.stack(self._sure, 1).tolist()
            found = []
            for row, values, count in zip(tokens, sure, counts, strict=True):
                end = next((place for place, token in enumerate(row[:count]) if token in ends), count)
                heard = values[: min(end + 1, count)]
                found.append((row[:end], sum(heard) / len(heard)))
            return found

    return Chosen()
