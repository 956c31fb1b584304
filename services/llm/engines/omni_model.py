"""A transformers chat model with audio input: Qwen2-Audio, Voxtral, Qwen-Omni and similar. Blocking; one thread at a
time.

The model type in the folder's configuration selects the class. Models with a talker also speak. The library's
`generate` returns the speech at its end, so it starts only when the text is complete.
"""

import base64
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from services.llm.context.window import DEFAULT_CONTEXT, fit
from services.llm.engine import Shortening, Usage
from services.llm.engines.chat_template import BEGINNING, MERGING, controls, merged, without_calls
from services.llm.engines.omni_streamer import OnText, Stopped, TextStreamer, stopping_criteria
from shared.audio.loudness import level
from shared.distribution import not_installed
from shared.engines.devices import Device, quantized
from shared.engines.registry import UnknownEngine, first_line
from shared.protocol.prompt import SOUND
from shared.protocol.session import RATE_HZ, Message
from shared.settings import Settings

TALKERS = frozenset({"qwen2_5_omni", "qwen3_omni_moe"})
TALKER_HZ = 24_000
"""Sample rate of their voices, which is not in their configuration."""

MAX_CODES, MIN_CODES, CODES_PER_TOKEN = 4096, 50, 25
"""Limits for a voice that misses its end. A code is 40 ms of audio; a word takes several."""

AUDIO_TOKENS_PER_S = 25
"""Maximum for Qwen's models."""
VOXTRAL_CHUNK_S, VOXTRAL_CHUNK_TOKENS = 30, 375
"""Voxtral encodes whole chunks; the last one is padded."""

PACKAGES = {"mistral": "mistral-common", "soundfile": "soundfile", "librosa": "librosa", "torchvision": "torchvision"}
"""Additional packages of some model types: a word of the import error, and the name for pip."""

_SAMPLE = (Message("system", "Be brief.", 0), Message("user", "Hello.", 1), Message("assistant", "Hello.", 1))


class AudioChatModel:
    """The loaded model and its processor."""

    def __init__(self, folder: Path, device: Device, settings: Settings) -> None:
        """Raises `UnknownEngine` if the model has no audio input or cannot be loaded; the message says why."""
        try:
            import transformers
            from safetensors import SafetensorError
            from transformers.models.auto import modeling_auto as auto
        except ImportError as error:
            raise UnknownEngine(not_installed("The omni engine", "omni", error.name)) from error
        library: Any = transformers
        library.logging.set_verbosity_error()
        library.logging.disable_progress_bar()
        self._device, self._settings = device, settings
        try:
            config = library.AutoConfig.from_pretrained(folder, local_files_only=True)
            self.model_type: str = config.model_type
            found = getattr(auto, "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES", {}).get(self.model_type)
            if found is None:
                raise UnknownEngine(f"{folder}: a model of the type {self.model_type!r} has no audio input")
            self._load(folder, found, library)
        except UnknownEngine:
            raise
        except ImportError as error:
            needed = next((pip for name, pip in PACKAGES.items() if name in str(error)), error.name)
            raise UnknownEngine(
                not_installed(f"{folder}: a library that a {self.model_type} model needs", "omni", needed)
            ) from error
        except (ValueError, OSError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
            raise UnknownEngine(f"{folder} cannot be loaded: {first_line(error)}") from error
        text = config.get_text_config()
        window = getattr(text, "max_position_embeddings", None) or DEFAULT_CONTEXT
        self.limit = min(settings.context_tokens or DEFAULT_CONTEXT, window) - settings.reply_tokens
        self._merging = self._find_merging(folder)

    def _load(self, folder: Path, architecture: str, library: Any) -> None:
        self._processor: Any = library.AutoProcessor.from_pretrained(folder, local_files_only=True)
        extractor = getattr(self._processor, "feature_extractor", None)
        if extractor is None:
            raise UnknownEngine(
                f"{folder}: the {self.model_type} model has no feature extractor, so it has no audio input"
            )
        if getattr(extractor, "sampling_rate", RATE_HZ) != RATE_HZ:
            raise UnknownEngine(f"{folder} expects audio at {extractor.sampling_rate} Hz; turns have {RATE_HZ} Hz")
        self._tokenizer = self._processor.tokenizer
        # Mistral's own tokenizer has no table of added tokens; it never encodes text as a control token.
        has_table = isinstance(getattr(self._tokenizer, "added_tokens_decoder", None), dict)
        self._controls = controls(self._tokenizer) if has_table else re.compile(r"(?!)(.)")
        load = getattr(library, architecture).from_pretrained
        options: dict[str, Any] = {"dtype": self._device.dtype, "local_files_only": True}
        if self.model_type in TALKERS:  # their loader also loads the voices, and does not report missing weights
            model = load(folder, **options)
        else:
            model, info = load(folder, output_loading_info=True, **options)
            if missing := sorted(info["missing_keys"]):  # the library would initialise them at random
                raise UnknownEngine(f"{folder}: {len(missing)} weights are missing, such as {missing[0]}")
        model = model.to(self._device.name).eval()
        self.speaks = self.model_type in TALKERS and bool(model.has_talker)
        self.voices = tuple(_voices(model)) if self.speaks else ()
        self._model = quantized(model, self._settings, self._device)

    def _find_merging(self, folder: Path) -> int:
        """Return how much of a conversation has to be merged for the model's template: see `chat_template.merged`."""
        from jinja2 import TemplateError

        silence = np.zeros(RATE_HZ, np.float32)
        reason: Exception | None = None
        for merging in MERGING:
            try:
                self._inputs([*_SAMPLE, Message("user", SOUND, 2)], silence, merging)
            except (TemplateError, ValueError, TypeError, LookupError, AttributeError, AssertionError) as error:
                reason = reason or error
            else:
                return merging
        raise UnknownEngine(f"{folder}: the {self.model_type} model accepts no conversation with audio: {reason}")

    # -- prompt -----------------------------------------------------------------------------------

    def prompt(self, messages: Sequence[Message], pcm: bytes, prefix: str) -> tuple[Any, Shortening]:
        """Return the model's inputs (the conversation, the user's turn as audio, the prefix of the reply), and what they leave out.

        `pcm` is s16le mono at 16 kHz; empty if the last message is text. The oldest turns are dropped if all does not
        fit.

        Raises:
            PromptTooLong: the instructions and the last turn do not fit into the context window.
        """
        samples = np.frombuffer(pcm, "<i2").astype(np.float32) / 32_768
        conversation = [*messages]
        if pcm:
            conversation.append(Message("user", SOUND, max((message.turn for message in messages), default=0) + 1))
        conversation = conversation or [Message("user", BEGINNING, 0)]
        fitted = fit(conversation, self.limit - self._audio_tokens(len(samples)), self._count)
        inputs = self._inputs(without_calls(fitted.messages), samples, self._merging)
        if prefix:
            import torch

            begun = torch.tensor([self._ids(self._escaped(prefix))], device=self._device.name)
            inputs["input_ids"] = torch.cat([inputs["input_ids"], begun], dim=1)
            inputs["attention_mask"] = torch.cat([inputs["attention_mask"], torch.ones_like(begun)], dim=1)
        return inputs, fitted.left_out

    def _escaped(self, text: str) -> str:
        """Break up control tokens in untrusted text. The library fails at an audio token without audio."""
        return self._controls.sub(r"\1 ", text)

    def _audio_tokens(self, samples: int) -> int:
        """Return the maximum number of tokens of this many samples at 16 kHz."""
        if self.model_type == "voxtral":
            return VOXTRAL_CHUNK_TOKENS * -(-samples // (VOXTRAL_CHUNK_S * RATE_HZ))
        return AUDIO_TOKENS_PER_S * -(-samples // RATE_HZ)

    def _ids(self, text: str) -> list[int]:
        found: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return found

    def _count(self, messages: Sequence[Message]) -> int:
        """Estimate the tokens of a conversation; the template adds a few to each message."""
        texts = [message.text for message in without_calls(messages)]
        return len(self._ids("\n".join(texts))) + 8 * len(texts)

    def _inputs(self, messages: Sequence[Message], samples: Any, merging: int) -> Any:
        conversation = [
            {"role": message.role, "content": self._content(message.text, samples)}
            for message in merged(messages, merging)
        ]
        options = {} if self.model_type == "voxtral" else {"add_generation_prompt": True}
        inputs = self._processor.apply_chat_template(
            conversation, tokenize=True, return_dict=True, return_tensors="pt", **options
        )
        return inputs.to(self._device.name, self._device.dtype)

    def _content(self, text: str, samples: Any) -> Any:
        before, placeholder, after = text.rpartition(SOUND)
        if not placeholder or after or not len(samples):
            return self._escaped(text)
        audio = {"base64": _wav(samples)} if self.model_type == "voxtral" else {"audio": samples}
        words = [{"type": "text", "text": self._escaped(before.strip())}] if before.strip() else []
        return [*words, {"type": "audio", **audio}]

    # -- reply ------------------------------------------------------------------------------------

    def write(self, inputs: Any, tokens: int, on_text: OnText, stopped: Stopped, usage: Usage) -> None:
        """Generate at most `tokens` tokens, counted in `usage`, and pass the text to `on_text` until `stopped`."""
        writer = self._model.thinker if self.model_type in TALKERS else self._model
        writer.generate(**inputs, **self._options(tokens, on_text, stopped, usage))

    def speak(self, inputs: Any, tokens: int, voice: str, on_text: OnText, stopped: Stopped, usage: Usage) -> bytes:
        """Generate text as `write` does, then return it as speech: s16le at `TALKER_HZ`; empty if `stopped`.

        `on_text` also gets empty strings while speech is generated, which show that the model is not stalled.
        """
        written = 0

        def count_text(text: str) -> None:
            nonlocal written
            written += len(text)
            on_text(text)

        text_options = self._options(tokens, count_text, stopped, usage)
        options = {f"thinker_{name}": value for name, value in text_options.items()}
        options |= {
            "talker_stopping_criteria": stopping_criteria(stopped),
            "talker_streamer": TextStreamer(self._tokenizer, lambda _: on_text("")),
            "talker_max_new_tokens": min(MAX_CODES, MIN_CODES + CODES_PER_TOKEN * tokens),
            "speaker": voice if voice in self.voices else self.voices[0],
            "generation_mode": "audio",
        }
        try:
            _, audio = self._model.generate(**inputs, **options)
        except (RuntimeError, ValueError, IndexError):
            if stopped() or not written:  # the library fails if there is no text to speak
                return b""
            raise
        if stopped():
            return b""
        # A single NaN would silence the whole reply.
        whole = np.nan_to_num(audio.float().reshape(-1).clamp(-1, 1).cpu().numpy())
        pcm: bytes = (level(whole, TALKER_HZ) * 32_767).astype("<i2").tobytes()
        return pcm

    def _options(self, tokens: int, on_text: OnText, stopped: Stopped, usage: Usage) -> dict[str, Any]:
        sampling = self._settings.temperature > 0
        return {
            "max_new_tokens": tokens,
            "do_sample": sampling,
            "temperature": self._settings.temperature if sampling else None,
            **({} if sampling else {"top_p": None, "top_k": None}),
            "streamer": TextStreamer(self._tokenizer, on_text, usage),
            "stopping_criteria": stopping_criteria(stopped),
        }


def _voices(model: Any) -> list[str]:
    named = getattr(model, "speaker_map", None)
    if named is None:
        named = model.config.talker_config.speaker_id
    return list(named)


def _wav(samples: Any) -> str:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE_HZ, subtype="PCM_16", format="WAV")
    return base64.b64encode(buffer.getvalue()).decode()
