"""The lean stream protocol of `/ws`: binary messages are s16le mono PCM, text messages are JSON with a `type`.

It owns the messages and the order in which a client may send them. Pure.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, get_args

import orjson
from pydantic import BaseModel, Field, TypeAdapter

from services.edge.client import actions as act
from services.edge.client import events as ev
from services.edge.protocols.fields import STRING_TYPE, BadField, array, checked, text, whole
from services.edge.protocols.session_settings import Config, Settable, shown_settings, with_settings
from shared.audio.pcm import WholeSamples
from shared.protocol.session import MAX_INSTRUCTIONS, MAX_TEXT, ReplyOptions, SessionSettings

RATES_HZ = (8000, 16000, 24000, 48000)
"""Sample rates that a client can choose."""


MAX_TOKEN = 200
"""Characters of a resume token."""
MAX_HISTORY = 400
"""Messages that a client may hand over: as many as a session keeps."""


class SaidMessage(BaseModel):
    """A message of an earlier session."""

    role: Literal["user", "assistant"]
    text: Annotated[str, text(MAX_INSTRUCTIONS)]


class Received(BaseModel):
    """What the client has received of the session that it resumes."""

    n: Annotated[int, whole(0, 2**53)] = 0
    turn: Annotated[int, whole(0, 2**31)] = 0
    samples: Annotated[int, whole(0, 2**53)] = 0


class StartMessage(BaseModel):
    """Begin the session with these settings. `history`: the conversation that it goes on with. `resume`: a token; the session is
    begun only if that which it belongs to is gone."""

    type: Literal["start_streaming"]
    config: Config | None = None
    history: Annotated[list[SaidMessage] | None, array(0, MAX_HISTORY, "messages")] = None
    resume: Annotated[str, text(MAX_TOKEN)] | None = None
    received: Received = Received()


class ConfigMessage(BaseModel):
    """Change the settings."""

    type: Literal["configure"]
    config: Config | None = None


class TextMessage(BaseModel):
    """A typed turn (`text_input`), or words for the agent to speak (`say`)."""

    type: Literal["text_input", "say"]
    text: str
    interruptible: bool | None = None


class PlayedMessage(BaseModel):
    type: Literal["played"]
    turn: Annotated[int, whole(0, 2**31)] = 0
    ms: Annotated[int, whole(0, 2**31)]


class BareMessage(BaseModel):
    type: Literal[
        "stop_streaming", "commit", "clear", "cancel", "get_stats", "get_history", "reset_session", "hang_up", "ping"
    ]


ClientMessage = StartMessage | ConfigMessage | TextMessage | PlayedMessage | BareMessage
_CLIENT_MESSAGE: TypeAdapter[ClientMessage] = TypeAdapter(
    Annotated[ClientMessage, Field(discriminator="type"), STRING_TYPE]
)

TYPES: tuple[str, ...] = tuple(
    kind for message in get_args(ClientMessage) for kind in get_args(message.model_fields["type"].annotation)
)
"""The types of a client's JSON messages."""
_FREE = {"ping", "start_streaming"}
"""Types that are allowed before the session has started."""
_ACTIONS: dict[str, act.Action] = {
    "commit": act.Commit(),
    "clear": act.Clear(),
    "cancel": act.CancelReply(),
    "get_stats": act.GetStats(),
    "get_history": act.GetHistory(),
    "reset_session": act.Reset(),
    "hang_up": act.HangUp(),
}
"""Actions of the messages without fields."""


def _message(kind: str, **fields: Any) -> str:
    return orjson.dumps({"type": kind, **fields}).decode()


def error_message(code: str, message: str) -> str:
    return _message("error", code=code, message=message)


def _error(code: str, message: str) -> tuple[act.Action, ...]:
    return (act.Send((error_message(code, message),)),)


class StreamCodec:
    """One `/ws` connection at one rate."""

    largest_message = 1024 * 1024  # ten seconds at the highest rate
    starts_with = None
    can_pause = True
    shows_failures = True

    def __init__(self, rate_hz: int, defaults: SessionSettings, bound: Collection[str] = ()) -> None:
        """`bound`: the names of the settings that the client may not change."""
        self.rate_hz = rate_hz
        self._bound = bound
        self._settings = defaults
        self._started = False
        self._listening = False
        self._speaking = False
        self._samples = WholeSamples()

    @property
    def resumable(self) -> "StreamCodec":
        return self

    # -- client messages ----------------------------------------------------------------------------------------

    def decode(self, message: str | bytes) -> Sequence[act.Action]:
        """The client's actions; a wrong message is answered with an `error` message."""
        if not isinstance(message, str):
            if not self._started:
                return _error("not_started", "audio before start_streaming")
            if self._listening and (pcm := self._samples.take(message)):
                return (act.Audio(pcm),)
            return ()  # empty or half a sample, or sent before the client stopped: not an error
        try:
            body = orjson.loads(message)
        except orjson.JSONDecodeError as error:
            return _error("bad_json", f"not JSON: {error.msg} at character {error.pos}")
        kind = body.get("type") if type(body) is dict else None
        if kind not in TYPES:
            return _error("unknown_type", f"type is not one of {', '.join(TYPES)}")
        if not self._started and kind not in _FREE:
            return _error("not_started", f"{kind} before start_streaming")
        if self._started and kind == "start_streaming":
            return _error("already_started", "start_streaming was sent before")
        try:
            return self._act(checked(_CLIENT_MESSAGE, body))
        except BadField as error:
            return _error("bad_field", str(error))

    def _act(self, message: ClientMessage) -> tuple[act.Action, ...]:
        match message:
            case StartMessage(config=config, history=history, resume=token, received=received):
                self._settings = self._changed(config or {})
                self._started = self._listening = True
                start = self._start(history or [])
                if token is None:
                    return start
                return (act.Resume(token, received.n, received.turn, received.samples, start),)
            case ConfigMessage(config=config):
                self._settings = self._changed(config or {})
                return (act.Configure(self._settings),)
            case TextMessage():
                return self._words(message)
            case PlayedMessage(turn=turn, ms=ms):
                return (act.Played(turn, ms),)
            case BareMessage(type="ping"):
                return (act.Send((_message("pong"),)),)
            case BareMessage(type="stop_streaming"):
                self._samples.drop_half()
                listening, self._listening = self._listening, False
                return (act.Stop(),) if listening else ()
            case BareMessage(type=kind):
                if kind in ("commit", "clear"):
                    self._samples.drop_half()
                return (_ACTIONS[kind],)

    def _changed(self, config: Settable) -> SessionSettings:
        """The settings with these changes. Raises `BadField` if one of them cannot be changed."""
        for name, value in config.items():
            if name in self._bound and value != getattr(self._settings, name):
                raise BadField(f"config.{name}", "was set when the client secret was created")
        return with_settings(self._settings, config, "config")

    def _start(self, history: Sequence[SaidMessage]) -> tuple[act.Action, ...]:
        """Start, and put the history on record. With a history the agent has greeted the person already."""
        start = act.Start(replace(self._settings, greeting="") if history else self._settings)
        return (start, *(act.SetHistory(f"earlier_{at}", one.role, one.text) for at, one in enumerate(history)))

    def _words(self, message: TextMessage) -> tuple[act.Action, ...]:
        if len(message.text) > MAX_TEXT:
            return _error("too_long", f"text of {len(message.text)} characters; at most {MAX_TEXT}")
        if not message.text.strip():
            raise BadField.of("text", message.text, "a text with words in it")
        if message.type == "say":
            return (act.RequestReply(ReplyOptions(interruptible=message.interruptible, say=message.text)),)
        return (act.Say(message.text, ReplyOptions(interruptible=message.interruptible)),)

    # -- server messages ----------------------------------------------------------------------------------------

    def encode(self, event: ev.Event) -> Sequence[str | bytes]:
        match event:
            case ev.ReplyAudio():
                return (event.pcm,)
            case ev.ReplyText(turn, text):
                return (_message("model_response", turn=turn, text=text, finalize=False),)
            case ev.SpeechBegan():
                return self._speech(True)
            case ev.SpeechEnded():
                return self._speech(False)
            case ev.Transcribed(turn, text, final):
                return (_message("transcript", turn=turn, text=text, final=final),)
            case ev.TurnBegan(turn, spoken_ms):
                return (_message("processing_started", turn=turn, audio_duration=spoken_ms / 1000),)
            case ev.TurnDropped(turn):
                # An empty final transcript withdraws the partials that the client shows.
                return (*self._speech(False), _message("transcript", turn=turn, text="", final=True))
            case ev.ReplyBegan(turn):
                return (_message("reply_started", turn=turn),)
            case ev.ReplyEnded(turn, status, reason=reason):
                return (
                    _message("model_response", turn=turn, text="", finalize=True),
                    _message("reply_done", turn=turn, status=status, **({"reason": reason} if reason else {})),
                )
            case ev.Pause(turn, heard_ms):
                return (_message("pause", turn=turn, heard_ms=heard_ms),)
            case ev.Resume(turn, from_ms):
                return (_message("resume", turn=turn, from_ms=from_ms),)
            case ev.Interrupt(turn, heard_ms, heard):
                return (_message("interrupt", turn=turn, heard_ms=heard_ms, heard=heard),)
            case ev.Said(messages):
                said = [
                    {"role": one.role, "text": one.text, "turn": one.turn, "interrupted": one.interrupted}
                    for one in messages
                ]
                return (_message("history", messages=said),)
            case ev.IdlePassed(since_ms, until_ms):
                return (_message("idle", since_ms=since_ms, until_ms=until_ms),)
            case ev.Timing(turn, marks, spoken, segments, reasons):
                parts = [{"name": one.name, "begin_ms": one.begin_ms, "end_ms": one.end_ms} for one in segments]
                return (_message("timing", turn=turn, spoken=spoken, marks=marks, segments=parts, reasons=reasons),)
            case ev.Stats(values):
                return (_message("stats", **{name: value for name, value in values.items() if name != "type"}),)
            case ev.Ready(session_id, settings, token, resume_s, resumed):
                resume = {"resume": {"token": token, "expires_s": resume_s}, "resumed": resumed} if token else {}
                return (_message("ready", session_id=session_id, config=shown_settings(settings), **resume),)
            case ev.Failed(code, text, turn):
                return (_message("error", code=code, message=text, **({"turn": turn} if turn else {})),)

    def numbered(self, message: str | bytes, number: int) -> str | bytes:
        return f'{message[:-1]},"n":{number}}}' if isinstance(message, str) else message

    def resume(self, settings: SessionSettings) -> None:
        self._settings = settings

    def _speech(self, speaking: bool) -> tuple[str, ...]:
        """`vad_status`, only when it changes: the pause and the end of a turn are one change for the client."""
        if speaking == self._speaking:
            return ()
        self._speaking = speaking
        return (_message("vad_status", is_speaking=speaking, speech_probability=1.0 if speaking else 0.0),)
