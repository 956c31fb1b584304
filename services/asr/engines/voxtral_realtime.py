"""Voxtral Realtime: hears as it is spoken, and writes one token for each 80 ms that it has heard. Blocking; for one thread.

Not with `generate`: that keeps whether the audio is over on the model, for all who use it at once, waits inside the thread
for the audio of one person, and cannot go back. Here a call is one step of all streams whose next audio is there, and all
that a stream is, is its row and how far it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from services.asr.engines.clips import Clip, Recognition
from services.asr.engines.pretrained import Pretrained
from services.asr.engines.ring_cache import RingCache
from shared.engines.devices import Device
from shared.engines.registry import UnknownEngine
from shared.settings import Settings

_CONTEXT = 4
"""Frames before those of a step that its two convolutions look back at, rounded up to whole ones of theirs."""


@dataclass(frozen=True, slots=True)
class Step:
    """What a stream asks: the token that follows these, when this was heard."""

    row: int
    at: int
    """Position of the first of the tokens; may lie before what was asked last: what followed is taken back."""
    tokens: tuple[int, ...]
    pcm: bytes
    """Exactly what `Realtime.span` says; s16le, 16 kHz."""


class Realtime(Pretrained):
    """A decoder that hears one token's time of audio with each token that it writes. See also `clips.Model`."""

    detects = True

    def __init__(self, folder: Path, architecture: str, device: Device, settings: Settings) -> None:
        super().__init__(folder, architecture, device, settings)
        processor, extractor = self._processor, self._processor.feature_extractor
        encoder = processor.tokenizer.tokenizer.instruct_tokenizer.audio_encoder
        if encoder is None or not encoder.audio_config.is_streaming or extractor.global_log_mel_max is None:
            raise UnknownEngine(f"{folder}: the tokenizer (tekken.json) or processor says nothing of streaming")
        self.prefix = (*processor.tokenizer.tokenizer.instruct_tokenizer.start(), *encoder.encode_streaming_tokens())
        self.pad: int = encoder.streaming_pad
        self.special = frozenset(processor.tokenizer.all_special_ids)
        self.left: int = encoder.audio_config.n_left_pad_tokens
        """Tokens of silence before the audio."""
        self.delay: int = processor.num_delay_tokens
        """Tokens between what is heard and what is written."""
        self.right: int = processor.num_right_pad_tokens
        """Tokens of silence after the audio, in which the last word is written, however long."""
        self.samples: int = processor.raw_audio_length_per_tok
        """Of one token."""
        self._hop, self._window = extractor.hop_length, extractor.win_length
        config = self._model.config
        self._frames = config.downsample_factor  # of the encoder, a token
        kept = device.name, device.dtype
        spare, most = self.right + 1, len(self.prefix)
        self._ears = RingCache(config.audio_config, self._frames * spare, self._frames * most, *kept)
        self._memory = RingCache(config.text_config, spare, most, *kept)
        ends = config.text_config.eos_token_id
        self._ends = frozenset(ends if isinstance(ends, list) else [ends])
        self._pace: Any = None

    def span(self, at: int, count: int) -> tuple[int, int]:
        """Which samples of the audio so many tokens hear, from a position on: (first, end); those before 0 are silence."""
        begin = (at - self.left) * self.samples - self._window // 2
        end = begin + count * self.samples - self._hop + self._window
        return begin - _CONTEXT * self._hop if at else begin, end

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens; quick."""
        return str(self._processor.tokenizer.decode(list(tokens), skip_special_tokens=True))

    def advance(self, steps: Sequence[Step]) -> list[int]:
        """The next token of each stream. There is at most one step of a row."""
        import torch

        found: dict[int, int] = {}
        with torch.inference_mode():
            for count in {len(step.tokens) for step in steps}:  # those who begin have more to hear
                group = sorted((step for step in steps if len(step.tokens) == count), key=lambda step: step.row)
                found.update(zip((step.row for step in group), self._next(group, count), strict=True))
        # An end in the middle of the audio is nothing said: there is more to hear.
        return [self.pad if found[step.row] in self._ends else found[step.row] for step in steps]

    def _next(self, steps: Sequence[Step], count: int) -> list[int]:
        import torch

        parts, device = self._model.model, self._device.name
        rows, starts = [step.row for step in steps], [step.at for step in steps]
        heard = parts.audio_tower.embedder(self._features(steps))
        if starts[0]:
            heard = heard[:, _CONTEXT // 2 :]
        positions, mask = self._ears.begin(rows, [at * self._frames for at in starts], count * self._frames)
        heard = parts.audio_tower(
            inputs_embeds=heard, position_ids=positions, attention_mask=mask, past_key_values=self._ears, use_cache=True
        ).last_hidden_state
        heard = parts.multi_modal_projector(heard.reshape(len(steps), count, -1))
        ids = torch.tensor([step.tokens for step in steps], device=device)
        positions, mask = self._memory.begin(rows, starts, count)
        if self._pace is None:
            self._pace = parts.time_embedding(torch.full((1,), self.delay, device=device, dtype=heard.dtype))[None]
        states = parts.language_model(
            inputs_embeds=parts.language_model.embed_tokens(ids) + heard,
            position_ids=positions,
            attention_mask=mask,
            past_key_values=self._memory,
            use_cache=True,
            t_cond=self._pace,
        ).last_hidden_state
        tokens: list[int] = self._model.lm_head(states[:, -1]).argmax(-1).tolist()
        return tokens

    def _features(self, steps: Sequence[Step]) -> Any:
        # The last frame is thrown away: it may hear nothing, where others would wait for its audio.
        rest = bytes(2 * self._hop)
        audio = [np.frombuffer(step.pcm + rest, "<i2").astype(np.float32) / np.float32(32_768) for step in steps]
        made = self._processor.feature_extractor(
            audio, center=False, sampling_rate=self._processor.feature_extractor.sampling_rate, return_tensors="pt"
        )
        return made.input_features.to(self._device.name, self._device.dtype)

    def _transcribe(self, clips: Sequence[Clip]) -> list[Recognition]:
        inputs = self._inputs(clips)
        most = inputs["input_features"].shape[-1] * self._hop // self.samples
        rows = self._model.generate(**inputs, max_length=most, do_sample=False, num_beams=1)
        texts = self._texts([row[len(self.prefix) :] for row in rows])
        return [Recognition(text, clip.language) for text, clip in zip(texts, clips, strict=True)]
