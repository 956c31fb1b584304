"""The settings that a client may change in its session, by the names that the session has for them. Pure.

The only place that says within which bounds, but for the few fields that OpenAI Realtime bounds in its own way
(`realtime/session.py`). The session, which knows the engine, checks the name of a voice.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from typing_extensions import TypedDict

from services.edge.protocols.fields import Allowed, BadField, OnlyKnown, number, text, whole
from shared.protocol.session import SessionSettings

MAX_TEXT = 8192
"""Characters of one typed turn."""
MAX_INSTRUCTIONS = 32_768
"""Characters of a system prompt."""
_BCP_47 = "^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$"

Endpoint = Annotated[int, whole(100, 5000)]
Hints = Annotated[str, text(4096)]
Instructions = Annotated[str, text(MAX_INSTRUCTIONS)]
Language = Annotated[str, Allowed("a language tag such as en or pt-BR", max_length=35, pattern=_BCP_47)]
Preroll = Annotated[int, whole(0, 2000)]
Threshold = Annotated[float, number(0, 1)]
Typed = Annotated[str, text(MAX_TEXT)]
Voice = Annotated[str, text(100)]


class Settable(TypedDict, total=False):
    """Changes to a session's settings."""

    endpoint_ms: Endpoint
    pause_ms: Annotated[int, whole(60, 5000)]
    start_ms: Annotated[int, whole(20, 1000)]
    preroll_ms: Preroll
    longest_ms: Annotated[int, whole(1000, 600_000)]
    threshold: Threshold
    speed: Annotated[float, number(0.25, 4)]
    voice: Voice
    language: Language
    hints: Hints
    instructions: Instructions
    detect_turns: bool
    adapt_endpoint: bool
    complete_ms: Endpoint
    incomplete_ms: Endpoint
    speculations: Annotated[int, whole(0, 20)]
    speculate_longest_ms: Annotated[int, whole(0, 600_000)]
    create_reply: bool
    interrupt_reply: bool
    interrupt_ms: Annotated[int, whole(0, 5000)]
    min_words: Annotated[int, whole(0, 20)]
    echo_guard_ms: Annotated[int, whole(0, 10_000)]
    greeting: Typed
    goodbye: Typed
    idle_ms: Annotated[int, whole(0, 3_600_000)]
    idle_prompt: Typed
    idle_limit: Annotated[int, whole(0, 100)]
    spoken: bool
    route: Literal["cascade", "omni"]


Config = Annotated[Settable, OnlyKnown()]
"""Such changes in a client's message."""


def with_settings(base: SessionSettings, changes: Settable, path: str) -> SessionSettings:
    """`base` with these changes; `path` is where they stand in the client's message.

    Raises:
        BadField: the pause is longer than the endpoint.
    """
    settings = replace(base, **changes)
    if settings.pause_ms <= settings.endpoint_ms:
        return settings
    if "pause_ms" in changes:
        allowed = f"a whole number from 60 to endpoint_ms ({settings.endpoint_ms})"
        raise BadField.of(f"{path}.pause_ms", settings.pause_ms, allowed)
    return replace(settings, pause_ms=settings.endpoint_ms)


def shown_settings(settings: SessionSettings) -> Mapping[str, Any]:
    """The settings that a client can name, with their values."""
    return {name: getattr(settings, name) for name in Settable.__annotations__}
