"""Where turn-taking stands: all that a successor needs to go on. Pure."""

import dataclasses
from dataclasses import dataclass

from services.vad.turn_table import State


@dataclass(slots=True)
class TurnState:
    """Of one session. Positions are windows since the session began."""

    state: int = State.SILENT
    turn: int = 0
    revision: int = 0
    window: int = 0
    """Windows heard."""
    run: int = 0
    """Windows of speech in the onset, or within the pause."""
    gap: int = 0
    """Windows since the last one of speech in the onset."""
    onset: int = 0
    """First window of speech of the run or the turn."""
    last: int = 0
    """One past the last window of speech of the turn."""
    start: int = 0
    """First window of the turn, pre-roll included."""
    floor: int = 0
    """End of the turn before: no pre-roll reaches behind it."""
    speculated: int = 0
    """Pauses of the turn at which a reply was prepared."""
    endpoint: int = 0
    """Silence that ends the turn, as the engine for that judged this pause; 0: as the settings say."""
    omni: int = 0
    """1: the turn is answered as it sounds. That holds for the whole of it, whatever the settings become."""
    began_ms: int = 0
    """Broker's clock when the turn began: its audio is published after that."""
    heard: int = -1
    """The revision that was given to be answered as it sounds; -1: none."""


def state_fields(standing: TurnState) -> list[int]:
    """A standing as plain numbers, for a checkpoint; `TurnState(*numbers)` is its inverse."""
    return [int(value) for value in dataclasses.astuple(standing)]
