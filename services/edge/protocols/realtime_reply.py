"""One reply as OpenAI Realtime tells it: `response.created`, then item, part and deltas, then exactly one `response.done`.

Pure. It owns the order of these events; when a reply begins and ends is the session's word.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from services.edge.keys import call_key, reply_key
from services.edge.protocols.realtime_items import Conversation, Entry
from services.edge.protocols.realtime_session import SessionObject
from services.edge.protocols.realtime_wire import FORMATS, Wire, pack_audio, rate_of
from shared.audio import Resampler
from shared.session import ToolCall

DELTA_BYTES = 48 * 1024
"""Audio in one delta: 64 KiB of base64, which every client's message limit takes; about a second at 24 kHz."""

CHARS_PER_TOKEN = 4
INPUT_MS_PER_TOKEN = 100
OUTPUT_MS_PER_TOKEN = 50
"""How OpenAI counts; its clients show usage, so it is estimated. Nothing in Parley is billed by it."""

_STATUS = {
    "completed": ("completed", None),
    "empty": ("completed", None),
    "cancelled": ("cancelled", "client_cancelled"),
    "interrupted": ("cancelled", "turn_detected"),
    "failed": ("failed", None),
}
"""How a session ends a reply, as a response's status and its reason."""


@dataclass(slots=True)
class Request:
    """What the client's `response.create` said; the defaults are those of a reply that nobody asked for."""

    metadata: dict[str, str] | None = None
    output_modalities: list[str] | None = None
    max_output_tokens: int | str | None = None
    turn: int | None = None
    """The turn that the session gave it, once it is known."""


@dataclass(slots=True)
class Failure:
    """Why a reply failed."""

    code: str
    message: str


@dataclass(slots=True)
class Reply:
    """One response, from created to done."""

    wire: Wire
    session: SessionObject
    conversation: Conversation
    conversation_id: str
    turn: int
    request: Request
    heard_ms: int
    """Length of what the person said in this turn."""
    rate_hz: int
    """Rate of the session's audio; the client's format may have another."""
    from_ms: int = 0
    """Where in the turn's reply this response begins."""
    failure: Failure | None = None
    id: str = field(init=False)
    _ids: dict[str, Any] = field(init=False)
    _spoken: bool = field(init=False)
    _format: str = field(init=False)
    _resampler: Resampler = field(init=False)
    _entry: Entry | None = field(init=False, default=None)
    _calls: list[Entry] = field(init=False, default_factory=list)
    _text: str = field(init=False, default="")
    _samples: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.id = self.wire.new_id("resp")
        self._ids = {"response_id": self.id, "item_id": self.wire.new_id("item"), "output_index": 0, "content_index": 0}
        modalities = self.request.output_modalities or self.session.config["output_modalities"]
        self._spoken = modalities == ["audio"]
        self._format = self.session.output_format
        self._resampler = Resampler(self.rate_hz, rate_of(self._format))

    # -- its course ---------------------------------------------------------------------------------------------

    def created(self) -> list[str]:
        """It begins."""
        return [self.wire.event("response.created", response=self._response("in_progress"))]

    def text(self, delta: str) -> list[str]:
        """More text: of what is spoken, or of the reply itself."""
        if not delta:
            return []
        opening = self._open()
        self._text += delta
        kind = "response.output_audio_transcript.delta" if self._spoken else "response.output_text.delta"
        return [*opening, self.wire.event(kind, **self._ids, delta=delta)]

    def audio(self, pcm: bytes) -> list[str]:
        """More audio at the session's rate."""
        if not self._spoken:
            return []
        opening = self._open()
        return [*opening, *self._sound(self._resampler.process(pcm))]

    def done(self, status: str, text: str, calls: Sequence[ToolCall] = ()) -> list[str]:
        """It is over; `status` is the session's word for how, `text` all of the reply that was made."""
        completed = _STATUS.get(status, _STATUS["failed"])[0] == "completed"
        closing: list[str] = []
        if completed and len(text) > len(self._text) and text.startswith(self._text):
            closing += self.text(text[len(self._text) :])
        if self._entry is not None:
            if completed:
                closing += self._sound(self._resampler.flush())
            closing += self._close(self._entry, "completed" if completed else "incomplete")
        for call in calls:
            closing += self._call(call)
        return [*closing, self.wire.event("response.done", response=self._response(status))]

    # -- its parts ----------------------------------------------------------------------------------------------

    def _open(self) -> list[str]:
        """The item and its part, announced before the first delta of either kind."""
        if self._entry is not None:
            return []
        item = {
            "id": self._ids["item_id"],
            "object": "realtime.item",
            "type": "message",
            "status": "in_progress",
            "role": "assistant",
            "content": [],
        }
        self._entry = Entry(item, reply_key(self.turn), turn=self.turn, from_ms=self.from_ms)
        before = self.conversation.append(self._entry)
        part = {"type": "audio", "transcript": ""} if self._spoken else {"type": "text", "text": ""}
        return [
            self.wire.event("response.output_item.added", response_id=self.id, output_index=0, item=item),
            self.wire.event("conversation.item.added", previous_item_id=before, item=item),
            self.wire.event("response.content_part.added", **self._ids, part=part),
        ]

    def _sound(self, pcm: bytes) -> list[str]:
        if self._entry is not None:
            self._samples += len(pcm) // 2
            self._entry.sent_ms = self._samples * 1000 // rate_of(self._format)
        return [
            self.wire.event("response.output_audio.delta", **self._ids, delta=delta)
            for delta in pack_audio(pcm, self._format, DELTA_BYTES)
        ]

    def _call(self, call: ToolCall) -> list[str]:
        """It asks for a tool: an item of its own, after what it says."""
        item = {
            "id": self.wire.new_id("item"),
            "object": "realtime.item",
            "type": "function_call",
            "status": "in_progress",
            "name": call.name,
            "call_id": call.id,
            "arguments": "",
        }
        place = {"response_id": self.id, "output_index": len(self._items)}
        ids = {**place, "item_id": item["id"], "call_id": call.id}
        done = {**item, "status": "completed", "arguments": call.arguments}
        entry = Entry(done, call_key(call.id))
        before = self.conversation.append(entry)
        self._calls.append(entry)
        kind = "response.function_call_arguments"
        return [
            self.wire.event("response.output_item.added", **place, item=item),
            self.wire.event("conversation.item.added", previous_item_id=before, item=item),
            *([self.wire.event(f"{kind}.delta", **ids, delta=call.arguments)] if call.arguments else []),
            self.wire.event(f"{kind}.done", **ids, name=call.name, arguments=call.arguments),
            self.wire.event("response.output_item.done", **place, item=done),
            self.wire.event("conversation.item.done", previous_item_id=before, item=done),
        ]

    @property
    def _items(self) -> list[Entry]:
        """Its items, in order."""
        return self._calls if self._entry is None else [self._entry, *self._calls]

    def _close(self, entry: Entry, status: str) -> list[str]:
        if self._spoken:
            part = {"type": "audio", "transcript": self._text}
            content = {"type": "output_audio", "transcript": self._text}
            ended = [
                self.wire.event("response.output_audio.done", **self._ids),
                self.wire.event("response.output_audio_transcript.done", **self._ids, transcript=self._text),
            ]
        else:
            part = {"type": "text", "text": self._text}
            content = {"type": "output_text", "text": self._text}
            ended = [self.wire.event("response.output_text.done", **self._ids, text=self._text)]
        entry.item = {**entry.item, "status": status, "content": [content]}
        before = self.conversation.before(entry)
        return [
            *ended,
            self.wire.event("response.content_part.done", **self._ids, part=part),
            self.wire.event("response.output_item.done", response_id=self.id, output_index=0, item=entry.item),
            self.wire.event("conversation.item.done", previous_item_id=before, item=entry.item),
        ]

    # -- its object ---------------------------------------------------------------------------------------------

    def _response(self, status: str) -> dict[str, Any]:
        config = self.session.config
        output = {"format": FORMATS[self._format], "voice": self.session.voice}
        response: dict[str, Any] = {
            "object": "realtime.response",
            "id": self.id,
            "status": status,
            "status_details": None,
            "output": [] if status == "in_progress" else [entry.item for entry in self._items],
            "conversation_id": self.conversation_id,
            "output_modalities": ["audio"] if self._spoken else ["text"],
            "max_output_tokens": self.request.max_output_tokens or config["max_output_tokens"],
            "audio": {"output": output},
            "usage": None,
            "metadata": self.request.metadata,
        }
        if status != "in_progress":
            final, reason = _STATUS.get(status, _STATUS["failed"])
            response |= {"status": final, "status_details": self._details(final, reason), "usage": self._usage()}
        return response

    def _details(self, status: str, reason: str | None) -> dict[str, Any] | None:
        if status == "completed":
            return None
        if status == "cancelled":
            return {"type": status, "reason": reason}
        failure = self.failure or Failure("server_error", "The reply could not be made.")
        error = {"type": "server_error", "code": failure.code, "message": failure.message}
        return {"type": status, "error": error}

    def _usage(self) -> dict[str, Any]:
        heard = -(-self.heard_ms // INPUT_MS_PER_TOKEN)
        spoken = self._samples * 1000 // rate_of(self._format) // OUTPUT_MS_PER_TOKEN
        called = sum(len(entry.item["arguments"]) for entry in self._calls)
        written = -(-(len(self._text) + called) // CHARS_PER_TOKEN)
        return {
            "total_tokens": heard + spoken + written,
            "input_tokens": heard,
            "output_tokens": spoken + written,
            "input_token_details": {
                "text_tokens": 0,
                "audio_tokens": heard,
                "image_tokens": 0,
                "cached_tokens": 0,
                "cached_tokens_details": {"text_tokens": 0, "audio_tokens": 0, "image_tokens": 0},
            },
            "output_token_details": {"text_tokens": written, "audio_tokens": spoken},
        }
