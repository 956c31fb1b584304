"""What the two state tables of a conversation have in common. Pure."""

from collections.abc import Mapping
from enum import Enum
from typing import TypeVar

StateT = TypeVar("StateT", bound=Enum)
SignalT = TypeVar("SignalT", bound=Enum)


def as_markdown(table: Mapping[tuple[StateT, SignalT], StateT]) -> str:
    rows = [f"| {state.value} | {signal.value} | {following.value} |" for (state, signal), following in table.items()]
    return "\n".join(["| state | signal | next state |", "|---|---|---|", *rows])
