"""Tells an endpointing engine's speaker about the pauses in a session, from the facts of turn-taking."""

from services.vad.endpointing.engine import Pause, Speaker, Words
from shared.protocol.frames import Frame, PauseTranscribed, SpeechPaused, SpeechResumed, SpeechStarted, TurnCommitted
from shared.protocol.session import RATE_HZ

WENT_ON_MS = 1_000
"""Speech within this time after a turn ended shows that the turn was cut off."""


def transcribed(fact: PauseTranscribed) -> Pause:
    """Return the pause with its words, for an endpointing engine."""
    return Pause(fact.turn, fact.revision, words=Words(fact.text, fact.language, fact.confidence))


class Pauses:
    """The latest pause of one session."""

    def __init__(self, speaker: Speaker) -> None:
        self._speaker = speaker
        self._silent_since = 0  # sample at which the latest pause began, or the latest turn ended

    def observe(self, fact: Frame) -> None:
        match fact:
            case SpeechStarted(onset=onset) if self._silent_since:
                pause_ms = (onset - self._silent_since) * 1000 // RATE_HZ
                if pause_ms <= WENT_ON_MS:
                    self._speaker.resumed(pause_ms)
            case SpeechPaused():
                self._silent_since = fact.end
            case SpeechResumed(onset=onset):
                self._speaker.resumed((onset - self._silent_since) * 1000 // RATE_HZ)
            case TurnCommitted(end=end, decided_at=decided_at):
                self._silent_since = end
                self._speaker.committed((decided_at - end) * 1000 // RATE_HZ)
            case _:
                pass
