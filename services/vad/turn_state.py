"""The state of turn-taking in one session: all that another worker needs to take over. Pure."""

import dataclasses
from dataclasses import dataclass

from services.vad.turn_table import State


@dataclass(slots=True)
class TurnState:
    """The latest turn, and the speech that may begin or resume one. Positions are windows since the session began.

    A checkpoint stores the values in the order of the fields: add new fields at the end, with defaults.
    """

    state: int = State.SILENT
    number: int = 0
    """Number of the turn; 0: there has been no turn."""
    revision: int = 0
    window: int = 0
    """Windows processed so far."""
    run: int = 0
    """Windows of speech counted in the onset, or during the pause."""
    gap: int = 0
    """Windows since the last speech window of the onset."""
    onset: int = 0
    """First window of speech of the onset, or of the turn."""
    last: int = 0
    """One past the last window of speech of the turn."""
    start: int = 0
    """First window of the turn, pre-roll included."""
    floor: int = 0
    """End of the previous turn: the pre-roll does not reach behind it."""
    speculated: int = 0
    """Pauses of this turn at which a reply was prepared."""
    endpoint: int = 0
    """Windows of silence that end the turn, from the endpointing engine for this pause; 0: from the settings."""
    omni: int = 0
    """1: the turn is answered from its audio. Fixed when the turn begins, even if the settings change."""
    began_ms: int = 0
    """The broker's clock when the turn began. All audio of the turn was published after that."""
    audio_revision: int = -1
    """The latest revision whose audio was published to be answered (`TurnAudioReady`); -1: no revision of this turn."""


def state_fields(turn: TurnState) -> list[int]:
    """Return the state as plain numbers, for a checkpoint; `TurnState(*numbers)` is the inverse."""
    return [int(value) for value in dataclasses.astuple(turn)]
