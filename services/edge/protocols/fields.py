"""Checks of what a client sends; the codecs share them, so that all protocols refuse the same values.

What a session setting may be is in its table, `shared.session`. The name of a voice is checked by the session, which knows the
engine.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from reprlib import Repr
from typing import Any

from shared import session
from shared.session import SESSION_TABLE, SessionSettings, with_fitting_pause

MAX_TEXT = session.MAX_TEXT
MAX_INSTRUCTIONS = session.MAX_INSTRUCTIONS

_shown = Repr()  # looks at the beginning of a value only: it may be megabytes of a stranger's


class BadField(ValueError):
    """A field that cannot be used; the message names it, its value and what is allowed."""

    def __init__(self, field: str, value: object, allowed: str) -> None:
        super().__init__(f"{field}: {_shown.repr(value)[:80]} is not {allowed}")
        self.field = field


def integer(field: str, value: Any, low: int, high: int) -> int:
    """Raises `BadField` on anything but an int within the bounds; a bool is not an int."""
    if type(value) is not int or not low <= value <= high:
        raise BadField(field, value, f"a whole number from {low} to {high}")
    return value


def flag(field: str, value: Any) -> bool:
    """Raises `BadField` on anything but a bool."""
    if type(value) is not bool:
        raise BadField(field, value, "true or false")
    return value


def string(field: str, value: Any, longest: int) -> str:
    """Raises `BadField` on anything but a string of at most `longest` characters."""
    if type(value) is not str or len(value) > longest:
        raise BadField(field, value, f"a string of at most {longest} characters")
    return value


def choice(field: str, value: Any, known: Sequence[str]) -> str:
    """Raises `BadField` on anything but one of these."""
    if type(value) is not str or value not in known:
        raise BadField(field, value, f"known; known are {', '.join(known)}")
    return value


def setting(name: str) -> Callable[[str, Any], Any]:
    """The check of a session setting: takes the field's name and a JSON value, raises `BadField`, returns the value."""
    row = SESSION_TABLE[name]

    def check(field: str, value: Any) -> Any:
        try:
            return row.check(value)
        except ValueError:
            raise BadField(field, value, row.allowed) from None

    return check


def with_settings(base: SessionSettings, values: Mapping[Any, Any], prefix: str = "") -> SessionSettings:
    """`base` with these settings, whose values are JSON.

    Raises:
        BadField: an unknown name, a wrong type, or a value out of range.
    """
    checked: dict[str, Any] = {}
    for name, value in values.items():
        if name not in SESSION_TABLE:
            raise BadField(f"{prefix}{name}"[:60], value, f"known; known are {', '.join(SESSION_TABLE)}")
        checked[name] = setting(name)(f"{prefix}{name}", value)
    settings = replace(base, **checked)
    fitting = with_fitting_pause(settings)
    if "pause_ms" in checked and fitting != settings:
        low = SESSION_TABLE["pause_ms"].setting.low
        allowed = f"a whole number from {low:g} to endpoint_ms ({settings.endpoint_ms})"
        raise BadField(f"{prefix}pause_ms", settings.pause_ms, allowed)
    return fitting


def parsed_settings(texts: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """The settings among these values, which are all written as strings; other names are left out.

    Raises:
        BadField: a value that is not allowed.
    """
    parsed = {}
    for name, row in SESSION_TABLE.items():
        if name in texts:
            try:
                parsed[name] = row.parse(texts[name])
            except ValueError:
                raise BadField(f"{prefix}{name}", texts[name], row.allowed) from None
    return parsed


def shown_settings(settings: SessionSettings) -> dict[str, Any]:
    """The settings that a client can set, with their values."""
    return {name: getattr(settings, name) for name in SESSION_TABLE}


def described_settings(defaults: SessionSettings, voices: Sequence[str]) -> list[dict[str, Any]]:
    """The settings that a client can set, as JSON: name, type, range, default, and the label where the page shows them.

    `voices`: the names that are known; empty: no worker has said yet.
    """
    described = [
        {**row.described(), "default": value}
        for row, value in zip(SESSION_TABLE.values(), shown_settings(defaults).values(), strict=True)
    ]
    if voices:
        next(one for one in described if one["name"] == "voice")["choices"] = ["", *voices]
    return described
