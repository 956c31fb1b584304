"""One session being listened to: microphone audio in, speech and facts about turns out.

Pure but for the detector it is given: entries of the `in` stream go in, what is to be published comes out.
Its checkpoint is where a successor goes on: the turn-taking machine's standing, and the entry from which
the audio that may still be needed has to be read again.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import msgpack

from services.vad.engine import WINDOW_BYTES, WINDOW_MS, WINDOW_SAMPLES, SpeechStream
from services.vad.turn_taking import Standing, TurnTaker, standing_fields
from shared.frames import (
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
from shared.session import ReplyOptions, SessionSettings

GATHER_BYTES = 3_200
"""Speech goes to the recogniser in slices of 100 ms."""
SPARE_MS = 400
"""Audio kept before the pre-roll: the longest onset, with the gaps it may have."""
LONGEST_GAP_BYTES = 320_000
"""A hole in the input up to this long (10 s) is silence; over a longer one time is skipped."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What one entry led to, in the order in which it has to be published."""

    speech: Sequence[AudioChunk] = ()
    facts: Sequence[Frame] = ()
    late_speech: Sequence[AudioChunk] = ()
    """Speech to be published after the facts: the pre-roll of a turn that begins."""
    ended: bool = False


NOTHING = Heard()


class Listener:
    """Feed it every entry of a session's input in order."""

    def __init__(self, session: str, settings: SessionSettings, stream: SpeechStream) -> None:
        self.settings = settings
        self.turns = TurnTaker(session, settings)
        self.replay_from = "0-0"
        """Entry after which to read, when it was restored from a checkpoint."""
        self._stream = stream
        self._audio = bytearray()
        self._first = 0  # byte offset, since the session began, of what `_audio` begins with
        self._looked = 0  # byte offset up to which windows were judged
        self._sent = 0  # byte offset up to which speech was published
        self._entries: deque[tuple[str, int]] = deque()  # (entry before, first byte) of the audio that is kept
        self._last_id = "0-0"
        self._known_until = "0-0"  # entries up to this one were heard before the checkpoint
        self._keep = 0
        self._configure(settings)

    def _configure(self, settings: SessionSettings) -> None:
        self.settings = settings
        self.turns.configure(settings)
        self._keep = (settings.preroll_ms + settings.start_ms + SPARE_MS) // WINDOW_MS * WINDOW_BYTES

    # -- entries ----------------------------------------------------------------------------------

    def accept(self, entry_id: str, frames: Sequence[Frame]) -> Heard:
        """What this entry leads to."""
        facts: list[Frame] = []
        speech: list[AudioChunk] = []
        ended = False
        known = self._known_until != "0-0" and not _after(entry_id, self._known_until)
        for frame in frames:
            if type(frame) is AudioChunk:
                self._hear(frame, entry_id, facts)
            elif not known:
                ended |= self._control(frame, entry_id, facts)
        self._last_id = entry_id
        begins = any(type(fact) is SpeechStarted for fact in facts)
        if self.turns.in_turn and not begins and not self.turns.paused:
            speech = self._speech(self._looked, GATHER_BYTES)
        elif facts and not begins:
            speech = self._speech(self._turn_end(), 1)
        if not facts:
            if not speech and not ended:
                self._trim()
                return NOTHING
            return Heard(speech, ended=ended)
        late = self._speech(self._looked, 1) if begins else []
        self._trim()
        return Heard(speech, facts, late, ended)

    def _hear(self, chunk: AudioChunk, entry_id: str, facts: list[Frame]) -> None:
        at = 2 * chunk.offset
        expected = self._first + len(self._audio)
        pcm = chunk.pcm
        if at != expected:
            if not self._audio:  # a successor begins in the middle, on a window's edge
                self._first = self._looked = -(-at // WINDOW_BYTES) * WINDOW_BYTES
                pcm = pcm[self._first - at :]
            elif at < expected:  # doubled
                pcm = pcm[expected - at :]
            elif at - expected <= LONGEST_GAP_BYTES:
                self._audio += bytes(at - expected)
            else:
                self._skip_to(at)
                pcm = pcm[self._first - at :]
        self._entries.append((self._last_id, self._first + len(self._audio)))
        self._audio += pcm
        end = self._first + len(self._audio)
        turns, stream = self.turns, self._stream
        while end - self._looked >= WINDOW_BYTES:
            start = self._looked - self._first
            probability = stream.probability(bytes(self._audio[start : start + WINDOW_BYTES]))
            self._looked += WINDOW_BYTES
            if self._looked > 2 * turns.position:
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
            case ReplyRequested(options):
                facts += self.turns.ask(entry_id, "", options)
            case SessionEnded():
                facts += self.turns.clear(entry_id, "session ended")
                return True
            case _:
                pass
        return False

    def stalled(self) -> Sequence[Frame]:
        """The client stopped sending in the middle of a turn: what it said is a turn."""
        return self.turns.commit(self._last_id, ReplyOptions(wanted=self.settings.create_reply))

    # -- audio ------------------------------------------------------------------------------------

    def _turn_end(self) -> int:
        return (
            self._looked
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
        needed = self._looked - self._keep
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
        self._first = self._looked = -(-at // WINDOW_BYTES) * WINDOW_BYTES
        self.turns.now.window = self._looked // WINDOW_BYTES

    # -- checkpoint -------------------------------------------------------------------------------

    def checkpoint(self) -> bytes:
        """All that a successor needs to go on after the last entry."""
        replay_from = self._entries[0][0] if self._entries else self._last_id
        fields = (self._last_id, replay_from, self._sent, standing_fields(self.turns.now))
        packed: bytes = msgpack.packb(fields)
        return packed

    def restore(self, checkpoint: bytes, settings: SessionSettings) -> None:
        """Go on from a predecessor's checkpoint; entries are then due from `replay_from` on."""
        self._known_until, self.replay_from, self._sent, fields = msgpack.unpackb(checkpoint)
        self._last_id = self.replay_from
        self.turns.now = Standing(*fields)
        self._configure(settings)


def _after(entry_id: str, other: str) -> bool:
    return _order(entry_id) > _order(other)


def _order(entry_id: str) -> tuple[int, int]:
    ms, _, number = entry_id.partition("-")
    return int(ms), int(number or 0)
