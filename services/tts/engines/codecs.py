"""The families that write the tokens of an audio codec, one after another, by chance: CSM and Bark."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from services.tts.engines.family import VOICE, Family, seed
from services.tts.engines.waveform import Waveform
from shared.engines.devices import quantized
from shared.settings import Settings

FIRST_SENTENCE = "Hello, and welcome. I am glad that you are here, and happy to help you today."


class Csm(Family):
    """Sesame's CSM, 1 billion parameters: it goes on as a conversation went.

    Without a conversation each sentence would have a voice of its own. So a voice is a first sentence, drawn at random once
    and always with the same seed, and every sentence is spoken after it. One in a call: what is drawn would depend on the
    neighbours, and the codec is called for each alone anyway.
    """

    exact = False
    voices = (VOICE, "speaker-1")
    languages = frozenset({"en"})
    longest = 240

    def _read(self, library: Any, folder: Path) -> Any:
        return library.AutoProcessor.from_pretrained(folder, local_files_only=True)

    def _finish(self, folder: Path, settings: Settings) -> None:
        self.rate_hz = int(self._model.config.codec_config.sampling_rate)
        self._model = quantized(self._model, settings, self._device)
        self._watch(self._model.backbone_model)
        self._first: dict[str, Any] = {}

    def _speak(self, texts: list[str], voice: str, speed: float) -> Sequence[Any]:
        role = voice.rpartition("-")[2]
        if voice not in self._first:
            audio = self._go_on([_said(role, FIRST_SENTENCE)], FIRST_SENTENCE).float().cpu().numpy()
            self._first[voice] = _said(role, FIRST_SENTENCE, audio)
        return [self._go_on([self._first[voice], _said(role, text)], text) for text in texts]

    def _go_on(self, conversation: list[dict[str, Any]], text: str) -> Any:
        import torch

        inputs = self._reader.apply_chat_template(conversation, tokenize=True, return_dict=True)
        inputs = inputs.to(self._device.name, self._model.dtype)
        torch.manual_seed(seed(text))
        frames = int(self._model.config.codec_config.frame_rate * _most_s(text))
        return self._model.generate(**inputs, output_audio=True, max_new_tokens=frames)[0]


class Bark(Family):
    """Suno's Bark, in three stages one after another. Its voices are those whose files are in the folder."""

    exact = False
    longest = 150
    """Characters: it speaks for 14 s at most."""

    def _read(self, library: Any, folder: Path) -> Any:
        return library.AutoProcessor.from_pretrained(folder, local_files_only=True)

    def _finish(self, folder: Path, settings: Settings) -> None:
        self.rate_hz = int(self._model.generation_config.sample_rate)
        presets: Mapping[str, Any] = self._reader.speaker_embeddings or {}
        files = {name: paths for name, paths in presets.items() if isinstance(paths, dict)}
        here = [name for name, paths in files.items() if all((folder / path).is_file() for path in paths.values())]
        self.voices = tuple(sorted(here, key=lambda name: ("en_" not in name, name))) or (VOICE,)
        model = self._model = quantized(self._model, settings, self._device)
        self._watch(model.semantic, model.coarse_acoustics, model.fine_acoustics)

    def _speak(self, texts: list[str], voice: str, speed: float) -> Sequence[Any]:
        import torch

        inputs = self._reader(texts, voice_preset=None if voice == VOICE else voice).to(self._device.name)
        torch.manual_seed(seed(texts[0]))
        semantic = self._model.generation_config.semantic_config
        rate = semantic.get("semantic_rate_hz", 49.9)
        most = min(semantic.get("max_new_tokens", 768), int(rate * _most_s(texts[0])))
        return [self._model.generate(**inputs, semantic_max_new_tokens=most)[0]]


def _said(role: str, text: str, audio: Waveform | None = None) -> dict[str, Any]:
    """A turn of a conversation, as the processor takes it."""
    content: list[dict[str, Any]] = [{"type": "text", "text": text}]
    if audio is not None:
        content.append({"type": "audio", "path": audio})
    return {"role": role, "content": content}


def _most_s(text: str) -> float:
    """Nobody takes longer for a text, in seconds: four characters in one, as in Chinese, and time to breathe."""
    return 3 + len(text) / 4
