"""Chooses the model of an endpoint from the server's list. Pure."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from shared.engines.registry import UnknownEngine

Entry = Mapping[str, Any]
"""A model in the list of a server: `id`, and with some servers `task`."""

SHOWN = 8
"""Names that a message shows."""

_RECOGNISES = re.compile(
    r"whisper|transcri|speech-to-text|parakeet|canary|moonshine|sense-?voice|nemo|voxtral|(^|\W)(asr|stt)(\W|$)",
    re.IGNORECASE,
)
_NO_CHAT = re.compile(
    r"embed|rerank|(^|\W)(bge|gte|e5|clip|tts|vad)(\W|$)|minilm|kokoro|piper|dall-?e|diffusion|moderation"
    r"|transcribe|whisper|parakeet|(^|\W)(asr|stt)(\W|$)",
    re.IGNORECASE,
)
"""Parts of the names by which models are known. Few servers say what a model does."""

_RECOGNITION_TASK = "automatic-speech-recognition"


def chats(entry: Entry) -> bool:
    """Whether the model may be a chat model: neither its task nor its name says something else."""
    return entry.get("task", "text-generation") == "text-generation" and not _NO_CHAT.search(entry["id"])


def recognises(entry: Entry) -> bool:
    """Whether the task or, without one, the name of the model is that of a speech recogniser."""
    if task := entry.get("task"):
        return bool(task == _RECOGNITION_TASK)
    return bool(_RECOGNISES.search(entry["id"]))


def choose_model(
    wanted: str, listed: Sequence[Entry] | None, suits: Callable[[Entry], bool], variable: str, url: str
) -> str:
    """Return the model to ask for: `wanted`, or else the first in the list that suits.

    Args:
        wanted: The configured name; empty: none.
        listed: The entries of the server's list; None: it has no list.
        suits: Whether a model does what the stage needs.
        variable: The setting that names the model.
        url: The server, for the messages.

    Raises:
        UnknownEngine: the list does not have the wanted model, or no model that suits.
    """
    names = [entry["id"] for entry in listed or ()]
    has = f"{url} has {', '.join(names[:SHOWN]) or 'no list of models'}{', …' if len(names) > SHOWN else ''}"
    if not wanted:
        suitable = next((entry["id"] for entry in listed or () if suits(entry)), None)
        if suitable is None:
            raise UnknownEngine(f"set {variable}: {has}")
        return str(suitable)
    if names and not {wanted, f"{wanted}:latest", f"models/{wanted}"} & set(names):
        raise UnknownEngine(f"no model {wanted!r}: {has}. Set {variable} to one of them.")
    return wanted
