"""The part of the session object that a Realtime client may change, and within which bounds. Pure.

`null` is the same as absent, except where `SessionObject` lets it clear a field. An unknown field is refused by name.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, PlainValidator, TypeAdapter
from typing_extensions import TypedDict

from services.edge.protocols import session_settings as allowed
from services.edge.protocols.fields import Allowed, OnlyKnown, refusal, text
from services.edge.protocols.realtime.tools import ToolChoice, Tools
from services.edge.protocols.realtime.wire import FORMATS

MaxOutputTokens = Annotated[
    Annotated[int, Field(ge=1, le=4096)] | Literal["inf"], Allowed("a whole number from 1 to 4096 or inf")
]
Modalities = Annotated[
    list[Literal["audio", "text"]], Allowed('["audio"] or ["text"]', min_length=1, max_length=1)
]  # fmt: skip


def _format(value: Any) -> dict[str, Any]:
    kind = value.get("type") if type(value) is dict else None
    known = FORMATS.get(kind) if type(kind) is str else None
    if known is None:
        raise refusal(f"an object with a type of {', '.join(FORMATS)}")
    rate = value.get("rate")
    if rate is not None and rate != known.get("rate", rate):
        raise refusal(f"{known['rate']}", "rate")
    return known


Format = Annotated[dict[str, Any], PlainValidator(_format)]


class Transcription(TypedDict, total=False):
    """How the person's speech is recognised; unknown fields are sent back with the session."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    model: Annotated[str, text(100)] | None
    language: allowed.Language | None
    prompt: allowed.Hints | None


class NoiseReduction(TypedDict):
    """Sent back with the session; Parley does not act on it."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    type: Literal["near_field", "far_field"]


class TurnDetection(TypedDict, total=False):
    """When a turn is over: the fields of both types. `SessionObject` knows which type has which."""

    type: Literal["server_vad", "semantic_vad"]
    create_response: bool | None
    interrupt_response: bool | None
    # server_vad
    threshold: allowed.Threshold | None
    prefix_padding_ms: allowed.Preroll | None
    silence_duration_ms: allowed.Endpoint | None
    idle_timeout_ms: allowed.IdleTimeout | None
    # semantic_vad
    eagerness: Literal["low", "medium", "high", "auto"] | None


class AudioInput(TypedDict, total=False):
    format: Format | None
    transcription: Transcription | None
    noise_reduction: Annotated[
        NoiseReduction | None, Allowed("null or an object with a type of near_field, far_field")
    ]  # fmt: skip
    turn_detection: Annotated[
        Annotated[TurnDetection, OnlyKnown()] | None,
        BeforeValidator(lambda value: None if value is False else value),  # pipecat writes null as false
    ]


class NamedVoice(TypedDict):
    id: allowed.Voice


class AudioOutput(TypedDict, total=False):
    format: Format | None
    voice: (
        Annotated[allowed.Voice | NamedVoice, Allowed("a string of at most 100 characters, or an object with it as id")]
        | None
    )
    speed: allowed.Speed | None


class Audio(TypedDict, total=False):
    input: Annotated[AudioInput, OnlyKnown()] | None
    output: Annotated[AudioOutput, OnlyKnown()] | None


class SessionUpdate(TypedDict, total=False):
    type: Literal["realtime"]
    # Clients send these back; they change nothing.
    object: Any
    id: Any
    model: Any
    expires_at: Any
    # Parley acts on these.
    output_modalities: Modalities | None
    instructions: allowed.Instructions | None
    tools: Tools | None
    tool_choice: ToolChoice | None
    max_output_tokens: MaxOutputTokens | None
    audio: Annotated[Audio, OnlyKnown()] | None
    route: Literal["cascade", "omni"] | None
    # Parley keeps these and sends them back.
    tracing: Any
    prompt: Any
    include: Any
    truncation: Any
    reasoning: Any
    parallel_tool_calls: Any


SESSION_UPDATE: TypeAdapter[SessionUpdate] = TypeAdapter(Annotated[SessionUpdate, OnlyKnown()])
