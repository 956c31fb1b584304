"""The server events of one response: `response.created`, then item, part and deltas, then exactly one `response.done`.

Pure. It owns the order of these events; the session decides when a reply begins and ends.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from services.edge.client.events import Failed
from services.edge.client.keys import call_key, reply_key
from services.edge.protocols.realtime.items import Conversation, Entry, new_item
from services.edge.protocols.realtime.session import SessionObject
from services.edge.protocols.realtime.wire import FORMATS, Wire, pack_audio, rate_of
from shared.audio.pcm import Resampler
from shared.protocol.session import ToolCall

DELTA_BYTES = 48 * 1024
"""Audio in one delta: 64 KiB of base64, within every client's message limit; about a second at 24 kHz."""

AUDIO_DELTA = "response.output_audio.delta"

CHARS_PER_TOKEN = 4
INPUT_MS_PER_TOKEN = 100
OUTPUT_MS_PER_TOKEN = 50
"""How OpenAI counts tokens. Clients show the usage, so Parley estimates it; nothing is billed by it."""

_STATUS = {
    "incomplete": ("incomplete", None),
    "completed": ("completed", None),
    "empty": ("completed", None),
    "cancelled": ("cancelled", "client_cancelled"),
    "interrupted": ("cancelled", "turn_detected"),
    "failed": ("failed", None),
}
"""The status and the reason of a response, by the status of the session's `ReplyEnded`; `incomplete` if that completed a
reply whose text ends early, for the reason in it."""


@dataclass(slots=True)
class Request:
    """The options of a client's `response.create`; the defaults are for a reply that the session began by itself."""

    metadata: dict[str, str] | None = None
    output_modalities: Sequence[str] | None = None
    max_output_tokens: int | str | None = None
    turn: int | None = None
    """The turn that the session gave to the request; None: not known yet."""


@dataclass
class Reply:
    """One response, from `response.created` to `response.done`."""

    wire: Wire
    session: SessionObject
    conversation: Conversation
    number: int
    """Of the response, within the session."""
    turn: int
    request: Request
    speech_ms: int
    """Length of the speech that this response answers."""
    rate_hz: int
    """Sample rate of the session's audio in Hz; the client's format may have another rate."""
    from_ms: int = 0
    """Position in the turn's reply at which this response begins."""
    failure: Failed | None = None

    def __post_init__(self) -> None:
        self.id = self.wire.id_of("resp", str(self.number))
        self._ids: dict[str, Any] = {
            "response_id": self.id,
            "item_id": self.wire.id_of("item", f"response {self.number}"),
            "output_index": 0,
            "content_index": 0,
        }
        modalities = self.request.output_modalities or self.session.config["output_modalities"]
        self._spoken = modalities == ["audio"]
        self._format = self.session.output_format
        self._resampler = Resampler(self.rate_hz, rate_of(self._format))
        self._entry: Entry | None = None
        self._calls: list[Entry] = []
        self._text = ""
        self._samples = 0

    # -- the session's events -----------------------------------------------------------------------------------

    def created(self) -> list[str]:
        self.wire.begin(self.turn, self.from_ms * self.rate_hz // 1000)
        return [self.wire.event("response.created", response=self._response("in_progress"))]

    def text(self, delta: str) -> list[str]:
        """More text: the transcript of a spoken reply, or a written reply."""
        if not delta:
            return []
        opening = self._open()
        self._text += delta
        kind = "response.output_audio_transcript.delta" if self._spoken else "response.output_text.delta"
        return [*opening, self.wire.event(kind, **self._ids, delta=delta)]

    def audio(self, pcm: bytes, offset: int) -> list[str]:
        """More audio at the session's rate, from this sample of the turn's reply on."""
        if not self._spoken:
            return []
        events, step = self._open(), 2 * self.rate_hz  # a second
        for start in range(0, len(pcm), step):
            piece = pcm[start : start + step]
            end = offset + (start + len(piece)) // 2
            for delta in self._encoded(self._resampler.process(piece)):
                events.append(self.wire.audio(AUDIO_DELTA, end, **self._ids, delta=delta))
        return events

    def done(self, status: str, text: str, calls: Sequence[ToolCall] = (), reason: str = "") -> list[str]:
        """The reply is over. `status` and `reason` are those of the session's `ReplyEnded`, `text` the whole text that was made."""
        completed = _STATUS.get(status, _STATUS["failed"])[0] == "completed"
        closing: list[str] = []
        if completed and len(text) > len(self._text) and text.startswith(self._text):
            closing += self.text(text[len(self._text) :])
        if self._entry is not None:
            if completed:
                rest = self._encoded(self._resampler.flush())
                closing += [self.wire.event(AUDIO_DELTA, **self._ids, delta=delta) for delta in rest]
            closing += self._close(self._entry, "completed" if completed and not reason else "incomplete")
        for call in calls:
            closing += self._call(call)
        final = "incomplete" if completed and reason else status
        return [*closing, self.wire.event("response.done", response=self._response(final, reason))]

    # -- items and parts ----------------------------------------------------------------------------------------

    def _open(self) -> list[str]:
        """Announce the item and its part, before the first delta of text or audio."""
        if self._entry is not None:
            return []
        item = new_item(self._ids["item_id"], "message", "in_progress", role="assistant", content=[])
        self._entry = Entry(item, reply_key(self.turn), turn=self.turn, from_ms=self.from_ms)
        before = self.conversation.append(self._entry)
        return [
            self.wire.event("response.output_item.added", response_id=self.id, output_index=0, item=item),
            self.wire.event("conversation.item.added", previous_item_id=before, item=item),
            self.wire.event("response.content_part.added", **self._ids, part=self._part()),
        ]

    def _part(self) -> dict[str, str]:
        if self._spoken:
            return {"type": "audio", "transcript": self._text}
        return {"type": "text", "text": self._text}

    def _encoded(self, pcm: bytes) -> list[str]:
        """Audio at the format's rate as base64; a second of it is one delta."""
        if self._entry is not None:
            self._samples += len(pcm) // 2
            self._entry.sent_ms = self._samples * 1000 // rate_of(self._format)
        return pack_audio(pcm, self._format, DELTA_BYTES)

    def _call(self, call: ToolCall) -> list[str]:
        """A call of a tool: an item after the message."""
        named = {"name": call.name, "call_id": call.id, "arguments": ""}
        item = new_item(self.wire.id_of("item", f"call {call.id}"), "function_call", "in_progress", **named)
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
        return self._calls if self._entry is None else [self._entry, *self._calls]

    def _close(self, entry: Entry, status: str) -> list[str]:
        part = self._part()
        if self._spoken:
            ended = [
                self.wire.event("response.output_audio.done", **self._ids),
                self.wire.event("response.output_audio_transcript.done", **self._ids, transcript=self._text),
            ]
        else:
            ended = [self.wire.event("response.output_text.done", **self._ids, text=self._text)]
        entry.item = {**entry.item, "status": status, "content": [{**part, "type": f"output_{part['type']}"}]}
        before = self.conversation.before(entry)
        return [
            *ended,
            self.wire.event("response.content_part.done", **self._ids, part=part),
            self.wire.event("response.output_item.done", response_id=self.id, output_index=0, item=entry.item),
            self.wire.event("conversation.item.done", previous_item_id=before, item=entry.item),
        ]

    # -- the response object ------------------------------------------------------------------------------------

    def _response(self, status: str, why: str = "") -> dict[str, Any]:
        config = self.session.config
        output = {"format": FORMATS[self._format], "voice": self.session.voice}
        response: dict[str, Any] = {
            "object": "realtime.response",
            "id": self.id,
            "status": status,
            "status_details": None,
            "output": [] if status == "in_progress" else [entry.item for entry in self._items],
            "conversation_id": self.conversation.id,
            "output_modalities": ["audio"] if self._spoken else ["text"],
            "max_output_tokens": self.request.max_output_tokens or config["max_output_tokens"],
            "audio": {"output": output},
            "usage": None,
            "metadata": self.request.metadata,
        }
        if status != "in_progress":
            final, reason = _STATUS.get(status, _STATUS["failed"])
            response |= {"status": final, "status_details": self._details(final, reason or why), "usage": self._usage()}
        return response

    def _details(self, status: str, reason: str) -> dict[str, Any] | None:
        if status == "completed":
            return None
        if status in ("cancelled", "incomplete"):
            return {"type": status, "reason": reason}
        failure = self.failure or Failed(reason or "server_error", "The reply failed.")
        error = {"type": "server_error", "code": failure.code, "message": failure.message}
        return {"type": status, "error": error}

    def _usage(self) -> dict[str, Any]:
        input_tokens = -(-self.speech_ms // INPUT_MS_PER_TOKEN)
        spoken = self._samples * 1000 // rate_of(self._format) // OUTPUT_MS_PER_TOKEN
        called = sum(len(entry.item["arguments"]) for entry in self._calls)
        written = -(-(len(self._text) + called) // CHARS_PER_TOKEN)
        return {
            "total_tokens": input_tokens + spoken + written,
            "input_tokens": input_tokens,
            "output_tokens": spoken + written,
            "input_token_details": {
                "text_tokens": 0,
                "audio_tokens": input_tokens,
                "image_tokens": 0,
                "cached_tokens": 0,
                "cached_tokens_details": {"text_tokens": 0, "audio_tokens": 0, "image_tokens": 0},
            },
            "output_token_details": {"text_tokens": written, "audio_tokens": spoken},
        }
