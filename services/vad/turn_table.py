"""The state table of turn-taking: (state, signal) -> next state and action. Pure."""

from enum import IntEnum


class State(IntEnum):
    SILENT = 0
    SPEAKING = 1
    PAUSED = 2


class Signal(IntEnum):
    """What can change the state: detected in the audio, or sent by the client."""

    ONSET = 0
    """Speech for `start_ms`."""
    PAUSE = 1
    """Silence for `pause_ms`."""
    RESUME = 2
    """Speech during a pause."""
    ENDPOINT = 3
    """Silence for `endpoint_ms`."""
    LONGEST = 4
    """The turn has reached `longest_ms`; one that the client ends has another limit, in the edge."""
    COMMIT = 5
    """The client ends the turn."""
    CLEAR = 6
    """The client discards the turn."""


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
"""(state, signal) -> (next state, action). A signal without an entry for the current state is ignored."""


def print_table() -> None:
    """Print the table in Markdown, for DESIGN.md."""
    print("| state | signal | next state | action |\n|---|---|---|---|")
    for (state, signal), (next_state, action) in TABLE.items():
        print(f"| {state.name.lower()} | {signal.name.lower()} | {next_state.name.lower()} | {action} |")
