"""The part of a session that the holder of a client secret may not change. Pure."""

from collections.abc import Mapping
from typing import Any

SETTINGS_OF: Mapping[str, tuple[str, ...]] = {
    "instructions": ("instructions", "examples"),
    "output_modalities": ("spoken",),
    "tools": ("tools",),
    "tool_choice": ("tool_choice",),
    "route": ("route",),
    "audio.output.voice": ("voice",),
    "audio.output.speed": ("speed",),
    "audio.input.transcription": ("language", "hints"),
    "audio.input.turn_detection": (
        "detect_turns", "create_reply", "interrupt_reply", "adapt_endpoint", "complete_ms", "incomplete_ms", "threshold",
        "preroll_ms", "endpoint_ms", "pause_ms", "idle_ms", "idle_prompt", "idle_limit",
    ),
}  # fmt: skip
"""The settings of a session that follow from a field of the session object."""


def bound_settings(session: Mapping[str, Any]) -> frozenset[str]:
    """The names of the settings that these fields of a session object determine."""
    return frozenset(name for path, names in SETTINGS_OF.items() if _has(session, path) for name in names)


def _has(session: Mapping[str, Any], path: str) -> bool:
    found: Any = session
    for name in path.split("."):
        if not isinstance(found, Mapping) or name not in found:
            return False
        found = found[name]
    return True


def changed_field(bound: Any, now: Any, path: str) -> str | None:
    """The first field of `bound` that `now` has with another value; None: `now` has all of them."""
    if isinstance(bound, dict) and isinstance(now, dict):
        changed = (changed_field(value, now.get(name), f"{path}.{name}") for name, value in bound.items())
        return next((field for field in changed if field is not None), None)
    return None if bound == now else path
