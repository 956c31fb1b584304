"""What is known of a turn that is being spoken: from the first sound until it is settled whether it is a turn. Pure."""

from dataclasses import dataclass

from shared.protocol.frames import StageFailed, TranscriptFinal, TurnAudioReady, TurnCommitted


@dataclass(slots=True)
class Utterance:
    """One turn that someone speaks."""

    turn: int
    over_reply: bool
    """A reply was due or playing when it began: it counts only if its words take the floor."""
    onset: int = 0
    """First sample of the speech that goes on now."""
    paused_ms: int = 0
    """Broker's clock at the pause at which the reply was begun; 0: it was not."""
    interrupts: bool = False
    """It may silence a reply."""
    answers: bool = False
    """The reply was nearly over when it fell silent: whatever was said answers it."""
    echo: bool = False
    """It began so soon after the reply that it may be its echo."""
    omni: bool = False
    """It is answered as it sounds; the transcript is for the record, and to know words from noise."""
    sound: TurnAudioReady | None = None
    """Where this revision's sound is, once it was given to be answered."""
    sounded_ms: int = 0
    """Broker's clock when it was."""
    wordless: bool = False
    """No transcript is waited for any longer: it counts as words."""
    revision: int = 0
    transcript: TranscriptFinal | None = None
    """Of this revision, once there is one."""
    transcript_ms: int = 0
    """Broker's clock when it came."""
    committed: TurnCommitted | None = None
    committed_ms: int = 0
    speculated: bool = False
    """What it is made from was there before the commit: the reply was begun early."""
    failure: StageFailed | None = None
    """Why there will be no transcript of this revision."""
    accepted: bool = False
    """It is a turn; what is still missing is its transcript."""

    def resume(self, revision: int) -> None:
        """Speech again: what was understood is not all."""
        self.revision, self.transcript, self.sound, self.failure = revision, None, None, None
        self.paused_ms = self.sounded_ms = 0

    def prepared(self) -> dict[str, int]:
        """Broker's clock when its reply was begun, by name of the mark."""
        return {name: at_ms for name, at_ms in (("paused", self.paused_ms), ("sounded", self.sounded_ms)) if at_ms}

    def sounded(self, sound: TurnAudioReady, at_ms: int) -> None:
        """A reply to this revision is being made from its sound."""
        if sound.revision == self.revision:
            self.sound, self.sounded_ms = sound, at_ms

    @property
    def lingers(self) -> bool:
        """It is a turn, and being answered: its transcript is awaited for the record alone."""
        return self.omni and self.accepted and self.committed is not None and self.committed.options.wants_reply

    def understood(self, transcript: TranscriptFinal, at_ms: int) -> bool:
        """What was said in this revision. Returns whether that is news: another revision's, or a second one, is none."""
        if transcript.revision != self.revision or self.transcript is not None:
            return False
        self.transcript, self.transcript_ms, self.failure = transcript, at_ms, None
        return True
