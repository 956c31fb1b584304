"""The session object of OpenAI Realtime as it is now, and the settings of the session that follow from it. Pure.

Fields on which Parley does not act (tracing, truncation, noise reduction, …) are kept and sent back as they came,
because clients compare them.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import orjson

from services.edge.protocols.fields import BadField, UnknownField, checked
from services.edge.protocols.realtime.bound_session import changed_field
from services.edge.protocols.realtime.session_update import SESSION_UPDATE, TurnDetection
from services.edge.protocols.realtime.tools import as_choice, as_tools
from services.edge.protocols.realtime.wire import FORMATS, Refused, bound_field
from shared.protocol.session import CASCADE, OMNI, SessionSettings, with_instructions

WAITS_MS_BY_EAGERNESS = {
    "low": (1000, 500, 8000),
    "medium": (500, 350, 4000),
    "auto": (500, 350, 4000),
    "high": (300, 250, 2000),
}
"""The silences in ms of `semantic_vad` that end a turn: without an engine that judges it, for a complete turn, for an
incomplete turn. OpenAI documents the last ones."""

_ECHOED = frozenset({"object", "id", "model", "expires_at", "type"})
"""Fields of the session object that clients send back and that change nothing."""
_CLEARABLE = frozenset({
    "turn_detection", "idle_timeout_ms", "noise_reduction", "transcription", "tracing", "prompt", "include", "reasoning",
})  # fmt: skip
"""Fields that `null` clears; elsewhere `null` is the same as absent."""
_NESTED = frozenset({"audio", "input", "output"})
"""Objects of which a client may send a part."""


class SessionObject:
    """The session of one connection. `config`, which clients see, is its only state."""

    def __init__(
        self,
        defaults: SessionSettings,
        model: str,
        voices: Collection[str] = (),
        *,
        hears: bool = False,
        bound: Any = None,
    ) -> None:
        """`hears`: the chat model takes audio, so a client may choose the route `omni`. `bound`: a part of the session that
        holds for good.

        Raises:
            BadField, Refused: `bound` does not belong to a session; see `update`.
        """
        self._defaults = defaults
        self._routes = (CASCADE, OMNI) if hears else (CASCADE,)
        self._voices = frozenset(voices)
        self.config: dict[str, Any] = {
            "type": "realtime",
            "object": "realtime.session",
            "model": model,
            "output_modalities": ["audio"] if defaults.spoken else ["text"],
            "instructions": defaults.instructions,
            "tools": [],
            "tool_choice": "auto",
            "max_output_tokens": "inf",
            "tracing": None,
            "prompt": None,
            "include": None,
            "truncation": "auto",
            "audio": {
                "input": {
                    "format": FORMATS["audio/pcm"],
                    "transcription": {"model": model, "language": defaults.language},
                    "noise_reduction": None,
                    "turn_detection": self._detection("server_vad") if defaults.detect_turns else None,
                },
                "output": {
                    "format": FORMATS["audio/pcm"],
                    "voice": defaults.voice or "default",
                    "speed": defaults.speed,
                },
            },
        }
        self._bound: dict[str, Any] = {}
        self._bound = _pruned(self.update(bound or {}))

    # -- reading it ---------------------------------------------------------------------------------------------

    @property
    def input_format(self) -> str:
        """`audio/pcm`, `audio/pcmu` or `audio/pcma`."""
        return str(self.config["audio"]["input"]["format"]["type"])

    @property
    def output_format(self) -> str:
        """`audio/pcm`, `audio/pcmu` or `audio/pcma`."""
        return str(self.config["audio"]["output"]["format"]["type"])

    @property
    def voice(self) -> str:
        """The voice by the client's name for it; Parley may not have such a voice."""
        voice = self.config["audio"]["output"]["voice"]
        return str(voice["id"] if type(voice) is dict else voice)

    @property
    def detects_turns(self) -> bool:
        """Whether the server decides when a turn begins and ends."""
        return self.config["audio"]["input"]["turn_detection"] is not None

    @property
    def transcribes(self) -> bool:
        """Whether the client wants transcripts of the person's speech."""
        return self.config["audio"]["input"]["transcription"] is not None

    def settings(self) -> SessionSettings:
        """The settings of the Parley session that follow from it."""
        audio_in, audio_out = self.config["audio"]["input"], self.config["audio"]["output"]
        settings = replace(
            with_instructions(self._defaults, self.config["instructions"]),
            spoken=self.config["output_modalities"] == ["audio"],
            speed=audio_out["speed"],
            # SDKs send "alloy" and the like by default, so an unknown voice means the default voice.
            voice=self.voice if self.voice.partition("+")[0] in self._voices else self._defaults.voice,
            language=(audio_in["transcription"] or {}).get("language") or self._defaults.language,
            hints=(audio_in["transcription"] or {}).get("prompt") or self._defaults.hints,
            tools=as_tools(self.config["tools"]),
            tool_choice=as_choice(self.config["tool_choice"]),
            route=self.config.get("route", self._defaults.route),
        )
        detection = audio_in["turn_detection"]
        if detection is None:
            return replace(settings, detect_turns=False)
        settings = replace(
            settings,
            detect_turns=True,
            create_reply=detection["create_response"],
            interrupt_reply=detection["interrupt_response"],
        )
        if detection["type"] == "semantic_vad":
            endpoint_ms, complete_ms, incomplete_ms = WAITS_MS_BY_EAGERNESS[detection["eagerness"]]
            settings = replace(settings, adapt_endpoint=True, complete_ms=complete_ms, incomplete_ms=incomplete_ms)
        else:
            endpoint_ms = detection["silence_duration_ms"]
            settings = replace(
                settings,
                adapt_endpoint=False,
                threshold=detection["threshold"],
                preroll_ms=detection["prefix_padding_ms"],
            )
            if (idle_ms := detection["idle_timeout_ms"]) is not None:
                # An empty prompt: the model chooses the words. Limit 0: only the client hangs up.
                settings = replace(settings, idle_ms=idle_ms, idle_prompt="", idle_limit=0)
        return replace(settings, endpoint_ms=endpoint_ms, pause_ms=min(self._defaults.pause_ms, endpoint_ms))

    # -- resuming -----------------------------------------------------------------------------------------------

    def save(self) -> dict[str, Any]:
        return {"config": self.config, "bound": self._bound}

    def restore(self, settings: SessionSettings, saved: dict[str, Any]) -> None:
        """The session began on another connection, and has these settings."""
        self._defaults = settings
        self.config, self._bound = saved["config"], saved["bound"]

    # -- changing it --------------------------------------------------------------------------------------------

    def update(self, patch: Any) -> dict[str, Any]:
        """Change the fields that are there: all of them or, on an error, none. Returns them, checked and completed.

        Raises:
            BadField: an unknown field, a value of the wrong type or out of bounds.
            Refused: a field is bound, or the session is nested too deeply to be sent back.
        """
        given = checked(SESSION_UPDATE, patch, "session")
        route = given.get("route")
        if route is not None and route not in self._routes:
            raise BadField.of("session.route", route, ", ".join(self._routes))
        audio_in = (given.get("audio") or {}).get("input") or {}
        detection = audio_in.get("turn_detection")
        if detection is not None:
            audio_in["turn_detection"] = self._changed_detection(detection)
        changes = {name: value for name, value in given.items() if name not in _ECHOED}
        merged = _merged(self.config, changes)
        if (field := changed_field(self._bound, merged, "session")) is not None:
            raise bound_field(field)
        try:
            orjson.dumps([[merged]])  # JSON that can be read may be nested too deeply to be written
        except orjson.JSONEncodeError:
            raise Refused("The session is nested too deeply.", "invalid_value", "session") from None
        self.config = merged
        return changes

    def is_bound(self, name: str, value: Any) -> bool:
        """Whether this field of the session holds for good, with another value."""
        return name in self._bound and self._bound[name] != value

    def _changed_detection(self, patch: TurnDetection) -> TurnDetection:
        """The whole `turn_detection`: the current one with the changes, or the defaults of another type with them."""
        current = self.config["audio"]["input"]["turn_detection"]
        kind = patch.get("type") or (current["type"] if current else "server_vad")
        base = current if current and current["type"] == kind else self._detection(kind)
        for name, value in patch.items():
            if name not in base:
                raise UnknownField.of(f"session.audio.input.turn_detection.{name}", value, f"a field of {kind}")
        changed: TurnDetection = _merged(base, patch)
        return changed

    def _detection(self, kind: str) -> dict[str, Any]:
        defaults = self._defaults
        replies = {"create_response": defaults.create_reply, "interrupt_response": defaults.interrupt_reply}
        if kind == "semantic_vad":
            return {"type": kind, "eagerness": "auto", **replies}
        return {
            "type": kind,
            "threshold": defaults.threshold,
            "prefix_padding_ms": defaults.preroll_ms,
            "silence_duration_ms": defaults.endpoint_ms,
            "idle_timeout_ms": None,
            **replies,
        }


def _pruned(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The changes without those that change nothing."""
    return {
        name: _pruned(value) if name in _NESTED and value is not None else value
        for name, value in changes.items()
        if value is not None or name in _CLEARABLE
    }


def _merged(current: Any, changes: Mapping[str, Any]) -> Any:
    """`current` with these changes."""
    merged = dict(current)
    for name, value in changes.items():
        if name in _NESTED and value is not None:
            merged[name] = _merged(current[name], value)
        elif value is not None or name in _CLEARABLE:
            merged[name] = value
    return merged
