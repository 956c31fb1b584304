"""One session being listened to: microphone audio in, speech and facts about turns out.

Pure: entries of the `in` stream go in, in two steps. `take` gives the windows that are to be judged, so that those of
all sessions can be judged in one call; `accept` gets what was judged, and says what is to be published.
Its checkpoint is where a successor goes on: the turn-taking machine's standing, and the entry from which
the audio that may still be needed has to be read again.
"""

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
    ReplyRequested,
    SessionEnded,
    SettingsChanged,
    SpeechStarted,
    TextTyped,
)
from shared.protocol.session import RATE_HZ, ReplyOptions, SessionSettings

GATHER_BYTES = 3_200
"""Speech goes to the recogniser in slices of 100 ms."""
SPARE_MS = 400
"""Audio kept before the pre-roll: the longest onset, with the gaps it may have."""
LONGEST_GAP_BYTES = 320_000
"""A hole in the input up to this long (10 s) is silence; over a longer one time is skipped."""


@dataclass(frozen=True, slots=True)
class Detection:
    """What one entry led to, in the order in which it has to be published."""

    speech: Sequence[AudioChunk] = ()
    facts: Sequence[Frame] = ()
    late_speech: Sequence[AudioChunk] = ()
    """Speech to be published after the facts: the pre-roll of a turn that begins."""
    ended: bool = False


NOTHING = Detection()


@dataclass(frozen=True, slots=True)
class _Windows:
    """What one chunk of audio brought to be judged."""

    first: int
    """Byte offset of the first window, since the session began."""
    count: int
    skipped: bool
    """Time was skipped before it."""


class Listener:
    """Feed it every entry of a session's input in order."""

    def __init__(self, session: str, settings: SessionSettings, memory_s: float = 0.0) -> None:
        self.settings = settings
        self.turns = TurnTaker(session, settings)
        self.replay_from = "0-0"
        """Entry after which to read, when it was restored from a checkpoint."""
        self.trace: Sequence[str | int] = ()
        """See `TurnTrace.state`; nothing is made of it here."""
        self._audio = bytearray()
        self._first = 0  # byte offset, since the session began, of what `_audio` begins with
        self._taken = 0  # byte offset up to which windows were taken to be judged
        self._judged = 0  # byte offset up to which they were
        self._sent = 0  # byte offset up to which speech was published
        self._due: deque[_Windows] = deque()  # for each chunk that was taken and not accepted yet
        self._entries: deque[tuple[str, int]] = deque()  # (entry before, first byte) of the audio that is kept
        self._last_id = "0-0"  # of the entry taken last
        self._accepted_id = "0-0"
        self._known_until = "0-0"  # entries up to this one were heard before the checkpoint
        self._memory = 2 * int(memory_s * RATE_HZ)  # bytes of the turn that `recent` may be asked for
        self._keep = 0
        self._configure(settings)

    def _configure(self, settings: SessionSettings) -> None:
        self.settings = settings
        self.turns.configure(settings)
        self._keep = (settings.preroll_ms + settings.start_ms + SPARE_MS) // WINDOW_MS * WINDOW_BYTES + self._memory

    # -- entries ----------------------------------------------------------------------------------

    def take(self, entry_id: str, frames: Sequence[Frame]) -> bytes:
        """The windows that this entry completes: to be judged, and then accepted with it."""
        first = self._taken
        pieces: list[bytes] = []
        for frame in frames:
            if type(frame) is AudioChunk:
                first = self._ingest(frame)
                pieces.append(bytes(self._audio[first - self._first : self._taken - self._first]))
        self._last_id = entry_id
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def accept(self, entry_id: str, frames: Sequence[Frame], probabilities: Iterator[float]) -> Detection:
        """What this entry leads to, now that its windows were judged. Entries are accepted in the order in which they
        were taken."""
        facts: list[Frame] = []
        speech: list[AudioChunk] = []
        ended = False
        known = self._known_until != "0-0" and not _after(entry_id, self._known_until)
        for frame in frames:
            if type(frame) is AudioChunk:
                self._hear(entry_id, probabilities, facts)
            elif not known:
                ended |= self._control(frame, entry_id, facts)
        self._accepted_id = entry_id
        begins = any(type(fact) is SpeechStarted for fact in facts)
        if self.turns.in_turn and not begins and not self.turns.paused:
            speech = self._speech(self._judged, GATHER_BYTES)
        elif facts and not begins:
            speech = self._speech(self._turn_end(), 1)
        if not facts:
            if not speech and not ended:
                self._trim()
                return NOTHING
            return Detection(speech, ended=ended)
        late = self._speech(self._judged, 1) if begins else []
        self._trim()
        return Detection(speech, facts, late, ended)

    def _ingest(self, chunk: AudioChunk) -> int:
        """Put the chunk where it belongs. Returns the byte offset of the first new window."""
        at = 2 * chunk.offset
        expected = self._first + len(self._audio)
        pcm = chunk.pcm
        skipped = False
        if at != expected:
            if not self._audio:  # a successor begins in the middle, on a window's edge
                self._first = self._taken = self._judged = -(-at // WINDOW_BYTES) * WINDOW_BYTES
                pcm = pcm[self._first - at :]
            elif at < expected:  # doubled
                pcm = pcm[expected - at :]
            elif at - expected <= LONGEST_GAP_BYTES:
                self._audio += bytes(at - expected)
            else:
                skipped = True
                self._skip_to(at)
                pcm = pcm[self._first - at :]
        self._entries.append((self._last_id, self._first + len(self._audio)))
        self._audio += pcm
        first, end = self._taken, self._first + len(self._audio)
        self._taken = end - (end - first) % WINDOW_BYTES
        self._due.append(_Windows(first, (self._taken - first) // WINDOW_BYTES, skipped))
        return first

    def _hear(self, entry_id: str, probabilities: Iterator[float], facts: list[Frame]) -> None:
        windows, turns = self._due.popleft(), self.turns
        if windows.skipped:
            turns.now.window = windows.first // WINDOW_BYTES
        self._judged = windows.first
        for _, probability in zip(range(windows.count), probabilities, strict=False):
            self._judged += WINDOW_BYTES
            if self._judged > 2 * turns.position:
                was_in_turn = turns.in_turn
                facts += turns.hear(probability, entry_id)
                if turns.in_turn and not was_in_turn:
                    self._sent = max(self._sent, 2 * turns.turn_start)

    def _control(self, frame: Frame, entry_id: str, facts: list[Frame]) -> bool:
        """What the client does besides speaking. Returns whether the session is over."""
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
        """The client stopped sending in the middle of a turn: what it said is a turn."""
        return self.turns.commit(self._accepted_id, ReplyOptions(wants_reply=self.settings.create_reply))

    # -- audio ------------------------------------------------------------------------------------

    def _turn_end(self) -> int:
        return (
            self._judged
            if self.settings.detect_turns is False
            else max(self._sent, 2 * WINDOW_SAMPLES * self.turns.now.last)
        )

    def _speech(self, until: int, least: int) -> list[AudioChunk]:
        """The speech that was not published yet, up to a byte offset, if there is enough of it."""
        start = max(self._sent, self._first)
        if until - start < least:
            return []
        pcm = bytes(self._audio[start - self._first : until - self._first])
        self._sent = until
        return [AudioChunk(start // 2, pcm)] if pcm else []

    def _trim(self) -> None:
        """Forget audio that no turn can need any more."""
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

    def checkpoint(self, pace: Sequence[float] = ()) -> bytes:
        """All that a successor needs to go on after the last entry that was accepted; `pace` is what is known of the
        speaker."""
        replay_from = self._entries[0][0] if self._entries else self._accepted_id
        fields = [self._accepted_id, replay_from, self._sent, state_fields(self.turns.now), list(pace)]
        if self.trace:
            fields.append(list(self.trace))
        packed: bytes = msgpack.packb(fields)
        return packed

    def restore(self, checkpoint: bytes, settings: SessionSettings) -> list[float]:
        """Go on from a predecessor's checkpoint; entries are then due from `replay_from` on. Returns what is known of
        the speaker."""
        self._known_until, self.replay_from, self._sent, fields, pace, *trace = msgpack.unpackb(checkpoint)
        self.trace = trace[0] if trace else ()
        self._last_id = self._accepted_id = self.replay_from
        self.turns.now = TurnState(*fields)
        self._configure(settings)
        return [float(value) for value in pace]

    def recent(self, seconds: float) -> bytes:
        """The turn's latest audio, up to now."""
        first = max(self._first, self._judged - 2 * int(seconds * RATE_HZ), 2 * self.turns.turn_start)
        return bytes(self._audio[first - self._first : self._judged - self._first])


def _after(entry_id: str, other: str) -> bool:
    return order(entry_id) > order(other)
