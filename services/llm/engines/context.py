"""Truncate a conversation to the model's context window: drop the oldest turns, as whole turns. Pure."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import takewhile

from shared.protocol.session import Message

DEFAULT_CONTEXT = 8192
"""Maximum tokens of prompt and reply if the settings have none: half an hour of speech. Many models degrade later."""

MIN_PROMPT = 64
"""Tokens that the longest reply must leave for the prompt."""

TURNS_AT_ONCE = 4
"""Turns that are dropped together, so that the prompt keeps its prefix, and the KV cache its use, for several turns."""


def truncated(
    messages: Sequence[Message], limit: int, count: Callable[[Sequence[Message]], int]
) -> tuple[list[Message], int]:
    """Return the part of the conversation that fits into `limit` tokens, and how many turns were dropped.

    The instructions at the start and the last turn always stay. `count` returns the number of tokens of messages.

    Raises:
        ValueError: the instructions and the last turn alone do not fit.
    """
    if count(messages) <= limit:
        return list(messages), 0
    head = list(takewhile(lambda message: message.turn == 0 and message.role == "system", messages))
    turns = _turns(messages[len(head) :])
    last = max(0, len(turns) - 1)

    def without(dropped: int) -> list[Message]:
        return [*head, *(message for turn in turns[dropped:] for message in turn)]

    # Counting runs the tokenizer, so a binary search keeps the number of counts small.
    places = [*range(TURNS_AT_ONCE, last, TURNS_AT_ONCE), last]
    found = bisect_left(places, True, key=lambda dropped: count(without(dropped)) <= limit)
    if found == len(places):
        raise ValueError(
            f"the instructions and the last turn are {count(without(last))} tokens long; the model accepts {limit}"
        )
    return without(places[found]), places[found]


def _turns(messages: Sequence[Message]) -> list[list[Message]]:
    """Group messages by turn. A tool's result stays with the turn of its call, however late it came."""
    turns: list[list[Message]] = []
    current: int | None = None
    for message in messages:
        if turns and (message.turn == current or message.role == "tool"):
            turns[-1].append(message)
        else:
            turns.append([message])
            current = message.turn
    return turns
