"""The server events about the person's speech: when it began and ended, its item, its transcript.

Pure. Each spoken turn is one item of the user. `Turns` and `Reply` write the events about replies.
"""

from dataclasses import asdict, dataclass
from typing import Any

from services.edge.client.keys import user_key
from services.edge.protocols.realtime.items import Conversation, Entry, new_item
from services.edge.protocols.realtime.session import SessionObject
from services.edge.protocols.realtime.wire import Wire

TRANSCRIPTION = "conversation.item.input_audio_transcription"
KEPT_TURNS = 32
"""Turns whose transcript may still arrive; older ones are forgotten."""


@dataclass(slots=True)
class Spoken:
    """The person's speech in one turn."""

    item_id: str
    onset_ms: int = 0
    spoken_ms: int = 0
    announced: bool = False
    """`speech_started` was sent."""
    stopped: bool = False
    entry: Entry | None = None
    """Its item, once the turn is over."""
    sent: str = ""
    """The part of the transcript that was sent as deltas."""
    early: str | None = None
    """The final transcript, if it arrived before the turn was committed."""


class SpokenTurns:
    """The spoken turns of one connection."""

    def __init__(self, wire: Wire, session: SessionObject, conversation: Conversation) -> None:
        self._wire = wire
        self._session = session
        self._conversation = conversation
        self._spoken: dict[int, Spoken] = {}
        self._speech_ms = 0

    def __contains__(self, turn: int) -> bool:
        """Whether there was speech in this turn whose final transcript has not been sent."""
        return turn in self._spoken

    @property
    def speaking(self) -> bool:
        """Whether the client was sent a `speech_started` for a turn that is not over."""
        return any(spoken.announced and spoken.entry is None for spoken in self._spoken.values())

    def take_speech_ms(self) -> int:
        """Length in ms of the committed speech since the last call."""
        speech_ms, self._speech_ms = self._speech_ms, 0
        return speech_ms

    def _turn(self, turn: int) -> Spoken:
        spoken = self._spoken.get(turn)
        if spoken is None:
            spoken = self._spoken[turn] = Spoken(self._wire.id_of("item", f"spoken {turn}"))
            if len(self._spoken) > KEPT_TURNS:
                del self._spoken[min(self._spoken)]
        return spoken

    def save(self) -> dict[str, Any]:
        turns = [
            {**asdict(spoken), "entry": spoken.entry is not None, "turn": turn} for turn, spoken in self._spoken.items()
        ]
        return {"turns": turns, "speech_ms": self._speech_ms}

    def restore(self, saved: dict[str, Any]) -> None:
        """The items are in the conversation again."""
        self._speech_ms = saved["speech_ms"]
        for fields in saved["turns"]:
            turn, found = fields.pop("turn"), self._conversation.find(fields["item_id"])
            self._spoken[turn] = Spoken(**{**fields, "entry": found if fields["entry"] else None})

    def began(self, turn: int, onset_ms: int) -> list[str]:
        spoken = self._turn(turn)
        if spoken.announced or not self._session.detects_turns:
            return []
        spoken.announced, spoken.onset_ms = True, onset_ms
        return [self._wire.event("input_audio_buffer.speech_started", item_id=spoken.item_id, audio_start_ms=onset_ms)]

    def ended(self, turn: int, end_ms: int) -> list[str]:
        spoken = self._spoken.get(turn)
        if spoken is None or spoken.stopped or not spoken.announced:
            return []
        spoken.stopped = True
        return [self._wire.event("input_audio_buffer.speech_stopped", item_id=spoken.item_id, audio_end_ms=end_ms)]

    def committed(self, turn: int, spoken_ms: int) -> list[str]:
        """The speech is a turn: it becomes an item."""
        spoken = self._turn(turn)
        if spoken.entry is not None:
            return []
        spoken.spoken_ms = spoken_ms
        self._speech_ms += spoken_ms
        stopped = self.ended(turn, spoken.onset_ms + spoken_ms)
        content = [{"type": "input_audio", "transcript": None}]  # some clients fail to read the item without this key
        item = new_item(spoken.item_id, "message", "completed", role="user", content=content)
        spoken.entry = Entry(item, user_key(turn))
        before = self._conversation.append(spoken.entry)
        return [
            *stopped,
            self._wire.event("input_audio_buffer.committed", item_id=spoken.item_id, previous_item_id=before),
            self._wire.event("conversation.item.added", previous_item_id=before, item=item),
            self._wire.event("conversation.item.done", previous_item_id=before, item=item),
            *([] if spoken.early is None else self.transcribed(turn, spoken.early, final=True)),
        ]

    def dropped(self, turn: int) -> list[str]:
        spoken = self._spoken.get(turn)
        stopped = [] if spoken is None else self.ended(turn, spoken.onset_ms)
        self._spoken.pop(turn, None)
        return stopped

    def transcribed(self, turn: int, text: str, final: bool) -> list[str]:
        spoken = self._spoken.get(turn)
        if spoken is None:
            return []
        if spoken.entry is None:
            spoken.early = text if final else None
            return []
        if not self._session.transcribes:
            if final:
                del self._spoken[turn]
            return []
        part = {"item_id": spoken.item_id, "content_index": 0}
        events = []
        # A delta cannot be taken back, so words that the recogniser changed are sent only with `completed`.
        if len(text) > len(spoken.sent) and text.startswith(spoken.sent):
            events.append(self._wire.event(f"{TRANSCRIPTION}.delta", **part, delta=text[len(spoken.sent) :]))
            spoken.sent = text
        if final:
            del self._spoken[turn]
            content = [{"type": "input_audio", "transcript": text}]
            spoken.entry.item = {**spoken.entry.item, "content": content}
            usage = {"type": "duration", "seconds": spoken.spoken_ms / 1000}
            events.append(self._wire.event(f"{TRANSCRIPTION}.completed", **part, transcript=text, usage=usage))
        return events

    def failed(self, turn: int, code: str, message: str) -> list[str]:
        """The turn failed: send an error if the client still expects the transcript."""
        spoken = self._spoken.pop(turn, None)
        if spoken is None or spoken.entry is None or not self._session.transcribes:
            return []
        error = {"type": "server_error", "code": code, "message": message, "param": None}
        return [self._wire.event(f"{TRANSCRIPTION}.failed", item_id=spoken.item_id, content_index=0, error=error)]
