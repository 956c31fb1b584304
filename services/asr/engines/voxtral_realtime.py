"""Voxtral Realtime, a streaming model: it writes one token for each 80 ms of audio. Blocking, for one thread.

It does not use `generate`: that keeps the end of the audio on the model, shared by all streams; it waits inside the
thread for one person's audio; and it cannot go back. Here a call is one step of all streams whose next audio has
arrived. The state of a stream is its row in the caches and its position.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from services.asr.engines.kv_cache import RingKvCache
from services.asr.engines.model import Clip, Recognition
from services.asr.engines.pretrained import Pretrained
from shared.engines.devices import Device
from shared.engines.registry import UnknownEngine
from shared.settings import Settings

_CONTEXT = 4
"""Frames before a step that the encoder's two convolutions need, rounded up to whole output frames."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a stream: predict the token that follows `tokens`, given the audio."""

    row: int
    at: int
    """Position of the first token. If it lies before an earlier step, that step and all after it are undone."""
    tokens: tuple[int, ...]
    pcm: bytes
    """The samples that `VoxtralRealtime.span` returns; s16le, 16 kHz."""


class VoxtralRealtime(Pretrained):
    """A streaming decoder: with each token it takes the audio of one token, 80 ms. Also a `model.Model`."""

    detects = True

    def __init__(self, folder: Path, architecture: str, device: Device, settings: Settings) -> None:
        super().__init__(folder, architecture, device, settings)
        processor, extractor = self._processor, self._processor.feature_extractor
        encoder = processor.tokenizer.tokenizer.instruct_tokenizer.audio_encoder
        if encoder is None or not encoder.audio_config.is_streaming or extractor.global_log_mel_max is None:
            raise UnknownEngine(f"{folder}: the tokenizer (tekken.json) or the processor has no settings for streaming")
        self.prefix = (*processor.tokenizer.tokenizer.instruct_tokenizer.start(), *encoder.encode_streaming_tokens())
        self.pad: int = encoder.streaming_pad
        self.special = frozenset(processor.tokenizer.all_special_ids)
        self.left_padding: int = encoder.audio_config.n_left_pad_tokens
        """Tokens of silence before the audio."""
        self.delay: int = processor.num_delay_tokens
        """Tokens between the audio of a word and its text."""
        self.right_padding: int = processor.num_right_pad_tokens
        """Tokens of silence after the audio in which even the longest last word is written completely."""
        self.samples_per_token: int = processor.raw_audio_length_per_tok
        self._hop, self._window = extractor.hop_length, extractor.win_length
        config = self._model.config
        self._frames = config.downsample_factor  # encoder frames in a token
        spare, most = self.right_padding + 1, len(self.prefix)
        memory = device.name, device.dtype
        self._encoder_cache = RingKvCache(config.audio_config, self._frames * spare, self._frames * most, *memory)
        self._decoder_cache = RingKvCache(config.text_config, spare, most, *memory)
        ends = config.text_config.eos_token_id
        self._ends = frozenset(ends if isinstance(ends, list) else [ends])
        self._delay_embedding: Any = None

    def span(self, at: int, count: int) -> tuple[int, int]:
        """Return the samples (first, end) needed by `count` tokens from position `at` on; before 0 is silence."""
        begin = (at - self.left_padding) * self.samples_per_token - self._window // 2
        end = begin + count * self.samples_per_token - self._hop + self._window
        return begin - _CONTEXT * self._hop if at else begin, end

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens. Fast enough for the event loop."""
        return str(self._processor.tokenizer.decode(list(tokens), skip_special_tokens=True))

    def advance(self, steps: Sequence[Step]) -> list[int]:
        """Return the next token of each stream. Each row occurs at most once."""
        import torch

        next_tokens: dict[int, int] = {}
        with torch.inference_mode():
            for count in {len(step.tokens) for step in steps}:  # a first step has more tokens
                group = sorted((step for step in steps if len(step.tokens) == count), key=lambda step: step.row)
                next_tokens.update(zip((step.row for step in group), self._advance(group, count), strict=True))
        # There may be more audio: an end token counts as padding.
        return [self.pad if (token := next_tokens[step.row]) in self._ends else token for step in steps]

    def _advance(self, steps: Sequence[Step], count: int) -> list[int]:
        """Run one step of streams that all have `count` tokens."""
        import torch

        parts, device = self._model.model, self._device.name
        rows, starts = [step.row for step in steps], [step.at for step in steps]
        audio = parts.audio_tower.embedder(self._features(steps))
        if starts[0]:
            audio = audio[:, _CONTEXT // 2 :]
        positions, mask = self._encoder_cache.begin(rows, [at * self._frames for at in starts], count * self._frames)
        audio = parts.audio_tower(
            inputs_embeds=audio,
            position_ids=positions,
            attention_mask=mask,
            past_key_values=self._encoder_cache,
            use_cache=True,
        ).last_hidden_state
        audio = parts.multi_modal_projector(audio.reshape(len(steps), count, -1))
        ids = torch.tensor([step.tokens for step in steps], device=device)
        positions, mask = self._decoder_cache.begin(rows, starts, count)
        if self._delay_embedding is None:
            self._delay_embedding = parts.time_embedding(
                torch.full((1,), self.delay, device=device, dtype=audio.dtype)
            )[None]
        states = parts.language_model(
            inputs_embeds=parts.language_model.embed_tokens(ids) + audio,
            position_ids=positions,
            attention_mask=mask,
            past_key_values=self._decoder_cache,
            use_cache=True,
            t_cond=self._delay_embedding,
        ).last_hidden_state
        tokens: list[int] = self._model.lm_head(states[:, -1]).argmax(-1).tolist()
        return tokens

    def _features(self, steps: Sequence[Step]) -> Any:
        # The feature extractor drops the last frame. Padding it with silence avoids waiting for its audio.
        rest = bytes(2 * self._hop)
        audio = [np.frombuffer(step.pcm + rest, "<i2").astype(np.float32) / np.float32(32_768) for step in steps]
        features = self._processor.feature_extractor(
            audio, center=False, sampling_rate=self._processor.feature_extractor.sampling_rate, return_tensors="pt"
        )
        return features.input_features.to(self._device.name, self._device.dtype)

    def _transcribe(self, clips: Sequence[Clip]) -> list[Recognition]:
        inputs = self._inputs(clips)
        most = inputs["input_features"].shape[-1] * self._hop // self.samples_per_token
        rows = self._model.generate(**inputs, max_length=most, do_sample=False, num_beams=1)
        texts = self._texts([row[len(self.prefix) :] for row in rows])
        return [Recognition(text, clip.language) for text, clip in zip(texts, clips, strict=True)]
