"""The table of turn-taking: in which state what follows from which signal. Pure."""

from enum import IntEnum


class State(IntEnum):
    SILENT = 0
    SPEAKING = 1
    PAUSED = 2


class Signal(IntEnum):
    """What a window, or the client, amounts to."""

    ONSET = 0
    """Speech for `start_ms`."""
    PAUSE = 1
    """Silence for `pause_ms`."""
    RESUME = 2
    """Speech within a pause."""
    ENDPOINT = 3
    """Silence for `endpoint_ms`."""
    LONGEST = 4
    """The turn has lasted for `longest_ms`."""
    COMMIT = 5
    """The client says that the turn is over."""
    CLEAR = 6
    """The client takes the turn back."""


TABLE: dict[tuple[State, Signal], tuple[State, str]] = {
    (State.SILENT, Signal.ONSET): (State.SPEAKING, "begin"),
    (State.SPEAKING, Signal.PAUSE): (State.PAUSED, "pause"),
    (State.PAUSED, Signal.RESUME): (State.SPEAKING, "resume"),
    (State.PAUSED, Signal.ENDPOINT): (State.SILENT, "commit"),
    (State.SPEAKING, Signal.LONGEST): (State.SILENT, "commit"),
    (State.PAUSED, Signal.LONGEST): (State.SILENT, "commit"),
    (State.SPEAKING, Signal.COMMIT): (State.SILENT, "commit"),
    (State.PAUSED, Signal.COMMIT): (State.SILENT, "commit"),
    (State.SPEAKING, Signal.CLEAR): (State.SILENT, "discard"),
    (State.PAUSED, Signal.CLEAR): (State.SILENT, "discard"),
}
"""(state, signal) -> (next state, what is said). A pair that is not here changes nothing."""


def print_table() -> None:
    """The machine as a table, for the documentation."""
    print("| state | signal | next state | what is said |\n|---|---|---|---|")
    for (state, signal), (following, said) in TABLE.items():
        print(f"| {state.name.lower()} | {signal.name.lower()} | {following.name.lower()} | {said} |")
