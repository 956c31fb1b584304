"""One chat model of transformers that hears: Qwen2-Audio, Voxtral, Qwen-Omni and their kin. Blocking; for one thread at a time.

Loaded from a folder, told apart by the model's own configuration. Kinds with a talker have a voice, which begins only when
all of the text is there: the library's `generate` gives it at its end.
"""

import base64
import io
import re
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from services.llm.engine import Usage
from services.llm.engines.chat import BEGINNING, folded, written
from services.llm.engines.context import within
from services.llm.engines.omni_tokens import OnText, Stopped, TokenReader, ends_when
from shared.audio.loudness import level
from shared.distribution import not_installed
from shared.engines.devices import Device, quantized
from shared.engines.registry import UnknownEngine
from shared.protocol.prompt import SOUND
from shared.protocol.session import RATE_HZ, Message
from shared.settings import Settings

TALKERS = frozenset({"qwen2_5_omni", "qwen3_omni_moe"})
TALKER_HZ = 24_000
"""Rate of their voices; no configuration says it."""

MOST_CODES, LEAST_CODES, CODES_PER_TOKEN = 4096, 50, 25
"""Of a voice that does not find its end: one of 40 ms each, several for a word."""

LONGEST_CONTEXT = 8192
"""Tokens of a conversation where the settings name none."""
SOUND_TOKENS_PER_S = 25
"""What a second of sound takes of them with Qwen's models, at most."""
VOXTRAL_CHUNK_S, VOXTRAL_CHUNK_TOKENS = 30, 375
"""Voxtral hears whole chunks, the last one padded."""

PACKAGES = {"mistral": "mistral-common", "soundfile": "soundfile", "librosa": "librosa", "torchvision": "torchvision"}
"""What a kind needs besides, as its error calls it and as pip does."""

_TRIAL = (Message("system", "Be brief.", 0), Message("user", "Hello.", 1), Message("assistant", "Hello.", 1))


class HearingModel:
    """The loaded model, its processor, and its way to be asked."""

    def __init__(self, folder: Path, device: Device, settings: Settings) -> None:
        """Raises `UnknownEngine` if it is no such model, or cannot be loaded; the message says what it is."""
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
            self.kind: str = config.model_type
            found = getattr(auto, "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES", {}).get(self.kind)
            if found is None:
                raise UnknownEngine(f"{folder} is a model of the kind {self.kind!r}, which hears nothing")
            self._load(folder, found, library)
        except UnknownEngine:
            raise
        except ImportError as error:
            needed = next((pip for name, pip in PACKAGES.items() if name in str(error)), error.name)
            raise UnknownEngine(
                not_installed(f"{folder}: a library that a {self.kind} needs", "omni", needed)
            ) from error
        except (ValueError, OSError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
            raise UnknownEngine(f"{folder} cannot be loaded: {_first_line(error)}") from error
        text = config.get_text_config()
        window = getattr(text, "max_position_embeddings", None) or LONGEST_CONTEXT
        self._limit = min(settings.context_tokens or LONGEST_CONTEXT, window) - settings.reply_tokens
        self._folds = self._bearable(folder)

    def _load(self, folder: Path, architecture: str, library: Any) -> None:
        self._processor: Any = library.AutoProcessor.from_pretrained(folder, local_files_only=True)
        extractor = getattr(self._processor, "feature_extractor", None)
        if extractor is None:
            raise UnknownEngine(f"{folder}: nothing there turns audio into features: the {self.kind} does not hear")
        if getattr(extractor, "sampling_rate", RATE_HZ) != RATE_HZ:
            raise UnknownEngine(f"{folder} hears audio of {extractor.sampling_rate} Hz, and there is only {RATE_HZ} Hz")
        self._tokenizer = self._processor.tokenizer
        self._controls = _controls(self._tokenizer)
        load = getattr(library, architecture).from_pretrained
        options: dict[str, Any] = {"dtype": self._device.dtype, "local_files_only": True}
        if self.kind in TALKERS:  # their own loader looks for the voices, and says nothing of weights
            model = load(folder, **options)
        else:
            model, info = load(folder, output_loading_info=True, **options)
            if missing := sorted(info["missing_keys"]):  # it fills them with noise
                raise UnknownEngine(f"{folder}: {len(missing)} weights are missing, such as {missing[0]}")
        model = model.to(self._device.name).eval()
        self.speaks = self.kind in TALKERS and bool(model.has_talker)
        self.voices = tuple(_voices(model)) if self.speaks else ()
        self._model = quantized(model, self._settings, self._device)

    def _bearable(self, folder: Path) -> int:
        """How far a conversation has to be folded for the model's template: see `chat.folded`."""
        from jinja2 import TemplateError

        silence = np.zeros(RATE_HZ, np.float32)
        reason: Exception | None = None
        for folds in (0, 1, 2):
            try:
                self._inputs([*_TRIAL, Message("user", SOUND, 2)], silence, folds)
            except (TemplateError, ValueError, TypeError, LookupError, AttributeError, AssertionError) as error:
                reason = reason or error
            else:
                return folds
        raise UnknownEngine(f"{folder}: the {self.kind} takes no conversation with sound in it: {reason}")

    # -- what it is asked -------------------------------------------------------------------------

    def prompt(self, messages: Sequence[Message], pcm: bytes, prefix: str) -> Any:
        """What goes into the model: the conversation, its last turn as sound where there is any, and the reply's beginning.

        Raises:
            ValueError: the instructions and the last turn do not fit.
        """
        samples = np.frombuffer(pcm, "<i2").astype(np.float32) / 32_768
        told = [*written(messages)]
        if pcm:
            told.append(Message("user", SOUND, max((message.turn for message in messages), default=0) + 1))
        told = told or [Message("user", BEGINNING, 0)]
        room = self._limit - self._sound_tokens(len(samples))
        told, _ = within(told, room, self._count)
        inputs = self._inputs(told, samples, self._folds)
        if prefix:
            import torch

            said = torch.tensor([self._ids(self._tame(prefix))], device=self._device.name)
            inputs["input_ids"] = torch.cat([inputs["input_ids"], said], dim=1)
            inputs["attention_mask"] = torch.cat([inputs["attention_mask"], torch.ones_like(said)], dim=1)
        return inputs

    def _tame(self, text: str) -> str:
        """What others wrote, in which the model's control tokens are only text: one that stands for sound would want some."""
        return self._controls.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)

    def _sound_tokens(self, samples: int) -> int:
        """What sound takes of the model's window, at most."""
        if self.kind == "voxtral":
            return VOXTRAL_CHUNK_TOKENS * -(-samples // (VOXTRAL_CHUNK_S * RATE_HZ))
        return SOUND_TOKENS_PER_S * -(-samples // RATE_HZ)

    def _ids(self, text: str) -> list[int]:
        found: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return found

    def _count(self, messages: Sequence[Message]) -> int:
        """Tokens of a conversation, nearly: the template adds a few to each message."""
        return len(self._ids("\n".join(message.text for message in messages))) + 8 * len(messages)

    def _inputs(self, messages: Sequence[Message], samples: Any, folds: int) -> Any:
        conversation = [
            {"role": message.role, "content": self._content(message.text, samples)}
            for message in folded(messages, folds)
        ]
        made = self._processor.apply_chat_template(
            conversation, tokenize=True, return_dict=True, return_tensors="pt", **self._template_options()
        )
        return made.to(self._device.name, self._device.dtype)

    def _template_options(self) -> dict[str, Any]:
        return {} if self.kind == "voxtral" else {"add_generation_prompt": True}

    def _content(self, text: str, samples: Any) -> Any:
        before, mark, after = text.rpartition(SOUND)
        if not mark or after or not len(samples):
            return self._tame(text)
        sound = {"base64": _wav(samples)} if self.kind == "voxtral" else {"audio": samples}
        said = [{"type": "text", "text": self._tame(before.strip())}] if before.strip() else []
        return [*said, {"type": "audio", **sound}]

    # -- what it answers --------------------------------------------------------------------------

    def write(self, inputs: Any, tokens: int, on_text: OnText, stopped: Stopped, usage: Usage) -> None:
        """Write a reply of at most so many tokens, counted in `usage`; `on_text` gets it as it comes, until `stopped`."""
        writer = self._model.thinker if self.kind in TALKERS else self._model
        writer.generate(**inputs, **self._options(tokens, on_text, stopped, usage))

    def speak(self, inputs: Any, tokens: int, voice: str, on_text: OnText, stopped: Stopped, usage: Usage) -> bytes:
        """As `write`, and then say it, levelled: s16le at `TALKER_HZ`; nothing where it was `stopped`."""
        written = 0

        def on_some(text: str) -> None:
            nonlocal written
            written += len(text)
            on_text(text)

        given = self._options(tokens, on_some, stopped, usage)
        options = {f"thinker_{name}": value for name, value in given.items()}
        options |= {
            "talker_stopping_criteria": ends_when(stopped),
            "talker_streamer": TokenReader(self._tokenizer, lambda _: on_text("")),  # it is still at work
            "talker_max_new_tokens": min(MOST_CODES, LEAST_CODES + CODES_PER_TOKEN * tokens),
            "speaker": voice if voice in self.voices else self.voices[0],
            "generation_mode": "audio",
        }
        try:
            _, audio = self._model.generate(**inputs, **options)
        except (RuntimeError, ValueError, IndexError):
            if stopped() or not written:  # where there is nothing to say, the library fails
                return b""
            raise
        if stopped():
            return b""
        whole = np.nan_to_num(audio.float().reshape(-1).clamp(-1, 1).cpu().numpy())  # one NaN would silence all of it
        pcm: bytes = (level(whole, TALKER_HZ) * 32_767).astype("<i2").tobytes()
        return pcm

    def _options(self, tokens: int, on_text: OnText, stopped: Stopped, usage: Usage) -> dict[str, Any]:
        warm = self._settings.temperature > 0
        return {
            "max_new_tokens": tokens,
            "do_sample": warm,
            "temperature": self._settings.temperature if warm else None,
            **({} if warm else {"top_p": None, "top_k": None}),
            "streamer": TokenReader(self._tokenizer, on_text, usage),
            "stopping_criteria": ends_when(stopped),
        }


def _controls(tokenizer: Any) -> re.Pattern[str]:
    added = getattr(tokenizer, "added_tokens_decoder", None)
    # Mistral's own tokenizer has no such table, and takes no text for a control token.
    names = {token.content for token in added.values()} if isinstance(added, dict) else set()
    found = sorted((re.escape(name) for name in names if len(name.strip()) > 1), key=len, reverse=True)
    return re.compile("|".join(found) or r"(?!)")


def _voices(model: Any) -> list[str]:
    named = getattr(model, "speaker_map", None)
    if named is None:
        named = model.config.talker_config.speaker_id
    return list(named)


def _wav(samples: Any) -> str:
    held = io.BytesIO()
    with wave.open(held, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE_HZ)
        out.writeframes((samples * 32_767).astype("<i2").tobytes())
    return base64.b64encode(held.getvalue()).decode()


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
