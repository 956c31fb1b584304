"""The person's turn: its states, and what is known of it. Pure."""

from dataclasses import dataclass, field
from enum import Enum

from services.edge.conversation.report import TurnReport
from shared.protocol.frames import TranscriptFinal, TurnAudioReady, TurnCommitted


class TurnState(Enum):
    SPEAKING = "speaking"
    PAUSED = "paused"
    """Silence: the turn may be over, and a reply is prepared."""
    AWAITING_TRANSCRIPT = "awaiting transcript"
    """The turn is over. It was spoken into a reply, and its words decide whether it was meant."""
    ACCEPTED = "accepted"
    """It is a turn. Its reply is due or playing."""
    DISCARDED = "discarded"
    """It was a cough, an echo or a listening noise, or it was taken back."""
    ANSWERED = "answered"
    """Its reply has ended, or no reply is wanted."""


class TurnSignal(Enum):
    PAUSE = "pause"
    RESUME = "resume"
    COMMIT = "commit"
    ACCEPT = "accept"
    DISCARD = "discard"
    ANSWER = "answer"


TABLE: dict[tuple[TurnState, TurnSignal], TurnState] = {
    (TurnState.SPEAKING, TurnSignal.PAUSE): TurnState.PAUSED,
    (TurnState.PAUSED, TurnSignal.RESUME): TurnState.SPEAKING,
    (TurnState.SPEAKING, TurnSignal.COMMIT): TurnState.AWAITING_TRANSCRIPT,
    (TurnState.PAUSED, TurnSignal.COMMIT): TurnState.AWAITING_TRANSCRIPT,
    (TurnState.AWAITING_TRANSCRIPT, TurnSignal.ACCEPT): TurnState.ACCEPTED,
    (TurnState.SPEAKING, TurnSignal.DISCARD): TurnState.DISCARDED,
    (TurnState.PAUSED, TurnSignal.DISCARD): TurnState.DISCARDED,
    (TurnState.AWAITING_TRANSCRIPT, TurnSignal.DISCARD): TurnState.DISCARDED,
    (TurnState.AWAITING_TRANSCRIPT, TurnSignal.ANSWER): TurnState.ANSWERED,
    (TurnState.ACCEPTED, TurnSignal.ANSWER): TurnState.ANSWERED,
}
"""(state, signal) -> next state. A pair that is not here is refused, and changes nothing."""


@dataclass(slots=True)
class UserTurn:
    """One turn of the person, from the first sound until it is answered and its words are known."""

    number: int
    state: TurnState = TurnState.SPEAKING
    revision: int = 0
    spoken: bool = True
    """False: it was typed, or a reply was requested."""
    omni: bool = False
    """It is answered as it sounds; the transcript is for the record, and to tell words from noise."""
    began_s: float = 0.0
    """When its first sound was reported."""
    onset: int = 0
    """First sample of the speech that goes on now."""
    committed: TurnCommitted | None = None
    transcript: TranscriptFinal | None = None
    """The transcript of this revision."""
    words_lost: bool = False
    """The recogniser gave up: there will be no transcript of this revision."""
    failure: str = ""
    """The reason, as long as the client does not know it."""
    sound: TurnAudioReady | None = None
    """Where the audio of this revision is, once it was given to the chat model."""
    speculated: bool = False
    """Its transcript, or sound, was handed on before the commit: the reply was begun early."""
    progress_s: float = 0.0
    """When it was over, its transcript arrived, or its reply was asked for again."""
    report: TurnReport = field(default_factory=TurnReport)

    # -- speech into a reply --
    over_reply: bool = False
    """A reply was due or playing when the speech began: it is a turn only if its words take the floor."""
    interrupts: bool = False
    """It may pause the reply."""
    silence_due: bool = False
    """It pauses the reply when the timer `SILENCE` fires, if the speech lasts that long."""
    echo: bool = False
    """It began so soon after the reply that it may be the reply's echo."""
    answers_reply: bool = False
    """The reply was nearly over when it was paused: any words answer it."""
    presumed_words: bool = False
    """Its transcript is not waited for: it is taken for words."""

    def change(self, signal: TurnSignal) -> bool:
        """Go to the next state. Returns False, and changes nothing, if the table has no such transition."""
        following = TABLE.get((self.state, signal))
        if following is None:
            return False
        self.state = following
        return True

    def begin_revision(self, revision: int) -> None:
        """The person speaks on: what was understood so far is not the whole turn."""
        self.revision, self.transcript, self.sound = revision, None, None
        self.words_lost, self.failure = False, ""
        self.report.forget("paused", "sounded", "transcript")

    @property
    def is_over(self) -> bool:
        return self.committed is not None

    @property
    def is_accepted(self) -> bool:
        return self.state in (TurnState.ACCEPTED, TurnState.ANSWERED)

    @property
    def wants_reply(self) -> bool:
        return self.committed is not None and self.committed.options.wants_reply

    @property
    def awaits_words(self) -> bool:
        """Whether its transcript may still come."""
        return self.transcript is None and not self.words_lost

    @property
    def is_open(self) -> bool:
        """The person speaks, or what they said is still being understood. A turn that is answered as it sounds needs no
        transcript."""
        if not self.is_accepted:
            return True
        return self.spoken and self.awaits_words and not (self.omni and self.wants_reply)

    @property
    def text(self) -> str:
        return self.transcript.text if self.transcript is not None else ""
