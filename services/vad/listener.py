"""The input of one session: microphone audio in, speech and facts about turns out.

Pure. Each entry of the `in` stream passes in two steps. `take` returns the windows to judge, so that one detector call
serves all sessions. `accept` gets the probabilities and returns what to publish. The checkpoint is all that another
worker needs to take over: the state of turn-taking, and the entry from which to read the audio again.
"""

import dataclasses
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgpack

from services.vad.engine import WINDOW_BYTES, WINDOW_MS, WINDOW_SAMPLES
from services.vad.turn_state import TurnState, state_fields
from services.vad.turn_taking import TurnTaker
from shared.protocol.entry_id import order
from shared.protocol.frames import (
    AudioChunk,
    Frame,
    InputCleared,
    InputCommitted,
    PauseTranscribed,
    ReplyRequested,
    SessionEnded,
    SettingsChanged,
    SpeechStarted,
    TextTyped,
)
from shared.protocol.session import RATE_HZ, ReplyOptions, SessionSettings

GATHER_BYTES = 3_200
"""Speech is published in chunks of at least this size, 100 ms."""
SPARE_MS = 400
"""Audio kept before the pre-roll: the longest onset, gaps included."""
LONGEST_GAP_BYTES = 320_000
"""Missing input up to this length (10 s) is filled with silence. A longer gap is skipped."""


@dataclass(frozen=True, slots=True)
class Detection:
    """What to publish for one entry, in this order."""

    speech: Sequence[AudioChunk] = ()
    facts: Sequence[Frame] = ()
    late_speech: Sequence[AudioChunk] = ()
    """Speech to publish after the facts: the pre-roll of a turn that begins."""
    ended: bool = False
    """The session is over."""
    words: PauseTranscribed | None = None
    """The recogniser's answer to a pause, which is not to be published."""


NOTHING = Detection()


@dataclass(frozen=True, slots=True)
class _Windows:
    """The windows that one audio chunk completed."""

    first: int
    """Byte offset of the first window since the session began."""
    count: int
    skipped: bool
    """A gap before the first window was skipped."""


class Listener:
    """Takes every entry of a session's input in order. All byte offsets count from the beginning of the session."""

    def __init__(
        self, session: str, settings: SessionSettings, memory_s: float = 0.0, *, transcribe: bool = False
    ) -> None:
        """`memory_s`: how much of a turn's latest audio `recent` must be able to return. `transcribe`: ask for the words at
        each pause."""
        self.settings = settings
        self.turns = TurnTaker(session, settings, transcribe=transcribe)
        self.replay_from = "0-0"
        """The entry after which to start reading; set by `restore`."""
        self.trace: Sequence[str | int] = ()
        """See `TurnTrace.state`. Stored in the checkpoint, not used here."""
        self._audio = bytearray()
        self._first = 0  # offset of the first byte in `_audio`
        self._taken = 0  # offset up to which windows were taken
        self._judged = 0  # offset up to which windows were judged
        self._sent = 0  # offset up to which speech was published
        self._due: deque[_Windows] = deque()  # of each chunk that was taken and is not accepted yet
        self._entries: deque[tuple[str, int]] = deque()  # (id of the entry before, first offset) of the audio kept
        self._taken_id = "0-0"
        self._accepted_id = "0-0"
        self._known_until = "0-0"  # the checkpoint covers the entries up to this one
        self._memory = 2 * int(memory_s * RATE_HZ)
        self._keep = 0
        self._configure(settings)

    def _configure(self, settings: SessionSettings) -> None:
        self.settings = settings
        self.turns.configure(settings)
        self._keep = (settings.preroll_ms + settings.start_ms + SPARE_MS) // WINDOW_MS * WINDOW_BYTES + self._memory

    # -- entries ----------------------------------------------------------------------------------

    def take(self, entry_id: str, frames: Sequence[Frame]) -> bytes:
        """Return the windows that this entry completes, for the detector."""
        first = self._taken
        pieces: list[bytes] = []
        for frame in frames:
            if type(frame) is AudioChunk:
                first = self._ingest(frame)
                pieces.append(bytes(self._audio[first - self._first : self._taken - self._first]))
        self._taken_id = entry_id
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def accept(self, entry_id: str, frames: Sequence[Frame], probabilities: Iterator[float]) -> Detection:
        """Process an entry whose windows have been judged. Entries are accepted in the order they were taken."""
        facts: list[Frame] = []
        speech: list[AudioChunk] = []
        ended = False
        words: PauseTranscribed | None = None
        known = self._known_until != "0-0" and order(entry_id) <= order(self._known_until)
        for frame in frames:
            if type(frame) is AudioChunk:
                self._accept_windows(entry_id, probabilities, facts)
            elif type(frame) is PauseTranscribed:
                words = frame
            elif not known:
                ended |= self._accept_control(frame, entry_id, facts)
        self._accepted_id = entry_id
        begins = any(type(fact) is SpeechStarted for fact in facts)
        if self.turns.in_turn and not begins and not self.turns.paused:
            speech = self._speech(self._judged, GATHER_BYTES)
        elif facts and not begins:
            speech = self._speech(self._turn_end(), 1)
        if not facts:
            if not speech and not ended and words is None:
                self._trim()
                return NOTHING
            return Detection(speech, ended=ended, words=words)
        late = self._speech(self._judged, 1) if begins else []
        self._trim()
        return Detection(speech, facts, late, ended, words)

    def _ingest(self, chunk: AudioChunk) -> int:
        """Place the chunk at its offset. Returns the byte offset of the first new window."""
        at = 2 * chunk.offset
        expected = self._first + len(self._audio)
        pcm = chunk.pcm
        skipped = False
        if at != expected:
            if not self._audio:  # after a takeover, reading starts in the middle: begin at the next whole window
                self._first = self._taken = self._judged = -(-at // WINDOW_BYTES) * WINDOW_BYTES
                pcm = pcm[self._first - at :]
            elif at < expected:  # a duplicate
                pcm = pcm[expected - at :]
            elif at - expected <= LONGEST_GAP_BYTES:
                self._audio += bytes(at - expected)
            else:
                skipped = True
                self._skip_to(at)
                pcm = pcm[self._first - at :]
        self._entries.append((self._taken_id, self._first + len(self._audio)))
        self._audio += pcm
        first, end = self._taken, self._first + len(self._audio)
        self._taken = end - (end - first) % WINDOW_BYTES
        self._due.append(_Windows(first, (self._taken - first) // WINDOW_BYTES, skipped))
        return first

    def _accept_windows(self, entry_id: str, probabilities: Iterator[float], facts: list[Frame]) -> None:
        windows, turns = self._due.popleft(), self.turns
        if windows.skipped:
            turns.turn.window = windows.first // WINDOW_BYTES
        self._judged = windows.first
        for _, probability in zip(range(windows.count), probabilities, strict=False):
            self._judged += WINDOW_BYTES
            if self._judged > 2 * turns.position:
                was_in_turn = turns.in_turn
                facts += turns.hear(probability, entry_id)
                if turns.in_turn and not was_in_turn:
                    self._sent = max(self._sent, 2 * turns.turn_start)

    def _accept_control(self, frame: Frame, entry_id: str, facts: list[Frame]) -> bool:
        """Process a frame that is not audio. Returns whether the session is over."""
        match frame:
            case SettingsChanged(settings):
                if self.settings.detect_turns != settings.detect_turns:
                    facts += self.turns.clear(entry_id, "settings")
                self._configure(settings)
            case InputCommitted(options):
                facts += self.turns.commit(entry_id, options)
            case InputCleared():
                facts += self.turns.clear(entry_id, "client")
            case TextTyped(text, options):
                facts += self.turns.ask(entry_id, text, options)
            case ReplyRequested(options, unless_spoken):
                facts += self.turns.ask(entry_id, "", options, unless_spoken=unless_spoken)
            case SessionEnded():
                facts += self.turns.clear(entry_id, "session ended")
                return True
            case _:
                pass
        return False

    def stalled(self) -> Sequence[Frame]:
        """Commit the turn in progress: the client has stopped sending audio."""
        return self.turns.commit(self._accepted_id, ReplyOptions(wants_reply=self.settings.create_reply))

    # -- audio ------------------------------------------------------------------------------------

    def _turn_end(self) -> int:
        """Return the offset at which the latest turn's speech ends."""
        if not self.settings.detect_turns:
            return self._judged
        return max(self._sent, 2 * WINDOW_SAMPLES * self.turns.turn.last)

    def _speech(self, until: int, least: int) -> list[AudioChunk]:
        """Return the unpublished speech up to an offset; empty if it has fewer than `least` bytes."""
        start = max(self._sent, self._first)
        if until - start < least:
            return []
        pcm = bytes(self._audio[start - self._first : until - self._first])
        self._sent = until
        return [AudioChunk(start // 2, pcm)] if pcm else []

    def _trim(self) -> None:
        """Drop audio that no turn can need any more."""
        needed = self._judged - self._keep
        if self.turns.in_turn:
            needed = min(self._sent, needed)
        if needed - self._first > self._keep:
            del self._audio[: needed - self._first]
            self._first = needed
            while len(self._entries) > 1 and self._entries[1][1] <= needed:
                self._entries.popleft()

    def _skip_to(self, at: int) -> None:
        self._audio.clear()
        self._entries.clear()
        self._first = self._taken = -(-at // WINDOW_BYTES) * WINDOW_BYTES

    # -- checkpoint -------------------------------------------------------------------------------

    def checkpoint(self, speaker: Sequence[float] = ()) -> bytes:
        """Return the state after the last accepted entry. `speaker` is what `endpointing.Speaker.state` returns."""
        replay_from = self._entries[0][0] if self._entries else self._accepted_id
        fields = [self._accepted_id, replay_from, self._sent, state_fields(self.turns.turn), list(speaker)]
        if self.trace:
            fields.append(list(self.trace))
        packed: bytes = msgpack.packb(fields)
        return packed

    def restore(self, checkpoint: bytes, settings: SessionSettings) -> list[float]:
        """Continue from another worker's checkpoint; then feed the entries after `replay_from`.

        Returns the state of the speaker that was passed to `checkpoint`.
        """
        # A later release may have added fields: they are ignored.
        self._known_until, self.replay_from, self._sent, fields, speaker, *trace = msgpack.unpackb(checkpoint)
        self.trace = trace[0] if trace else ()
        self._taken_id = self._accepted_id = self.replay_from
        self.turns.turn = TurnState(*fields[: len(dataclasses.fields(TurnState))])
        self._configure(settings)
        return [float(value) for value in speaker]

    def recent(self, seconds: float) -> bytes:
        """Return the latest audio of the turn, at most `seconds` long: s16le, 16 kHz, mono."""
        first = max(self._first, self._judged - 2 * int(seconds * RATE_HZ), 2 * self.turns.turn_start)
        return bytes(self._audio[first - self._first : self._judged - self._first])
