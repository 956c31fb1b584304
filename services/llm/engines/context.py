"""Keep a conversation within the model's window: the oldest turns are left out, whole turns at a time. Pure."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import takewhile

from shared.protocol.session import Message

TURNS_AT_ONCE = 4
"""So many are left out together: the turns after them stay the same beginning, which a model need not read again."""


def within(
    messages: Sequence[Message], limit: int, count: Callable[[Sequence[Message]], int]
) -> tuple[list[Message], int]:
    """The conversation, or what of it fits into `limit` tokens by `count`; and how many turns were left out.

    The instructions in front and the last turn always stay.

    Raises:
        ValueError: they alone do not fit.
    """
    if count(messages) <= limit:
        return list(messages), 0
    head = list(takewhile(lambda message: message.turn == 0 and message.role == "system", messages))
    turns = _turns(messages[len(head) :])
    last = max(0, len(turns) - 1)

    def kept(out: int) -> list[Message]:
        return [*head, *(message for turn in turns[out:] for message in turn)]

    # Counting is the tokenizer's work: it is done for few of the places where an hour of talk could be cut.
    places = [*range(TURNS_AT_ONCE, last, TURNS_AT_ONCE), last]
    found = bisect_left(places, True, key=lambda out: count(kept(out)) <= limit)
    if found == len(places):
        raise ValueError(
            f"the instructions and the last turn are {count(kept(last))} tokens, and the model takes {limit}"
        )
    return kept(places[found]), places[found]


def _turns(messages: Sequence[Message]) -> list[list[Message]]:
    """The messages by their turns; the answer to a call stays with it, whenever it came."""
    turns: list[list[Message]] = []
    current: int | None = None
    for message in messages:
        if turns and (message.turn == current or message.role == "tool"):
            turns[-1].append(message)
        else:
            turns.append([message])
            current = message.turn
    return turns
