"""The session settings that a client may change, by their names in the session. Pure.

Their types, ranges and texts are in the table of `shared.protocol.session`; this file turns its rows into checks of messages and
into what the page shows. The session checks the name of a voice, because it knows the engine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, get_args

from typing_extensions import TypedDict

from services.edge.protocols.fields import Allowed, BadField, OnlyKnown
from shared.protocol.session import SESSION_TABLE, SessionSettings, with_fitting_pause, with_instructions
from shared.settings_table import Row


def setting(name: str) -> Allowed:
    """Annotates a field of a message that changes this setting."""
    return _allowed(SESSION_TABLE[name])


def _allowed(row: Row) -> Allowed:
    bounds = row.setting
    constraints: dict[str, Any] = {"ge": bounds.low, "le": bounds.high, "max_length": bounds.longest}
    if pattern := bounds.pattern or "|".join(row.choices):
        constraints["pattern"] = f"^(?:{pattern})$"
    if row.type == "number":
        constraints["allow_inf_nan"] = False
    return Allowed(row.allowed, **{name: value for name, value in constraints.items() if value is not None})


Endpoint = Annotated[int, setting("endpoint_ms")]
Hints = Annotated[str, setting("hints")]
IdleTimeout = Annotated[int, setting("idle_ms")]
Instructions = Annotated[str, setting("instructions")]
Language = Annotated[str, setting("language")]
Preroll = Annotated[int, setting("preroll_ms")]
Speed = Annotated[float, setting("speed")]
Threshold = Annotated[float, setting("threshold")]
Voice = Annotated[str, setting("voice")]

if TYPE_CHECKING:  # a TypedDict whose fields are only known at run time
    Settable = dict[str, Any]
else:
    Settable = TypedDict(
        "Settable",
        {name: Annotated[get_args(row.hint)[0], _allowed(row)] for name, row in SESSION_TABLE.items()},
        total=False,
    )
"""Changes to a session's settings."""

Config = Annotated[Settable, OnlyKnown()]
"""Such changes in a client's message."""


def with_settings(base: SessionSettings, changes: Settable, path: str) -> SessionSettings:
    """`base` with these changes; `path` is where they stand in the client's message.

    Raises:
        BadField: the pause is longer than the endpoint.
    """
    settings = replace(with_instructions(base, changes.get("instructions", base.instructions)), **changes)
    fitting = with_fitting_pause(settings)
    if "pause_ms" in changes and fitting != settings:
        low = SESSION_TABLE["pause_ms"].setting.low
        allowed = f"a whole number from {low:g} to endpoint_ms ({settings.endpoint_ms})"
        raise BadField.of(f"{path}.pause_ms", settings.pause_ms, allowed)
    return fitting


def parsed_settings(texts: Mapping[str, Any], path: str) -> Settable:
    """The settings among these values, which are all written as strings. Other names are ignored.

    Raises:
        BadField: a value that is not allowed.
    """
    parsed: Settable = {}
    for name, row in SESSION_TABLE.items():
        if name in texts:
            try:
                parsed[name] = row.parse(texts[name])
            except ValueError:
                raise BadField.of(f"{path}.{name}", texts[name], row.allowed) from None
    return parsed


def shown_settings(settings: SessionSettings) -> Mapping[str, Any]:
    return {name: getattr(settings, name) for name in SESSION_TABLE}


def described_settings(defaults: SessionSettings, voices: Sequence[str]) -> list[dict[str, Any]]:
    """The settings that a client can change, as JSON: name, type, range, default, and the label if the page shows them.

    `voices`: the names of the known voices; empty if no worker has reported any yet.
    """
    described = [
        {**row.described(), "default": value}
        for row, value in zip(SESSION_TABLE.values(), shown_settings(defaults).values(), strict=True)
    ]
    if voices:
        next(one for one in described if one["name"] == "voice")["choices"] = ["", *voices]
    return described
