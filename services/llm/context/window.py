"""Keep a conversation within the window of a chat model. Pure.

Every engine that has a window uses `fit`, with its own count of tokens:

1. Instructions, tools, examples and the last turn are always in the prompt. A tool call and its result are in one turn.
2. The result of a tool that takes more than half of the window loses its middle.
3. Whole turns are left out, the oldest first, and several at a time (see `_turns_to_drop`).
4. If the last turn still does not fit, the results of its tools lose more. What the person said is never cut.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain, takewhile

from services.llm.engine import NOTHING_LEFT_OUT, PromptTooLong, Shortening
from shared.protocol.prompt import EXAMPLE_TURN
from shared.protocol.session import Message

DEFAULT_CONTEXT = 8192
"""Maximum tokens of prompt and reply if the settings have none: half an hour of speech. Many models degrade later."""

MIN_PROMPT = 64
"""Tokens that the longest reply must leave for the prompt."""

KEPT = 0.5
"""Share of the window that stays filled when turns are left out."""
SHORTEST_RESULT = 100
"""Bytes to which the result of a tool may be cut."""
MESSAGE_BYTES = 16
"""What a chat template adds to each message, about."""

Count = Callable[[Sequence[Message]], int]
"""Returns the tokens of a prompt with these messages."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """The part of a conversation that fits into the window."""

    messages: list[Message]
    tokens: int
    """By the engine's count."""
    left_out: Shortening = NOTHING_LEFT_OUT


def fit(messages: Sequence[Message], limit: int, count: Count) -> Fitted:
    """Return the part of the conversation that takes at most `limit` tokens.

    The last call of `count` is for the messages that are returned.

    Raises:
        PromptTooLong: the last turn does not fit beside what is in every prompt.
    """
    kept, tokens = list(messages), count(messages)
    if tokens <= limit:
        return Fitted(kept, tokens)
    rate = tokens / size(messages)
    pinned, turns = split(messages)
    dropped, longest = 0, int(limit / 2 / rate)

    def measure() -> tuple[list[Message], int]:
        part = with_results_cut([*pinned, *chain.from_iterable(turns[dropped:])], longest)
        return part, count(part)

    kept, tokens = measure()
    while tokens > limit and dropped < len(turns) - 1:
        rate = max(rate, tokens / size(kept))
        dropped = max(_turns_to_drop(pinned, turns, limit / rate), dropped + 1)
        kept, tokens = measure()
    while tokens > limit and longest > SHORTEST_RESULT and any(message.role == "tool" for message in kept):
        longest = max(SHORTEST_RESULT, longest // 2)
        kept, tokens = measure()
    if tokens > limit:
        raise PromptTooLong(
            f"the instructions, the tools and the last turn are {tokens} tokens long; the model accepts {limit}"
        )
    whole = [*pinned, *chain.from_iterable(turns[dropped:])]
    cut = sum(len(one.text) for one in whole) - sum(len(one.text) for one in kept)
    return Fitted(kept, tokens, Shortening(dropped, cut))


def split(messages: Sequence[Message]) -> tuple[list[Message], list[list[Message]]]:
    """Return what is in every prompt, and the turns.

    The result of a tool is in the turn of its call, however late it came. Items of a client may all have one number: then a
    turn begins where the person speaks again.
    """
    pinned = list(takewhile(lambda one: one.turn == EXAMPLE_TURN or (one.role == "system" and one.turn == 0), messages))
    turns: list[list[Message]] = []
    for message in messages[len(pinned) :]:
        again = message.role == "user" and bool(turns) and turns[-1][-1].role in ("assistant", "tool")
        if turns and not again and (message.turn == turns[-1][0].turn or message.role == "tool"):
            turns[-1].append(message)
        else:
            turns.append([message])
    return pinned, turns


def size(messages: Sequence[Message]) -> int:
    """Bytes of the messages: roughly proportional to their tokens, in every script."""
    texts = (text for one in messages for text in (one.text, *_parts(one)))
    return MESSAGE_BYTES * max(1, len(messages)) + sum(len(text.encode(errors="replace")) for text in texts)


def _parts(message: Message) -> list[str]:
    return [part for call in message.calls for part in (call.name, call.arguments)]


def _turns_to_drop(pinned: Sequence[Message], turns: Sequence[Sequence[Message]], room: float) -> int:
    """Return how many turns to leave out, so that the rest takes at most `room` bytes.

    Each change of the first turn makes the model read the whole prompt again, because its cache helps only from the
    beginning on. So more turns are left out than needed, at most until the window is half full, and of the turns that can
    then be the first it is the one whose number has the largest power of two as a factor. That choice stays the same while
    the conversation grows, and follows from the conversation alone: every worker makes the same prompt.
    """
    # Of each place: what is left if the turns before it are left out.
    sizes = list(accumulate((size(turn) for turn in reversed(turns)), initial=size(pinned)))[:0:-1]
    fitting = [place for place, taken in enumerate(sizes) if taken <= room] or [len(turns) - 1]
    candidates = [place for place in fitting if sizes[place] >= KEPT * room] or fitting[:1]
    return max(candidates, key=lambda place: (_power_of_two(turns[place][0].turn), -place))


def _power_of_two(number: int) -> int:
    """The largest power of two that is a factor of the number; 0 of 0."""
    return number & -number


def with_results_cut(messages: Sequence[Message], longest: int) -> list[Message]:
    """Cut the middle out of the results of tools that are longer than this many bytes."""
    return [_cut(message, longest) if message.role == "tool" else message for message in messages]


def _cut(message: Message, longest: int) -> Message:
    length = len(message.text.encode(errors="replace"))
    if length <= max(longest, SHORTEST_RESULT):
        return message
    characters = max(1, longest * len(message.text) // length)
    end = characters // 3
    left_out = len(message.text) - characters
    text = f"{message.text[: characters - end]} [… {left_out} characters left out …] {message.text[len(message.text) - end :]}"
    return message if len(text) >= len(message.text) else replace(message, text=text)
