"""The lean stream protocol of `/ws`: binary messages are s16le mono PCM, text messages are JSON with a `type`.

It owns the shapes of the messages and the order in which a client may send them. Pure.
"""

from collections.abc import Sequence
from typing import Any

import orjson

from services.edge.client.actions import (
    Action,
    Audio,
    CancelReply,
    Clear,
    Commit,
    Configure,
    GetHistory,
    GetStats,
    HangUp,
    Played,
    RequestReply,
    Reset,
    Say,
    Send,
    Start,
    Stop,
)
from services.edge.client.events import (
    Event,
    Failed,
    IdlePassed,
    Interrupt,
    Pause,
    Ready,
    ReplyAudio,
    ReplyBegan,
    ReplyEnded,
    ReplyText,
    Resume,
    Said,
    SpeechBegan,
    SpeechEnded,
    Stats,
    Timing,
    Transcribed,
    TurnBegan,
    TurnDropped,
)
from services.edge.protocols.fields import MAX_TEXT, BadField, flag, integer, shown_settings, string, with_settings
from shared.protocol.session import ReplyOptions, SessionSettings

RATES_HZ = (8000, 16000, 24000, 48000)
"""The rates that a client can ask for."""

TYPES = (
    "start_streaming", "stop_streaming", "text_input", "say", "configure", "commit", "clear", "cancel", "played",
    "get_stats", "get_history", "reset_session", "hang_up", "ping",
)  # fmt: skip
"""What a client can send as text."""
_FREE = {"ping", "start_streaming"}
"""Types that need no running session."""


def _message(kind: str, **fields: Any) -> str:
    return orjson.dumps({"type": kind, **fields}).decode()


def _error(code: str, message: str) -> tuple[Action, ...]:
    return (Send((_message("error", code=code, message=message),)),)


_PLAIN: dict[str, Action] = {
    "commit": Commit(),
    "clear": Clear(),
    "cancel": CancelReply(),
    "get_stats": GetStats(),
    "get_history": GetHistory(),
    "reset_session": Reset(),
    "hang_up": HangUp(),
}
"""Types that say all by their name."""


def _config(body: dict[str, Any]) -> dict[str, Any]:
    config = body.get("config")
    if config is not None and type(config) is not dict:
        raise BadField("config", config, "an object")
    return config or {}


def _words(body: dict[str, Any]) -> str:
    text = body.get("text")
    if type(text) is str and len(text) > MAX_TEXT:
        raise TooLong(f"text of {len(text)} characters; at most {MAX_TEXT}")
    text = string("text", text, MAX_TEXT)
    if not text.strip():
        raise BadField("text", text, "a text with words in it")
    return text


def _options(body: dict[str, Any], say: str | None = None) -> ReplyOptions:
    interruptible = body.get("interruptible")
    if interruptible is not None:
        interruptible = flag("interruptible", interruptible)
    return ReplyOptions(interruptible=interruptible, say=say)


class TooLong(ValueError):
    """A text that nobody can have typed."""


class StreamCodec:
    """One `/ws` connection at one rate."""

    largest_message = 1024 * 1024  # ten seconds at the highest rate
    starts_at_once = False
    can_pause = True

    def __init__(self, rate_hz: int, defaults: SessionSettings) -> None:
        self.rate_hz = rate_hz
        self._settings = defaults
        self._started = False
        self._hearing = False
        self._speaking = False

    # -- what the client says -----------------------------------------------------------------------------------

    def decode(self, message: str | bytes) -> Sequence[Action]:
        """What the client did; whatever is wrong with it is answered by an `error` message."""
        if not isinstance(message, str):
            if self._hearing and message and not len(message) & 1:
                return (Audio(message),)
            if not self._started:
                return _error("not_started", "audio before start_streaming")
            if len(message) & 1:
                return _error("bad_audio", f"{len(message)} bytes are no 16-bit samples")
            return ()  # empty, or under way when the client stopped: not worth an error
        try:
            body = orjson.loads(message)
        except orjson.JSONDecodeError as error:
            return _error("bad_json", f"no JSON: {error.msg} at character {error.pos}")
        kind = body.get("type") if type(body) is dict else None
        if type(kind) is not str or kind not in TYPES:
            return _error("unknown_type", f"type is none of {', '.join(TYPES)}")
        if not self._started and kind not in _FREE:
            return _error("not_started", f"{kind} before start_streaming")
        try:
            return self._act(kind, body)
        except BadField as error:
            return _error("bad_field", str(error))
        except TooLong as error:
            return _error("too_long", str(error))

    def _act(self, kind: str, body: dict[str, Any]) -> tuple[Action, ...]:
        match kind:
            case "start_streaming":
                return self._start(body)
            case "stop_streaming":
                return self._stop()
            case "text_input":
                return (Say(_words(body), _options(body)),)
            case "say":
                return (RequestReply(_options(body, say=_words(body))),)
            case "configure":
                return self._configure(body)
            case "played":
                turn = integer("turn", body.get("turn", 0), 0, 2**31)
                return (Played(turn, integer("ms", body.get("ms"), 0, 2**31)),)
            case "ping":
                return (Send((_message("pong"),)),)
            case _:
                return (_PLAIN[kind],)

    def _start(self, body: dict[str, Any]) -> tuple[Action, ...]:
        if self._started:
            return _error("already_started", "start_streaming was sent before")
        self._settings = with_settings(self._settings, _config(body), prefix="config.")
        self._started = self._hearing = True
        return (Start(self._settings),)

    def _stop(self) -> tuple[Action, ...]:
        if not self._hearing:
            return ()
        self._hearing = False
        return (Stop(),)

    def _configure(self, body: dict[str, Any]) -> tuple[Action, ...]:
        self._settings = with_settings(self._settings, _config(body), prefix="config.")
        return (Configure(self._settings),)

    # -- what the client is told --------------------------------------------------------------------------------

    def encode(self, event: Event) -> Sequence[str | bytes]:
        """The messages that tell the client of it."""
        match event:
            case ReplyAudio():
                return (event.pcm,)
            case ReplyText(turn, text):
                return (_message("model_response", turn=turn, text=text, finalize=False),)
            case SpeechBegan():
                return self._speech(True)
            case SpeechEnded():
                return self._speech(False)
            case Transcribed(turn, text, final):
                return (_message("transcript", turn=turn, text=text, final=final),)
            case TurnBegan(turn, spoken_ms):
                return (_message("processing_started", turn=turn, audio_duration=spoken_ms / 1000),)
            case TurnDropped(turn):
                # An empty final transcript takes back the partials that were shown.
                return (*self._speech(False), _message("transcript", turn=turn, text="", final=True))
            case ReplyBegan(turn):
                return (_message("reply_started", turn=turn),)
            case ReplyEnded(turn, status):
                return (
                    _message("model_response", turn=turn, text="", finalize=True),
                    _message("reply_done", turn=turn, status=status),
                )
            case Pause(turn, heard_ms):
                return (_message("pause", turn=turn, heard_ms=heard_ms),)
            case Resume(turn, from_ms):
                return (_message("resume", turn=turn, from_ms=from_ms),)
            case Interrupt(turn, heard_ms, heard):
                return (_message("interrupt", turn=turn, heard_ms=heard_ms, heard=heard),)
            case Said(messages):
                said = [
                    {"role": one.role, "text": one.text, "turn": one.turn, "interrupted": one.interrupted}
                    for one in messages
                ]
                return (_message("history", messages=said),)
            case IdlePassed(since_ms, until_ms):
                return (_message("idle", since_ms=since_ms, until_ms=until_ms),)
            case Timing(turn, marks):
                return (_message("timing", turn=turn, marks=marks),)
            case Stats(values):
                return (_message("stats", **{name: value for name, value in values.items() if name != "type"}),)
            case Ready(session_id, settings):
                return (_message("ready", session_id=session_id, config=shown_settings(settings)),)
            case Failed(code, text, turn):
                return (_message("error", code=code, message=text, **({"turn": turn} if turn else {})),)

    def _speech(self, speaking: bool) -> tuple[str, ...]:
        """A pause and the end of the turn are one change for the client."""
        if speaking == self._speaking:
            return ()
        self._speaking = speaking
        return (_message("vad_status", is_speaking=speaking, speech_probability=1.0 if speaking else 0.0),)
