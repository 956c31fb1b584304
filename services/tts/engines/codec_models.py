"""Models that sample the tokens of an audio codec autoregressively: CSM and Bark."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from services.tts.engines.model import VOICE, Model, seed
from services.tts.engines.waveform import Waveform
from shared.engines.devices import quantized
from shared.settings import Settings

FIRST_SENTENCE = "Hello, and welcome. I am glad that you are here, and happy to help you today."


class Csm(Model):
    """Sesame's CSM, 1 billion parameters. It continues a conversation.

    Without a conversation every sentence would have a different voice. So a voice is a first sentence, which is sampled
    once with a fixed seed, and every sentence follows it. Sentences do not share a call: the samples would depend on
    the others in the batch, and the library runs the codec for each sentence alone anyway.
    """

    exact, processor = False, "AutoProcessor"
    voices = (VOICE, "speaker-1")
    languages = frozenset({"en"})
    longest = 240

    def _finish(self, folder: Path, settings: Settings) -> None:
        self.rate_hz = int(self._model.config.codec_config.sampling_rate)
        self._model = quantized(self._model, settings, self._device)
        self._stop_at(self._model.backbone_model)
        self._first_turns: dict[str, Any] = {}

    def _speak(self, texts: list[str], voice: str, speed: float) -> Sequence[Any]:
        role = voice.rpartition("-")[2]
        if voice not in self._first_turns:
            audio = self._continue([_turn(role, FIRST_SENTENCE)], FIRST_SENTENCE).float().cpu().numpy()
            self._first_turns[voice] = _turn(role, FIRST_SENTENCE, audio)
        return [self._continue([self._first_turns[voice], _turn(role, text)], text) for text in texts]

    def _continue(self, conversation: list[dict[str, Any]], text: str) -> Any:
        """Return the samples of the last turn, whose text is `text`."""
        import torch

        inputs = self._processor.apply_chat_template(conversation, tokenize=True, return_dict=True)
        inputs = inputs.to(self._device.name, self._model.dtype)
        torch.manual_seed(seed(text))
        frames = int(self._model.config.codec_config.frame_rate * _max_seconds(text))
        return self._model.generate(**inputs, output_audio=True, max_new_tokens=frames)[0]


class Bark(Model):
    """Suno's Bark: three models in sequence. Its voices are the presets whose files are in the folder."""

    exact, processor = False, "AutoProcessor"
    longest = 150
    """Characters. The model generates at most 14 s."""

    def _finish(self, folder: Path, settings: Settings) -> None:
        self.rate_hz = int(self._model.generation_config.sample_rate)
        presets: Mapping[str, Any] = self._processor.speaker_embeddings or {}
        files = {name: paths for name, paths in presets.items() if isinstance(paths, dict)}
        complete = [name for name, paths in files.items() if all((folder / path).is_file() for path in paths.values())]
        self.voices = tuple(sorted(complete, key=lambda name: ("en_" not in name, name))) or (VOICE,)
        model = self._model = quantized(self._model, settings, self._device)
        self._stop_at(model.semantic, model.coarse_acoustics, model.fine_acoustics)

    def _speak(self, texts: list[str], voice: str, speed: float) -> Sequence[Any]:
        import torch

        inputs = self._processor(texts, voice_preset=None if voice == VOICE else voice).to(self._device.name)
        torch.manual_seed(seed(texts[0]))
        semantic = self._model.generation_config.semantic_config
        rate = semantic.get("semantic_rate_hz", 49.9)
        max_tokens = min(semantic.get("max_new_tokens", 768), int(rate * _max_seconds(texts[0])))
        return [self._model.generate(**inputs, semantic_max_new_tokens=max_tokens)[0]]


def _turn(role: str, text: str, audio: Waveform | None = None) -> dict[str, Any]:
    content: list[dict[str, Any]] = [{"type": "text", "text": text}]
    if audio is not None:
        content.append({"type": "audio", "path": audio})
    return {"role": role, "content": content}


def _max_seconds(text: str) -> float:
    """Return the maximum length of the speech: four characters per second, as in Chinese, and 3 s for pauses."""
    return 3 + len(text) / 4
