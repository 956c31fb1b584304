"""What a Realtime client is told of the person's speech: when it began and ended, its item, its transcript.

Pure. One user item for each spoken turn; replies are told of elsewhere.
"""

from dataclasses import dataclass

from services.edge.keys import user_key
from services.edge.protocols.realtime_items import Conversation, Entry
from services.edge.protocols.realtime_session import SessionObject
from services.edge.protocols.realtime_wire import Wire

TRANSCRIPTION = "conversation.item.input_audio_transcription"
KEPT_TURNS = 32
"""Turns whose transcript may still come."""


@dataclass(slots=True)
class Spoken:
    """What the person says in one turn."""

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
    """The final transcript, where it came before the turn's end was told."""


class Hearing:
    """The spoken turns of one connection."""

    def __init__(self, wire: Wire, session: SessionObject, conversation: Conversation) -> None:
        self._wire = wire
        self._session = session
        self._conversation = conversation
        self._spoken: dict[int, Spoken] = {}
        self._heard_ms = 0

    def __contains__(self, turn: int) -> bool:
        """Whether something was heard in this turn whose transcript has not been told."""
        return turn in self._spoken

    @property
    def speaking(self) -> bool:
        """Whether speech was announced that is no turn yet."""
        return any(spoken.announced and spoken.entry is None for spoken in self._spoken.values())

    def take_heard_ms(self) -> int:
        """Length of the speech since this was last asked."""
        heard_ms, self._heard_ms = self._heard_ms, 0
        return heard_ms

    def _turn(self, turn: int) -> Spoken:
        spoken = self._spoken.get(turn)
        if spoken is None:
            spoken = self._spoken[turn] = Spoken(self._wire.new_id("item"))
            if len(self._spoken) > KEPT_TURNS:
                del self._spoken[min(self._spoken)]
        return spoken

    def began(self, turn: int, onset_ms: int) -> list[str]:
        """The person speaks."""
        spoken = self._turn(turn)
        if spoken.announced or not self._session.detects_turns:
            return []
        spoken.announced, spoken.onset_ms = True, onset_ms
        return [self._wire.event("input_audio_buffer.speech_started", item_id=spoken.item_id, audio_start_ms=onset_ms)]

    def ended(self, turn: int, end_ms: int) -> list[str]:
        """The person is done."""
        spoken = self._spoken.get(turn)
        if spoken is None or spoken.stopped or not spoken.announced:
            return []
        spoken.stopped = True
        return [self._wire.event("input_audio_buffer.speech_stopped", item_id=spoken.item_id, audio_end_ms=end_ms)]

    def committed(self, turn: int, spoken_ms: int) -> list[str]:
        """What was spoken is a turn, and becomes an item."""
        spoken = self._turn(turn)
        if spoken.entry is not None:
            return []
        spoken.spoken_ms = spoken_ms
        self._heard_ms += spoken_ms
        stopped = self.ended(turn, spoken.onset_ms + spoken_ms)
        item = {
            "id": spoken.item_id,
            "object": "realtime.item",
            "type": "message",
            "status": "completed",
            "role": "user",
            # Without the key some clients fail to read the item.
            "content": [{"type": "input_audio", "transcript": None}],
        }
        spoken.entry = Entry(item, user_key(turn))
        before = self._conversation.append(spoken.entry)
        return [
            *stopped,
            self._wire.event("input_audio_buffer.committed", item_id=spoken.item_id, previous_item_id=before),
            self._wire.event("conversation.item.added", previous_item_id=before, item=item),
            self._wire.event("conversation.item.done", previous_item_id=before, item=item),
            *([] if spoken.early is None else self.heard(turn, spoken.early, final=True)),
        ]

    def dropped(self, turn: int) -> list[str]:
        """What was spoken is no turn."""
        spoken = self._spoken.get(turn)
        stopped = [] if spoken is None else self.ended(turn, spoken.onset_ms)
        self._spoken.pop(turn, None)
        return stopped

    def heard(self, turn: int, text: str, final: bool) -> list[str]:
        """What was understood so far, or at last."""
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
        told = []
        # A delta cannot be taken back: what the recogniser changed its mind about is told by `completed` alone.
        if len(text) > len(spoken.sent) and text.startswith(spoken.sent):
            told.append(self._wire.event(f"{TRANSCRIPTION}.delta", **part, delta=text[len(spoken.sent) :]))
            spoken.sent = text
        if final:
            del self._spoken[turn]
            content = [{"type": "input_audio", "transcript": text}]
            spoken.entry.item = {**spoken.entry.item, "content": content}
            usage = {"type": "duration", "seconds": spoken.spoken_ms / 1000}
            told.append(self._wire.event(f"{TRANSCRIPTION}.completed", **part, transcript=text, usage=usage))
        return told

    def failed(self, turn: int, code: str, message: str) -> list[str]:
        """Nothing more comes of this turn; told if its transcript was to come."""
        spoken = self._spoken.pop(turn, None)
        if spoken is None or spoken.entry is None or not self._session.transcribes:
            return []
        error = {"type": "server_error", "code": code, "message": message, "param": None}
        return [self._wire.event(f"{TRANSCRIPTION}.failed", item_id=spoken.item_id, content_index=0, error=error)]
