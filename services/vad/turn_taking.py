"""Turn-taking: speech probability in, facts about turns out.

A pure state machine: no clock, no I/O; it counts windows of 20 ms. Its table, in `turn_table`, is the whole of it; the
functions named in it make the facts. `python -m services.vad.turn_taking` prints it.
"""

from collections.abc import Sequence

from services.vad.engine import WINDOW_MS, WINDOW_SAMPLES
from services.vad.turn_state import TurnState
from services.vad.turn_table import TABLE, Signal, State, print_table
from shared.protocol.entry_id import milliseconds
from shared.protocol.frames import (
    EMPTY,
    Frame,
    SpeechPaused,
    SpeechResumed,
    SpeechStarted,
    TranscriptFinal,
    TurnAudioReady,
    TurnCommitted,
    TurnDiscarded,
)
from shared.protocol.session import OMNI, ReplyOptions, SessionSettings

RESUME_MS = 60
"""Speech needed within a pause before the turn goes on: a click is none. Never more than the start takes."""
ONSET_GAP = 3
"""Windows without speech that an onset may have inside."""


class TurnTaker:
    """One session's turns. Feed it every window in order; entry ids are the broker's, of the entry the window came in."""

    def __init__(self, session: str, settings: SessionSettings, standing: TurnState | None = None) -> None:
        self.session = session
        self.now = standing or TurnState()
        self.configure(settings)

    def configure(self, settings: SessionSettings) -> None:
        """Go on with other settings; a turn that is being spoken goes on under them."""
        self.settings = settings
        self._start = max(1, settings.start_ms // WINDOW_MS)
        self._resume = min(self._start, RESUME_MS // WINDOW_MS)
        self._pause = max(1, settings.pause_ms // WINDOW_MS)
        self._endpoint = max(self._pause, settings.endpoint_ms // WINDOW_MS)
        self._longest = settings.longest_ms // WINDOW_MS
        self._preroll = settings.preroll_ms // WINDOW_MS

    @property
    def in_turn(self) -> bool:
        """Someone has begun to speak and the turn is not over."""
        return self.now.state != State.SILENT

    @property
    def paused(self) -> bool:
        return self.now.state == State.PAUSED

    @property
    def position(self) -> int:
        """Samples heard."""
        return self.now.window * WINDOW_SAMPLES

    @property
    def turn_start(self) -> int:
        """First sample of the turn, pre-roll included."""
        return self.now.start * WINDOW_SAMPLES

    def hear(self, probability: float, entry_id: str) -> Sequence[Frame]:
        """The next window."""
        now = self.now
        now.window += 1
        if not self.settings.detect_turns:
            return self._hear_manual(entry_id)
        voiced = probability >= self.settings.threshold
        if now.state == State.SILENT:
            if not voiced:
                if now.run:
                    now.gap += 1
                    if now.gap > ONSET_GAP:
                        now.run = 0
                return ()
            return self._onset(entry_id)
        if now.state == State.SPEAKING:
            if voiced:
                now.last = now.window
        else:
            now.run = now.run + 1 if voiced else max(0, now.run - 1)
        facts: list[Frame] = []
        while (signal := self._signal()) is not None:
            facts += self._step(signal, entry_id, self._options())
        return facts

    def wait(self, turn: int, revision: int, endpoint_ms: int) -> None:
        """So much silence ends the turn, if it is still the same pause."""
        now = self.now
        if now.state == State.PAUSED and (now.turn, now.revision) == (turn, revision):
            now.endpoint = max(self._pause, endpoint_ms // WINDOW_MS)

    def commit(self, entry_id: str, options: ReplyOptions) -> Sequence[Frame]:
        """The client says that the turn is over. It is always answered: where there was none, it is discarded as empty."""
        return self._step(Signal.COMMIT, entry_id, options) or [TurnDiscarded(self.now.turn, self.now.revision, EMPTY)]

    def clear(self, entry_id: str, reason: str) -> Sequence[Frame]:
        """What is being spoken is no turn."""
        return self._step(Signal.CLEAR, entry_id, ReplyOptions(), reason)

    def ask(self, entry_id: str, text: str, options: ReplyOptions, *, unless_spoken: bool = False) -> Sequence[Frame]:
        """A turn that is not spoken. What is being spoken ends as a turn of its own, without a reply; or
        (`unless_spoken`) goes on, and there is no other."""
        if unless_spoken and self.in_turn:
            return ()
        facts = self._step(Signal.COMMIT, entry_id, ReplyOptions(wants_reply=False))
        now = self.now
        sounds = now.omni and now.heard != now.revision and not text and options.say is None
        spoken = now.turn
        now.turn, now.revision, now.heard = now.turn + 1, 0, 0
        at = self.position
        facts.append(TurnCommitted(now.turn, 0, at, at, at, milliseconds(entry_id), options))
        if sounds and options.wants_reply:
            facts.append(self._sound(options, spoken))
        else:
            facts.append(TranscriptFinal(self.session, now.turn, 0, text, options))
        return facts

    # -- signals ----------------------------------------------------------------------------------

    def _onset(self, entry_id: str) -> Sequence[Frame]:
        now = self.now
        if now.run == 0:
            now.onset = now.window - 1
        now.run, now.gap = now.run + 1, 0
        if now.run < self._start:
            return ()
        return self._step(Signal.ONSET, entry_id, self._options())

    def _hear_manual(self, entry_id: str) -> Sequence[Frame]:
        """Without detection everything is speech, from the first window to the client's commit."""
        now = self.now
        if now.state == State.SILENT:
            now.onset = now.window - 1
            return self._step(Signal.ONSET, entry_id, self._options())
        now.last = now.window
        if now.window - now.start >= self._longest:
            return self._step(Signal.LONGEST, entry_id, ReplyOptions(wants_reply=False))
        return ()

    def _signal(self) -> Signal | None:
        now = self.now
        if now.state == State.SILENT:
            return None
        if now.window - now.start >= self._longest:
            return Signal.LONGEST
        silence = now.window - now.last
        if now.state == State.SPEAKING:
            return Signal.PAUSE if silence >= self._pause else None
        if now.run >= self._resume:
            return Signal.RESUME
        return Signal.ENDPOINT if silence >= (now.endpoint or self._endpoint) and now.run == 0 else None

    def _options(self) -> ReplyOptions:
        return ReplyOptions(wants_reply=self.settings.create_reply)

    # -- the table at work ------------------------------------------------------------------------

    def _step(self, signal: Signal, entry_id: str, options: ReplyOptions, reason: str = "") -> list[Frame]:
        found = TABLE.get((State(self.now.state), signal))
        if found is None:
            return []
        self.now.state = found[0]
        match found[1]:
            case "begin":
                return [self._begin(entry_id)]
            case "pause":
                return self._paused()
            case "resume":
                return [self._resumed()]
            case "commit":
                return self._committed(entry_id, options)
            case _:
                return [self._discarded(reason)]

    def _begin(self, entry_id: str) -> Frame:
        now, settings = self.now, self.settings
        now.turn, now.revision = now.turn + 1, 0
        now.start = max(now.floor, now.onset - self._preroll, 0)
        now.last, now.run, now.gap, now.speculated = now.window, 0, 0, 0
        now.omni, now.began_ms, now.heard = int(settings.route == OMNI), milliseconds(entry_id), -1
        return SpeechStarted(
            self.session,
            now.turn,
            0,
            self.turn_start,
            now.onset * WINDOW_SAMPLES,
            _before(now.began_ms),
            settings.language,
            settings.interrupt_reply and settings.detect_turns,
            settings.hints,
            settings.route,
        )

    def _paused(self) -> list[Frame]:
        now, settings = self.now, self.settings
        now.run, now.endpoint = 0, 0
        short = (now.last - now.start) * WINDOW_MS <= settings.speculate_longest_ms
        speculate = settings.create_reply and short and now.speculated < settings.speculations
        now.speculated += speculate
        pause = SpeechPaused(now.turn, now.revision, now.last * WINDOW_SAMPLES, speculate)
        return [pause, *(self._heard(self._options()) if speculate else ())]

    def _heard(self, options: ReplyOptions) -> list[Frame]:
        """This revision, to be answered as it sounds; once, as no speech comes between a pause and the commit."""
        now = self.now
        if not now.omni or now.heard == now.revision:
            return []
        now.heard = now.revision
        return [self._sound(options)]

    def _sound(self, options: ReplyOptions, spoken: int = 0) -> Frame:
        """Where the latest turn that was spoken sounds."""
        now = self.now
        cursor, end = _before(now.began_ms), now.last * WINDOW_SAMPLES
        return TurnAudioReady(self.session, now.turn, now.revision, cursor, self.turn_start, end, options, spoken)

    def _resumed(self) -> Frame:
        now = self.now
        onset = now.window - now.run
        now.revision += 1
        now.last, now.run = now.window, 0
        return SpeechResumed(now.turn, now.revision, onset * WINDOW_SAMPLES)

    def _committed(self, entry_id: str, options: ReplyOptions) -> list[Frame]:
        now = self.now
        now.floor, now.run, now.gap = now.last, 0, 0
        end = now.last * WINDOW_SAMPLES
        clock_ms = milliseconds(entry_id)
        over = TurnCommitted(now.turn, now.revision, self.turn_start, end, self.position, clock_ms, options)
        return [over, *(self._heard(options) if options.wants_reply else ())]

    def _discarded(self, reason: str) -> Frame:
        now = self.now
        now.floor, now.run, now.gap = now.window, 0, 0
        now.heard = now.revision  # and nobody answers it later
        return TurnDiscarded(now.turn, now.revision, reason)


def _before(clock_ms: int) -> str:
    """An id older than all that is published from then on: what comes within the same millisecond may get the same id."""
    return f"{clock_ms - 1}-{2**64 - 1}"


if __name__ == "__main__":
    print_table()
