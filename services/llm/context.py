"""Keep a conversation within the model's window: the oldest turns are left out, whole turns at a time. Pure."""

from collections.abc import Callable, Sequence
from itertools import groupby

from shared.session import Message

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
    head = [message for message in messages if message.turn == 0 and message.role == "system"]
    turns = [list(turn) for _, turn in groupby(messages[len(head) :], key=lambda message: message.turn)]
    out = 0
    while out < len(turns) - 1:
        out = min(out + TURNS_AT_ONCE, len(turns) - 1)
        kept = [*head, *(message for turn in turns[out:] for message in turn)]
        if count(kept) <= limit:
            return kept, out
    raise ValueError(
        f"the instructions and the last turn are {count([*head, *(turns[-1] if turns else ())])} tokens, "
        f"and the model takes {limit}"
    )
