"""Turn-taking: speech probabilities in, facts about turns out.

A pure state machine: no clock, no I/O. It counts windows of 20 ms. `turn_table` says which signal leads to which state
and action; each action has a method here. `python -m services.vad.turn_taking` prints the table.
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
"""Speech during a pause that resumes the turn, or `start_ms` if that is less. A click is shorter."""
ONSET_GAP = 3
"""Windows without speech in a row that an onset may contain."""


class TurnTaker:
    """The turns of one session. Takes every window in order, with the id of the stream entry that contained it."""

    def __init__(
        self, session: str, settings: SessionSettings, turn: TurnState | None = None, *, transcribe: bool = False
    ) -> None:
        """`turn` is the state to continue from, of a checkpoint. `transcribe`: ask for the words at each pause."""
        self.session, self._transcribe = session, transcribe
        self._reasons: tuple[str, ...] = ()  # of the endpointing engine for this pause
        self.turn = turn or TurnState()
        self.configure(settings)

    def configure(self, settings: SessionSettings) -> None:
        """Apply new settings, also to a turn in progress."""
        self.settings = settings
        self._start = max(1, settings.start_ms // WINDOW_MS)
        self._resume = min(self._start, RESUME_MS // WINDOW_MS)
        self._pause = max(1, settings.pause_ms // WINDOW_MS)
        self._endpoint = max(self._pause, settings.endpoint_ms // WINDOW_MS)
        self._longest = settings.longest_ms // WINDOW_MS
        self._preroll = settings.preroll_ms // WINDOW_MS

    @property
    def in_turn(self) -> bool:
        return self.turn.state != State.SILENT

    @property
    def paused(self) -> bool:
        return self.turn.state == State.PAUSED

    @property
    def position(self) -> int:
        """Samples processed so far."""
        return self.turn.window * WINDOW_SAMPLES

    @property
    def turn_start(self) -> int:
        """First sample of the turn, pre-roll included."""
        return self.turn.start * WINDOW_SAMPLES

    def hear(self, probability: float, entry_id: str) -> Sequence[Frame]:
        """Process the next window, given its speech probability."""
        turn = self.turn
        turn.window += 1
        if not self.settings.detect_turns:
            return self._process_undetected(entry_id)
        voiced = probability >= self.settings.threshold
        if turn.state == State.SILENT:
            if voiced:
                return self._onset(entry_id)
            if turn.run:
                turn.gap += 1
                if turn.gap > ONSET_GAP:
                    turn.run = 0
            return ()
        if turn.state == State.SPEAKING:
            if voiced:
                turn.last = turn.window
        else:
            turn.run = turn.run + 1 if voiced else max(0, turn.run - 1)
        facts: list[Frame] = []
        while (signal := self._signal()) is not None:
            facts += self._step(signal, entry_id, self._default_options())
        return facts

    def pauses(self, number: int, revision: int) -> bool:
        """Whether this pause of this turn still lasts."""
        return self.paused and (self.turn.number, self.turn.revision) == (number, revision)

    def wait(self, number: int, revision: int, endpoint_ms: int, reasons: tuple[str, ...] = ()) -> None:
        """Set the silence that ends this turn, and why. Ignored unless the same pause of the same turn still lasts."""
        if self.pauses(number, revision):
            self.turn.endpoint = max(self._pause, endpoint_ms // WINDOW_MS)
            self._reasons = reasons

    def commit(self, entry_id: str, options: ReplyOptions) -> Sequence[Frame]:
        """End the turn at the client's request. Without a turn, answers with an empty `TurnDiscarded`."""
        facts = self._step(Signal.COMMIT, entry_id, options)
        return facts or [TurnDiscarded(self.turn.number, self.turn.revision, EMPTY)]

    def clear(self, entry_id: str, reason: str) -> Sequence[Frame]:
        """Discard the turn in progress, if any."""
        return self._step(Signal.CLEAR, entry_id, ReplyOptions(), reason)

    def ask(self, entry_id: str, text: str, options: ReplyOptions, *, unless_spoken: bool = False) -> Sequence[Frame]:
        """Begin and commit a turn that is not spoken: typed text, or a reply requested without text.

        A spoken turn in progress is committed first, without a reply. With `unless_spoken` it continues instead, and
        nothing is published.
        """
        if unless_spoken and self.in_turn:
            return ()
        facts = self._step(Signal.COMMIT, entry_id, ReplyOptions(wants_reply=False))
        turn = self.turn
        unanswered_audio = turn.omni and turn.audio_revision != turn.revision and not text and options.say is None
        spoken_turn = turn.number
        turn.number, turn.revision, turn.audio_revision = turn.number + 1, 0, 0
        at = self.position
        facts.append(TurnCommitted(turn.number, 0, at, at, at, milliseconds(entry_id), options))
        if unanswered_audio and options.wants_reply:
            facts.append(self._audio_ready(options, spoken_turn))
        else:
            facts.append(TranscriptFinal(self.session, turn.number, 0, text, options))
        return facts

    # -- signals ----------------------------------------------------------------------------------

    def _onset(self, entry_id: str) -> Sequence[Frame]:
        turn = self.turn
        if turn.run == 0:
            turn.onset = turn.window - 1
        turn.run, turn.gap = turn.run + 1, 0
        if turn.run < self._start:
            return ()
        return self._step(Signal.ONSET, entry_id, self._default_options())

    def _process_undetected(self, entry_id: str) -> Sequence[Frame]:
        """Without turn detection, every window up to the client's commit counts as speech, and only the client ends a turn."""
        turn = self.turn
        if turn.state == State.SILENT:
            turn.onset = turn.window - 1
            return self._step(Signal.ONSET, entry_id, self._default_options())
        turn.last = turn.window
        return ()

    def _signal(self) -> Signal | None:
        turn = self.turn
        if turn.state == State.SILENT:
            return None
        if turn.window - turn.start >= self._longest:
            return Signal.LONGEST
        silence = turn.window - turn.last
        if turn.state == State.SPEAKING:
            return Signal.PAUSE if silence >= self._pause else None
        if turn.run >= self._resume:
            return Signal.RESUME
        return Signal.ENDPOINT if silence >= (turn.endpoint or self._endpoint) and turn.run == 0 else None

    def _default_options(self) -> ReplyOptions:
        return ReplyOptions(wants_reply=self.settings.create_reply)

    # -- actions ----------------------------------------------------------------------------------

    def _step(self, signal: Signal, entry_id: str, options: ReplyOptions, reason: str = "") -> list[Frame]:
        """Apply the table. Returns the facts of the action; empty: the signal is ignored in this state."""
        found = TABLE.get((State(self.turn.state), signal))
        if found is None:
            return []
        self.turn.state = found[0]
        if signal != Signal.ENDPOINT:
            self._reasons = ()
        match found[1]:
            case "begin":
                return [self._begin(entry_id)]
            case "pause":
                return self._begin_pause()
            case "resume":
                return [self._resume_turn()]
            case "commit":
                return self._commit_turn(entry_id, options)
            case _:
                return [self._discard(reason)]

    def _begin(self, entry_id: str) -> Frame:
        turn, settings = self.turn, self.settings
        turn.number, turn.revision = turn.number + 1, 0
        turn.start = max(turn.floor, turn.onset - self._preroll, 0)
        turn.last, turn.run, turn.gap, turn.speculated = turn.window, 0, 0, 0
        turn.omni, turn.began_ms, turn.audio_revision = int(settings.route == OMNI), milliseconds(entry_id), -1
        return SpeechStarted(
            self.session,
            turn.number,
            0,
            self.turn_start,
            turn.onset * WINDOW_SAMPLES,
            _cursor_before(turn.began_ms),
            settings.language,
            settings.interrupt_reply and settings.detect_turns,
            settings.hints,
            settings.route,
        )

    def _begin_pause(self) -> list[Frame]:
        turn, settings = self.turn, self.settings
        turn.run, turn.endpoint = 0, 0
        short = (turn.last - turn.start) * WINDOW_MS <= settings.speculate_longest_ms
        speculate = settings.create_reply and short and turn.speculated < settings.speculations
        turn.speculated += speculate
        transcribe = self._transcribe and settings.adapt_endpoint
        pause = SpeechPaused(turn.number, turn.revision, turn.last * WINDOW_SAMPLES, speculate, transcribe)
        return [pause, *(self._publish_audio(self._default_options()) if speculate else ())]

    def _publish_audio(self, options: ReplyOptions) -> list[Frame]:
        """On the omni route, publish this revision's audio to be answered.

        Once for each revision: between a pause and the commit there is no speech, so the audio is the same.
        """
        turn = self.turn
        if not turn.omni or turn.audio_revision == turn.revision:
            return []
        turn.audio_revision = turn.revision
        return [self._audio_ready(options)]

    def _audio_ready(self, options: ReplyOptions, spoken_turn: int = 0) -> Frame:
        """Say where the latest spoken turn's audio is; `spoken_turn`: its number, if the reply is another turn's."""
        turn = self.turn
        cursor, end = _cursor_before(turn.began_ms), turn.last * WINDOW_SAMPLES
        return TurnAudioReady(
            self.session, turn.number, turn.revision, cursor, self.turn_start, end, options, spoken_turn
        )

    def _resume_turn(self) -> Frame:
        turn = self.turn
        onset = turn.window - turn.run
        turn.revision += 1
        turn.last, turn.run = turn.window, 0
        return SpeechResumed(turn.number, turn.revision, onset * WINDOW_SAMPLES)

    def _commit_turn(self, entry_id: str, options: ReplyOptions) -> list[Frame]:
        turn = self.turn
        turn.floor, turn.run, turn.gap = turn.last, 0, 0
        end = turn.last * WINDOW_SAMPLES
        clock_ms = milliseconds(entry_id)
        committed = TurnCommitted(
            turn.number, turn.revision, self.turn_start, end, self.position, clock_ms, options, self._reasons
        )
        return [committed, *(self._publish_audio(options) if options.wants_reply else ())]

    def _discard(self, reason: str) -> Frame:
        turn = self.turn
        turn.floor, turn.run, turn.gap = turn.window, 0, 0
        turn.audio_revision = turn.revision  # so that a reply requested later does not answer it
        return TurnDiscarded(turn.number, turn.revision, reason)


def _cursor_before(clock_ms: int) -> str:
    """Return an entry id older than every entry published from now on.

    An entry written within the same millisecond may get the same id, so the cursor lies one millisecond earlier.
    """
    return f"{clock_ms - 1}-{2**64 - 1}"


if __name__ == "__main__":
    print_table()
