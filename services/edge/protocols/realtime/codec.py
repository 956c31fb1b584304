"""OpenAI Realtime (GA) over WebSocket: the client's events to actions, the session's events to server events.

Pure. `session`, `items` and `reply` hold the three objects of the protocol. A wrong client event is answered with an
`error` and changes nothing. An event that is only late or unnecessary is not an error: some clients end at any `error`.
"""

from collections.abc import Collection, Sequence
from typing import Any

import orjson

from services.edge.client import actions as act
from services.edge.client import events as ev
from services.edge.protocols.fields import BadField, UnknownField, checked
from services.edge.protocols.realtime import client_events as ce
from services.edge.protocols.realtime.client_items import client_item, words_of
from services.edge.protocols.realtime.items import Conversation, Entry
from services.edge.protocols.realtime.reply import Request
from services.edge.protocols.realtime.session import SessionObject
from services.edge.protocols.realtime.tools import as_choice, as_tools
from services.edge.protocols.realtime.turns import Turns
from services.edge.protocols.realtime.wire import (
    PCM_RATE_HZ,
    NewId,
    Refused,
    Wire,
    bound_field,
    random_id,
    rate_of,
    unpack_audio,
)
from shared.audio.pcm import LAW_RATE_HZ, Resampler, WholeSamples
from shared.protocol.prompt import NO_TOOLS
from shared.protocol.session import ReplyOptions, SessionSettings, Tool, ToolCall

LEAST_COMMIT_MS = 100
"""A manual turn with less audio than this is empty, as OpenAI defines it."""

MAX_EVENT_CHARS = 4 * 1024 * 1024
"""Characters of an event without audio, much of which is kept until the session ends."""

_Answer = list[act.Action | str]
"""Actions and wire messages, in order."""


class RealtimeCodec:
    """One `/v1/realtime` connection."""

    largest_message = 16 * 1024 * 1024  # an append may hold 15 MiB of base64
    can_pause = False
    resumable = None
    shows_failures = True

    def __init__(
        self,
        defaults: SessionSettings,
        model: str,
        new_id: NewId = random_id,
        *,
        voices: Collection[str] = (),
        expires_at: int = 0,
        hears: bool = False,
        bound: Any = None,
    ) -> None:
        """`voices`: the names that the voice engine knows; `expires_at`: the session's end, shown to the client, in
        seconds since 1970; `hears`: the chat model takes audio; `bound`: the part of the session object that the client may not
        change, which was checked when its client secret was created."""
        self.rate_hz = PCM_RATE_HZ
        self._wire = Wire(new_id)
        self._session = SessionObject(defaults, model, voices, hears=hears, bound=bound)
        self.starts_with = self._session.settings() if bound else defaults
        self._conversation = Conversation(new_id("conv"))
        self._turns = Turns(self._wire, self._session, self._conversation)
        self._identity: dict[str, Any] = {"id": new_id("sess"), "expires_at": expires_at}
        # A client may send before it reads. `session.created` must still be the first event that it gets.
        self._until_ready: list[str] | None = []
        self._rate_fixed = False
        self._resampler = Resampler(PCM_RATE_HZ, PCM_RATE_HZ)
        self._samples = WholeSamples()
        self._buffered = 0

    # -- client events ------------------------------------------------------------------------------------------

    def decode(self, message: str | bytes) -> Sequence[act.Action]:
        """The client's actions; a wrong event is answered with an `error` event."""
        caused_by: str | None = None
        try:
            if not isinstance(message, str):
                raise Refused("Expected JSON in a text message, not a binary message.", "invalid_message")
            try:
                body = orjson.loads(message)
            except orjson.JSONDecodeError as error:
                raise Refused(f"Invalid JSON: {error.msg} at character {error.pos}.", "invalid_json") from None
            if type(body) is not dict:
                raise Refused("Expected a JSON object.", "invalid_json")
            given_id = body.get("event_id")
            caused_by = given_id[:512] if type(given_id) is str else None
            if body.get("type") == "input_audio_buffer.append":  # fifty a second: a model adds a quarter to their cost
                return self._append(body)
            if len(message) > MAX_EVENT_CHARS:
                raise Refused(f"Event longer than {MAX_EVENT_CHARS} characters.", "string_above_max_length")
            return self._ordered(self._act(checked(ce.CLIENT_EVENT, body)))
        except Refused as error:
            refused = error
        except UnknownField as error:
            refused = Refused(f"Unknown parameter: '{error.field}'.", "unknown_parameter", error.field)
        except BadField as error:
            refused = Refused(f"Invalid value: {error}.", "invalid_value", error.field)
        answer = self._wire.error(str(refused), refused.code, param=refused.param, caused_by=caused_by)
        return self._ordered([answer])

    def _ordered(self, answer: _Answer) -> list[act.Action]:
        """Turn wire messages into `Send`s, or keep them until the session is ready."""
        if self._until_ready is None:
            return [act.Send((part,)) if isinstance(part, str) else part for part in answer]
        self._until_ready += [part for part in answer if isinstance(part, str)]
        return [part for part in answer if not isinstance(part, str)]

    def _act(self, event: ce.ClientEvent) -> _Answer:
        match event:
            case ce.SessionUpdate():
                return self._update(event.session)
            case ce.BufferEvent(type="input_audio_buffer.commit"):
                return self._commit()
            case ce.BufferEvent(type="input_audio_buffer.clear"):
                self._empty_buffer()
                return [act.Clear(), self._wire.event("input_audio_buffer.cleared")]
            case ce.BufferEvent():
                return []
            case ce.ItemCreate():
                return self._create_item(event)
            case ce.ItemEvent(type="conversation.item.retrieve", item_id=item_id):
                found = self._conversation.find(item_id)
                if found is None:
                    message = "Error retrieving item: the item does not exist."
                    raise Refused(message, "item_retrieve_invalid_item_id", "item_id")
                return [self._wire.event("conversation.item.retrieved", item=found.item)]
            case ce.ItemEvent(item_id=item_id):
                deleted = self._conversation.delete(item_id)
                answer = self._wire.event("conversation.item.deleted", item_id=deleted.item["id"])
                return [act.SetHistory(deleted.key, "", ""), answer]
            case ce.ItemTruncate():
                return self._truncate(event)
            case ce.ResponseCreate(response=options):
                return self._create_response(options or {})
            case ce.ResponseCancel(response_id=response_id):
                return [*self._turns.cancel(response_id), act.CancelReply()]

    def _append(self, body: dict[str, Any]) -> Sequence[act.Action]:
        pcm = unpack_audio(body.get("audio"), self._session.input_format)
        if not self._rate_fixed:
            self._fix_rate()
        pcm = self._resampler.process(self._samples.take(pcm))
        self._buffered += len(pcm) // 2
        return (act.Audio(pcm),) if pcm else ()

    def _empty_buffer(self) -> None:
        """The next audio begins a turn."""
        self._buffered = 0
        self._samples.drop_half()

    def _fix_rate(self) -> None:
        """Keep the session's rate from the first audio on; later formats are resampled to it."""
        self._rate_fixed = True
        self._samples.drop_half()
        self._resampler = Resampler(rate_of(self._session.input_format), self.rate_hz)

    def _update(self, patch: Any) -> _Answer:
        before, detected = self._session.input_format, self._session.detects_turns
        self._session.update(patch)
        if detected:
            self._buffered = 0  # audio from before push-to-talk does not belong to a manual turn
        if not self._rate_fixed:
            formats = (self._session.input_format, self._session.output_format)
            self.rate_hz = LAW_RATE_HZ if all(rate_of(name) == LAW_RATE_HZ for name in formats) else PCM_RATE_HZ
            self._turns.rate_hz = self.rate_hz
        elif self._session.input_format != before:
            self._fix_rate()
        return [
            act.Configure(self._session.settings()),
            self._wire.event("session.updated", session=self._session_now()),
        ]

    def _session_now(self) -> dict[str, Any]:
        return {**self._session.config, **self._identity}

    def _commit(self) -> _Answer:
        if self._session.detects_turns:
            # The server detects turns: the turn that the client means may be over already, or was silence.
            return [act.Commit(ReplyOptions(wants_reply=False))] if self._turns.speaking else []
        buffered_ms = self._buffered * 1000 / self.rate_hz
        if buffered_ms < LEAST_COMMIT_MS:
            raise Refused(
                f"Error committing input audio buffer: buffer too small. Expected at least {LEAST_COMMIT_MS}ms of audio, "
                f"but buffer only has {buffered_ms:.2f}ms of audio.",
                "input_audio_buffer_commit_empty",
            )
        self._empty_buffer()
        self._turns.committed_by_client()
        return [act.Commit(ReplyOptions(wants_reply=False))]

    def _create_item(self, event: ce.ItemCreate) -> _Answer:
        item = client_item(event.item, self._wire.new_id("item"))
        if item.get("role") == "system" and self._session.is_bound("instructions", None):
            raise bound_field("item.role")  # a message of the system is an instruction
        if item["type"] == "function_call_output" and not self._conversation.has_call(item["call_id"]):
            message = "Error adding item: no function call with this call_id is in the conversation."
            raise Refused(message, "item_create_invalid_call_id", "item.call_id")
        entry = Entry(item, item["id"], client_bytes=len(orjson.dumps(item)))
        before, after = self._conversation.create(entry, event.previous_item_id)
        events: _Answer = [
            self._wire.event(f"conversation.item.{step}", previous_item_id=before, item=item)
            for step in ("added", "done")
        ]
        match item["type"]:
            case "message":
                return [act.SetHistory(entry.key, item["role"], words_of(item), after), *events]
            case "function_call":
                call = ToolCall(item["call_id"], item["name"], item["arguments"])
                return [act.SetHistory(entry.key, "assistant", "", after, calls=(call,)), *events]
            case _:
                return [act.SetHistory(entry.key, "tool", item["output"], after, answers=item["call_id"]), *events]

    def _truncate(self, event: ce.ItemTruncate) -> _Answer:
        entry = self._conversation.find(event.item_id)
        if entry is None or entry.item.get("role") != "assistant":
            message = "Error truncating item: only messages of the assistant can be truncated."
            raise Refused(message, "item_truncate_invalid_item_id", "item_id")
        # Clients measure with their own clock: a position beyond the end means the whole audio.
        end_ms = min(event.audio_end_ms, entry.sent_ms)
        truncated = self._wire.event(
            "conversation.item.truncated",
            item_id=event.item_id,
            content_index=event.content_index,
            audio_end_ms=end_ms,
        )
        if not entry.turn or end_ms == entry.sent_ms:
            return [truncated]
        content = [{**part, "transcript": None} for part in entry.item["content"] if part["type"] == "output_audio"]
        entry.item = {**entry.item, "content": content or entry.item["content"]}
        return [act.Truncate(entry.turn, entry.from_ms + end_ms), truncated]

    def _create_response(self, options: ce.ResponseOptions) -> _Answer:
        if options.get("input"):
            raise Refused("A response to an input of its own is not supported.", "unsupported", "response.input")
        for name in ("instructions", "output_modalities", "tools", "tool_choice"):
            if options.get(name) is not None and self._session.is_bound(name, options[name]):
                raise bound_field(f"response.{name}")
        modalities = options.get("output_modalities")
        self._turns.request(Request(options.get("metadata"), modalities, options.get("max_output_tokens")))
        spoken = None if modalities is None else modalities == ["audio"]
        tools, tool_choice = _own_tools(options)
        wanted = ReplyOptions(
            instructions=options.get("instructions"), spoken=spoken, tools=tools, tool_choice=tool_choice
        )
        return [act.RequestReply(wanted)]

    # -- server events ------------------------------------------------------------------------------------------

    def encode(self, event: ev.Event) -> Sequence[str | bytes]:
        match event:
            case ev.Ready(session_id):
                self._identity["id"] = session_id
                waiting, self._until_ready = self._until_ready or [], None
                return [self._wire.event("session.created", session=self._session_now()), *waiting]
            case ev.ReplyAudio():
                if not self._rate_fixed:
                    self._fix_rate()
        return self._turns.encode(event)


def _own_tools(options: ce.ResponseOptions) -> tuple[tuple[Tool, ...], str | None]:
    """The tools of a `response.create` and the choice among them; (), None: those of the session."""
    tools, choice = options.get("tools"), options.get("tool_choice")
    chosen = None if choice is None else as_choice(choice)
    return as_tools(tools or ()), NO_TOOLS if tools == [] else chosen
