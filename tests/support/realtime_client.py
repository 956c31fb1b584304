"""A client of the Realtime codec that reads every event with the models of the official SDK, strictly."""

import base64
import json
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

from openai.types.realtime import RealtimeServerEvent
from pydantic import BaseModel, TypeAdapter

from services.edge.client.actions import Action, Configure, Send
from services.edge.client.events import (
    Event,
    Ready,
    ReplyAudio,
    ReplyBegan,
    ReplyEnded,
    ReplyText,
    SpeechBegan,
    SpeechEnded,
    Transcribed,
    TurnBegan,
)
from services.edge.protocols.realtime.codec import RealtimeCodec
from shared.protocol.session import SessionSettings

SDK: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)
BESIDES = {"id", "object", "expires_at", "prompt"}
"""Fields of the session object that the API documents and the SDK's models leave out."""
DEFAULTS = SessionSettings(instructions="Be kind.", adapt_endpoint=False)


def unknown_fields(model: object, path: str = "") -> Iterator[str]:
    """Fields that the SDK does not expect. It would accept a misspelt field silently."""
    if isinstance(model, BaseModel):
        yield from (f"{path}.{name}" for name in model.model_extra or {})
        for name in type(model).model_fields:
            yield from unknown_fields(getattr(model, name), f"{path}.{name}")
    elif isinstance(model, list):
        for item in model:
            yield from unknown_fields(item, f"{path}[]")


class Client:
    """Drives a codec from both sides and parses everything that it writes with the SDK."""

    def __init__(self, defaults: SessionSettings = DEFAULTS, *, ready: bool = True) -> None:
        numbers = count(1)
        self.codec = RealtimeCodec(
            defaults, "parley", lambda prefix: f"{prefix}_{next(numbers)}", voices=("en-us", "af"), expires_at=1234
        )
        self.actions: list[Action] = []
        self.seen: list[dict[str, Any]] = []
        if ready:
            self.tell(Ready("sess_x", defaults))
            self.seen.clear()

    def say(self, kind: str, **fields: Any) -> list[dict[str, Any]]:
        """Sends a client event; returns the server events that answer it at once, and keeps the other actions."""
        self.actions = []
        answers: list[str | bytes] = []
        for action in self.codec.decode(json.dumps({"type": kind, **fields})):
            if isinstance(action, Send):
                answers += action.messages
            else:
                self.actions.append(action)
        return self._read(answers)

    def tell(self, *events: Event) -> list[dict[str, Any]]:
        """Emit session events; returns the server events."""
        return self._read([message for event in events for message in self.codec.encode(event)])

    def append(self, data: bytes) -> list[dict[str, Any]]:
        return self.say("input_audio_buffer.append", audio=base64.b64encode(data).decode())

    def error(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Sends an invalid event; returns the error, which must be the only answer."""
        (answer,) = self.say(kind, event_id="mine", **fields)
        assert answer["type"] == "error"
        assert answer["error"]["event_id"] == "mine"
        assert not self.actions
        return dict(answer["error"])

    def _read(self, messages: list[str | bytes]) -> list[dict[str, Any]]:
        events = []
        for message in messages:
            assert isinstance(message, str)
            event = json.loads(message)
            model = SDK.validate_json(message, strict=True)
            assert model.type == event["type"]
            extra = {path for path in unknown_fields(model) if path.rpartition(".")[2] not in BESIDES}
            assert not extra, (extra, message)
            events.append(event)
        self.seen += events
        return events


def replies(actions: Sequence[Action]) -> list[dict[str, Any]]:
    """The wire messages among a codec's actions."""
    return [json.loads(message) for action in actions if isinstance(action, Send) for message in action.messages]


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


def updated(client: Client, **session: Any) -> tuple[dict[str, Any], SessionSettings]:
    """Updates the session; returns the echo and the new settings."""
    (event,) = client.say("session.update", session={"type": "realtime", **session})
    assert event["type"] == "session.updated", event
    (action,) = client.actions
    assert isinstance(action, Configure)
    return event["session"], action.settings


def turn_with_reply(client: Client, turn: int = 1, *, ended: bool = True) -> dict[str, str]:
    """A spoken turn and 200 ms of its reply; returns the ids of its items and its response."""
    events = client.tell(
        SpeechBegan(turn, 0),
        SpeechEnded(turn, 900, final=True),
        TurnBegan(turn, 800, wants_reply=True),
        Transcribed(turn, "yes", final=True),
        ReplyBegan(turn),
        ReplyText(turn, "Well, well."),
        ReplyAudio(turn, 0, bytes(9600)),
    )
    if ended:
        events += client.tell(ReplyEnded(turn, "completed", "Well, well."))
    created = next(event for event in events if event["type"] == "response.created")
    added = [event["item"]["id"] for event in events if event["type"] == "conversation.item.added"]
    return {"user": added[0], "assistant": added[1], "response": created["response"]["id"]}
