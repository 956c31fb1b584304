"""Models of the real architectures with random weights, saved in the layout of the hub: for tests and for measuring speed.

What such a model says means nothing; how long it takes to say it does, at the size of a published one. Sizes are those of
the models' own published configurations.
"""

from tests.support.random_models.asr import (
    listening_chat,
    moonshine,
    parakeet,
    voxtral,
    voxtral_realtime,
    wav2vec2,
    whisper,
)
from tests.support.random_models.llm import chat
from tests.support.random_models.omni import qwen2_audio, qwen_omni
from tests.support.random_models.parts import Size, tekken, tokenizer
from tests.support.random_models.tts import bark, csm, fastspeech2, kokoro, piper, speecht5, vits

__all__ = [
    "Size", "bark", "chat", "csm", "fastspeech2", "kokoro", "listening_chat", "moonshine", "parakeet", "piper",
    "qwen2_audio",
    "qwen_omni", "speecht5", "tekken", "tokenizer", "vits", "voxtral", "voxtral_realtime", "wav2vec2", "whisper",
]  # fmt: skip
