"""What a client may set, and within which bounds; the codecs share it, so that every protocol refuses the same.

Values in, settings out. The name of a voice is checked by the session, which knows the engine.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from reprlib import Repr
from typing import Any

from shared.protocol.session import CASCADE, OMNI, SessionSettings

MAX_TEXT = 8192
"""Characters of one typed turn."""
MAX_INSTRUCTIONS = 32_768
MAX_VOICE = 100
MAX_HINTS = 4096
ROUTES = (CASCADE, OMNI)
LEAST_ENDPOINT_MS, MOST_ENDPOINT_MS = 100, 5000

_shown = Repr()  # looks at the beginning of a value only: it may be megabytes of a stranger's
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")


class BadField(ValueError):
    """A field that cannot be used; the message names it, its value and what is allowed."""

    def __init__(self, field: str, value: object, allowed: str) -> None:
        super().__init__(f"{field}: {_shown.repr(value)[:80]} is not {allowed}")
        self.field = field


def integer(field: str, value: Any, low: int, high: int) -> int:
    """Raises `BadField` on anything but an int (a bool is none) within the bounds."""
    if type(value) is not int or not low <= value <= high:
        raise BadField(field, value, f"a whole number from {low} to {high}")
    return value


def number(field: str, value: Any, low: float, high: float) -> float:
    """Raises `BadField` on anything but an int or a float within the bounds."""
    if type(value) not in (int, float) or not low <= value <= high:
        raise BadField(field, value, f"a number from {low:g} to {high:g}")
    return float(value)


def flag(field: str, value: Any) -> bool:
    """Raises `BadField` on anything but a bool."""
    if type(value) is not bool:
        raise BadField(field, value, "true or false")
    return value


def string(field: str, value: Any, longest: int) -> str:
    """Raises `BadField` on anything but a string of at most so many characters."""
    if type(value) is not str or len(value) > longest:
        raise BadField(field, value, f"a string of at most {longest} characters")
    return value


def language(field: str, value: Any) -> str:
    """Raises `BadField` on anything that is not shaped like a BCP 47 tag of at most 35 characters."""
    if type(value) is not str or len(value) > 35 or not _LANGUAGE.fullmatch(value):
        raise BadField(field, value, "a language tag such as en or pt-BR")
    return value


def choice(field: str, value: Any, known: Sequence[str]) -> str:
    """Raises `BadField` on anything but one of these."""
    if type(value) is not str or value not in known:
        raise BadField(field, value, f"known; known are {', '.join(known)}")
    return value


SETTABLE: dict[str, Callable[[str, Any], Any]] = {
    "endpoint_ms": lambda field, value: integer(field, value, LEAST_ENDPOINT_MS, MOST_ENDPOINT_MS),
    "pause_ms": lambda field, value: integer(field, value, 60, MOST_ENDPOINT_MS),
    "start_ms": lambda field, value: integer(field, value, 20, 1000),
    "preroll_ms": lambda field, value: integer(field, value, 0, 2000),
    "longest_ms": lambda field, value: integer(field, value, 1000, 600_000),
    "threshold": lambda field, value: number(field, value, 0, 1),
    "speed": lambda field, value: number(field, value, 0.25, 4),
    "voice": lambda field, value: string(field, value, MAX_VOICE),
    "language": language,
    "hints": lambda field, value: string(field, value, MAX_HINTS),
    "instructions": lambda field, value: string(field, value, MAX_INSTRUCTIONS),
    "detect_turns": flag,
    "adapt_endpoint": flag,
    "complete_ms": lambda field, value: integer(field, value, LEAST_ENDPOINT_MS, MOST_ENDPOINT_MS),
    "incomplete_ms": lambda field, value: integer(field, value, LEAST_ENDPOINT_MS, MOST_ENDPOINT_MS),
    "speculations": lambda field, value: integer(field, value, 0, 20),
    "speculate_longest_ms": lambda field, value: integer(field, value, 0, 600_000),
    "create_reply": flag,
    "interrupt_reply": flag,
    "interrupt_ms": lambda field, value: integer(field, value, 0, 5000),
    "min_words": lambda field, value: integer(field, value, 0, 20),
    "echo_guard_ms": lambda field, value: integer(field, value, 0, 10_000),
    "greeting": lambda field, value: string(field, value, MAX_TEXT),
    "goodbye": lambda field, value: string(field, value, MAX_TEXT),
    "idle_ms": lambda field, value: integer(field, value, 0, 3_600_000),
    "idle_prompt": lambda field, value: string(field, value, MAX_TEXT),
    "idle_limit": lambda field, value: integer(field, value, 0, 100),
    "spoken": flag,
    "route": lambda field, value: choice(field, value, ROUTES),
}
"""The settings that a client names as they are named here."""


def with_settings(base: SessionSettings, values: Mapping[Any, Any], prefix: str = "") -> SessionSettings:
    """`base` with these settings.

    Raises:
        BadField: an unknown name, a wrong type, or a value out of bounds.
    """
    checked: dict[str, Any] = {}
    for name, value in values.items():
        check = SETTABLE.get(name)
        if check is None:
            raise BadField(f"{prefix}{name}"[:60], value, f"known; known are {', '.join(SETTABLE)}")
        checked[name] = check(f"{prefix}{name}", value)
    settings = replace(base, **checked)
    if settings.pause_ms > settings.endpoint_ms:
        if "pause_ms" in checked:
            allowed = f"a whole number from 60 to endpoint_ms ({settings.endpoint_ms})"
            raise BadField(f"{prefix}pause_ms", settings.pause_ms, allowed)
        settings = replace(settings, pause_ms=settings.endpoint_ms)
    return settings


def shown_settings(settings: SessionSettings) -> dict[str, Any]:
    """The settings that a client can name, with their values."""
    return {name: getattr(settings, name) for name in SETTABLE}
