"""The session object of OpenAI Realtime: what a client may change in it, and the settings that it stands for.

Pure. What Parley does not act on (tracing, truncation, noise reduction, …) is kept and told back as it was
sent, since clients compare; what nobody knows is refused by its name.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

import orjson

from services.edge.protocols import fields
from services.edge.protocols.fields import BadField
from services.edge.protocols.realtime_tools import as_choice, as_tools, checked_choice, checked_tools
from services.edge.protocols.realtime_wire import FORMATS, Refused
from shared.session import CASCADE, ROUTES, SessionSettings

Check = Callable[[str, Any], Any]

MAX_MODEL = 100
"""Characters of the name of a model, which changes nothing."""

WAITS_MS_BY_EAGERNESS = {
    "low": (1000, 500, 8000),
    "medium": (500, 350, 4000),
    "auto": (500, 350, 4000),
    "high": (300, 250, 2000),
}
"""What `semantic_vad` means: the silence that ends a turn where an engine cannot tell, takes it for complete, does not.
The longest are those of OpenAI's documentation."""

_ECHOED = frozenset({"object", "id", "model", "expires_at", "type"})
"""Fields of the session object that clients send back and that change nothing."""
_CLEARABLE = frozenset(
    {"turn_detection", "noise_reduction", "transcription", "tracing", "prompt", "include", "reasoning"}
)
"""Fields that `null` clears; elsewhere `null` is the same as absent."""


class SessionObject:
    """The configuration of one connection; the object that clients see is the only state."""

    def __init__(
        self, defaults: SessionSettings, model: str, voices: Collection[str] = (), *, hears: bool = False
    ) -> None:
        """`hears`: the route may be `omni`."""
        self._defaults = defaults
        self._routes = ROUTES if hears else (CASCADE,)
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

    # -- what it says -------------------------------------------------------------------------------------------

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
        """The name that the client gave the voice, which may be none of ours."""
        voice = self.config["audio"]["output"]["voice"]
        return str(voice["id"] if type(voice) is dict else voice)

    @property
    def detects_turns(self) -> bool:
        """Whether the server decides when a turn begins and ends."""
        return self.config["audio"]["input"]["turn_detection"] is not None

    @property
    def transcribes(self) -> bool:
        """Whether the client wants to be told what was understood."""
        return self.config["audio"]["input"]["transcription"] is not None

    def settings(self) -> SessionSettings:
        """The same in Parley's terms."""
        heard, spoken = self.config["audio"]["input"], self.config["audio"]["output"]
        settings = replace(
            self._defaults,
            instructions=self.config["instructions"],
            spoken=self.config["output_modalities"] == ["audio"],
            speed=spoken["speed"],
            # SDKs send "alloy" and the like without being asked; the default voice answers to any name.
            voice=self.voice if self.voice.partition("+")[0] in self._voices else self._defaults.voice,
            language=(heard["transcription"] or {}).get("language") or self._defaults.language,
            hints=(heard["transcription"] or {}).get("prompt") or self._defaults.hints,
            tools=as_tools(self.config["tools"]),
            tool_choice=as_choice(self.config["tool_choice"]),
            route=self.config.get("route", self._defaults.route),
        )
        detection = heard["turn_detection"]
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
            if (idle_ms := detection["idle_timeout_ms"]) is not None:  # the model finds words, and the client hangs up
                settings = replace(settings, idle_ms=idle_ms, idle_prompt="", idle_limit=0)
        return replace(settings, endpoint_ms=endpoint_ms, pause_ms=min(self._defaults.pause_ms, endpoint_ms))

    # -- what a client changes ----------------------------------------------------------------------------------

    def update(self, patch: Any) -> None:
        """Take over the fields that are there. All of it or, on an error, nothing.

        Raises:
            BadField: a value of the wrong type or out of bounds.
            Refused: a field that does not exist, or a session of another kind.
        """
        if type(patch) is not dict:
            raise BadField("session", patch, "an object")
        kind = patch.get("type", "realtime")
        if kind != "realtime":
            raise BadField("session.type", kind, "realtime")
        given = {name: value for name, value in patch.items() if name not in _ECHOED}
        merged = _merged(self.config, given, "session", {**_SESSION, "audio": self._audio, "route": self._route})
        try:
            orjson.dumps([[merged]])  # what can be read can be nested too deeply to be told back
        except orjson.JSONEncodeError:
            raise Refused("The session is nested too deeply.", "invalid_value", "session") from None
        self.config = merged

    def _route(self, path: str, value: Any) -> Any:
        """Parley's own field: only who has set it is told of it."""
        return fields.choice(path, value, self._routes)

    def _audio(self, path: str, patch: Any) -> Any:
        current = self.config["audio"]
        heard = {
            "format": _format,
            "transcription": _transcription,
            "noise_reduction": _noise_reduction,
            "turn_detection": self._turn_detection,
        }
        spoken = {
            "format": _format,
            "voice": _voice,
            "speed": fields.setting("speed"),
        }
        sides: dict[str, Check] = {
            "input": lambda path, value: _merged(current["input"], value, path, heard),
            "output": lambda path, value: _merged(current["output"], value, path, spoken),
        }
        return _merged(current, patch, path, sides)

    def _turn_detection(self, path: str, patch: Any) -> Any:
        if patch is None or patch is False:  # `false` is how pipecat writes null
            return None
        if type(patch) is not dict:
            raise BadField(path, patch, "an object or null")
        current = self.config["audio"]["input"]["turn_detection"]
        kind = patch.get("type", current["type"] if current else "server_vad")
        if kind not in ("server_vad", "semantic_vad"):
            raise BadField(f"{path}.type", kind, "server_vad or semantic_vad")
        base = current if current and current["type"] == kind else self._detection(kind)
        checks = _SERVER_VAD if kind == "server_vad" else _SEMANTIC_VAD
        return _merged(base, patch, path, {**checks, "type": lambda _, value: value})

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


def _merged(current: dict[str, Any], patch: Any, path: str, checks: Mapping[str, Check]) -> dict[str, Any]:
    """`current` with the checked values of `patch`."""
    if type(patch) is not dict:
        raise BadField(path, patch, "an object")
    merged = dict(current)
    for name, value in patch.items():
        check = checks.get(name)
        if check is None:
            raise Refused(f"Unknown parameter: '{path}.{name[:60]}'.", "unknown_parameter", f"{path}.{name[:60]}")
        if value is not None or name in _CLEARABLE:
            merged[name] = check(f"{path}.{name}", value)
    return merged


def modalities(path: str, value: Any) -> Any:
    """Raises `BadField` on anything but one modality."""
    if value not in (["audio"], ["text"]):
        raise BadField(path, value, '["audio"] or ["text"]')
    return value


def max_output_tokens(path: str, value: Any) -> Any:
    """Raises `BadField` on anything but a number of tokens or `inf`."""
    return value if value == "inf" else fields.integer(path, value, 1, 4096)


def _format(path: str, value: Any) -> Any:
    kind = value.get("type") if type(value) is dict else None
    known = FORMATS.get(kind) if type(kind) is str else None
    if known is None:
        raise BadField(path, value, f"an object with a type of {', '.join(FORMATS)}")
    rate = value.get("rate")
    if rate is not None and rate != known.get("rate", rate):
        raise BadField(f"{path}.rate", rate, f"{known['rate']}")
    return known


def _voice(path: str, value: Any) -> Any:
    named = value.get("id") if type(value) is dict else value
    fields.setting("voice")(path, named)
    return {"id": named} if type(value) is dict else value


def _transcription(path: str, value: Any) -> Any:
    if value is None:
        return None
    if type(value) is not dict:
        raise BadField(path, value, "an object or null")
    if value.get("model") is not None:
        fields.string(f"{path}.model", value["model"], MAX_MODEL)
    if value.get("language") is not None:
        fields.setting("language")(f"{path}.language", value["language"])
    if value.get("prompt") is not None:
        fields.setting("hints")(f"{path}.prompt", value["prompt"])
    return value


def _noise_reduction(path: str, value: Any) -> Any:
    if value is not None and (type(value) is not dict or value.get("type") not in ("near_field", "far_field")):
        raise BadField(path, value, "null or an object with a type of near_field, far_field")
    return value


def _eagerness(path: str, value: Any) -> Any:
    if value not in tuple(WAITS_MS_BY_EAGERNESS):
        raise BadField(path, value, f"one of {', '.join(WAITS_MS_BY_EAGERNESS)}")
    return value


def _kept(_path: str, value: Any) -> Any:
    return value


_REPLIES: dict[str, Check] = {"create_response": fields.flag, "interrupt_response": fields.flag}
_SERVER_VAD: dict[str, Check] = {
    **_REPLIES,
    "threshold": fields.setting("threshold"),
    "prefix_padding_ms": fields.setting("preroll_ms"),
    "silence_duration_ms": fields.setting("endpoint_ms"),
    "idle_timeout_ms": fields.setting("idle_ms"),
}
_SEMANTIC_VAD: dict[str, Check] = {**_REPLIES, "eagerness": _eagerness}
_SESSION: dict[str, Check] = {
    "output_modalities": modalities,
    "instructions": fields.setting("instructions"),
    "tools": checked_tools,
    "tool_choice": checked_choice,
    "max_output_tokens": max_output_tokens,
    "tracing": _kept,
    "prompt": _kept,
    "include": _kept,
    "truncation": _kept,
    "reasoning": _kept,
    "parallel_tool_calls": _kept,
}
