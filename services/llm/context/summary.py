"""Which turns of a long conversation are to be summarised, and how the summary stands in the prompt. Pure.

A summary stands in the prompt in place of the turns that it covers. It is made after a reply, before the conversation
reaches the end of the window, so that no turn is left out meanwhile.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from zlib import crc32

from services.llm.context.window import size, split
from services.llm.engine import Usage
from shared.protocol.frames import Summary
from shared.protocol.prompt import EXAMPLE_TURN
from shared.protocol.session import Message

FULL = 0.75
"""Share of the window from which on the beginning of the conversation is summarised."""
STAYS = 0.4
"""Share of the window that the newest turns take afterwards, word for word."""
READ = 0.6
"""Largest share of the window that is summarised at once."""
WORDS = 120
"""Length of a summary that the model is asked for."""
LONGEST = 1500
"""Characters of a summary; the rest is dropped."""

_ABOUT = "Summary of what was said before: "
_ASK = (
    "You take notes for an assistant that goes on with this conversation and cannot see its beginning. Write what matters "
    "later: names, facts, wishes, decisions, open questions. Use the language of the conversation, at most {words} words, "
    "plain sentences, and nothing else."
)
_NAMES = {"user": "Person", "assistant": "Assistant", "tool": "Result of a tool", "system": "Note"}


@dataclass(frozen=True, slots=True)
class Due:
    """The turns to summarise next, by their numbers, both ends included."""

    first: int
    through: int


def due(messages: Sequence[Message], usage: Usage) -> Due | None:
    """Return what is to be summarised after a reply; None: there is room enough, or the window is not known.

    Args:
        messages: The conversation as it was given to the model, with the summary so far.
        usage: What the model has counted of it.
    """
    pinned, turns = split(messages)
    asked = [*pinned, *(one for turn in turns[usage.left_out.turns :] for one in turn)]
    if not usage.window or not usage.prompt:
        return None
    if usage.prompt < FULL * usage.window and not usage.left_out.turns:
        return None
    room = usage.window * size(asked) / usage.prompt
    from_end = list(accumulate((size(turn) for turn in reversed(turns)), initial=0))[::-1]
    # The last turn stays in any case. Numbers of turns that a client gave to several of its items are not torn apart.
    through = next((at for at in range(len(turns)) if from_end[at] <= STAYS * room), len(turns))
    covered = turns[: min(through, len(turns) - 1)]
    while covered and covered[-1][0].turn == turns[len(covered)][0].turn:
        covered.pop()
    while covered and sum(map(size, covered)) > READ * room:
        covered.pop(0)
    return Due(covered[0][0].turn, covered[-1][0].turn) if covered else None


def ask_for_summary(messages: Sequence[Message], what: Due) -> list[Message]:
    """Return the conversation with which a model is asked for the summary. `messages`: with the summary so far."""
    pinned, turns = split(messages)
    before = [one for one in pinned if _is_summary(one)]
    part = [one for turn in turns if what.first <= turn[0].turn <= what.through for one in turn]
    lines = [one.text for one in before] + [f"{_NAMES.get(one.role, one.role)}: {one.text}" for one in part if one.text]
    return [Message("system", _ASK.format(words=WORDS), 0), Message("user", "\n".join(lines), 1)]


def make_summary(text: str, messages: Sequence[Message], what: Due) -> Summary:
    """Return what is stored with the conversation. `messages`: without a summary."""
    _, turns = split(messages)
    covered = [turn for turn in turns if turn[0].turn <= what.through]
    return Summary(text, what.through, tuple(turn[0].turn for turn in covered), tuple(map(_digest, covered)))


def with_summary(messages: Sequence[Message], summary: Summary | None) -> list[Message]:
    """Put the summary in place of the turns that it covers.

    It is not used if one of these turns has been changed or deleted since. That the oldest are gone is no such change: the edge
    forgets them.
    """
    pinned, turns = split(messages)
    if summary is None or not turns:
        return list(messages)
    covered = [turn for turn in turns[:-1] if turn[0].turn <= summary.through]
    gone = len(summary.turns) - len(covered)
    if not covered or gone < 0 or tuple(turn[0].turn for turn in covered) != summary.turns[gone:]:
        return list(messages)
    partly = 0 if gone == 0 and len(covered[0]) > 1 else 1  # of the oldest turn a part may be forgotten
    if tuple(map(_digest, covered[partly:])) != summary.digests[gone + partly :]:
        return list(messages)
    said = Message("system", _ABOUT + summary.text, EXAMPLE_TURN)
    return [*pinned, said, *(one for turn in turns[len(covered) :] for one in turn)]


def _is_summary(message: Message) -> bool:
    return message.role == "system" and message.turn == EXAMPLE_TURN and message.text.startswith(_ABOUT)


def _digest(turn: Sequence[Message]) -> int:
    return crc32("\0".join(f"{one.turn} {one.role} {one.text}" for one in turn).encode(errors="replace"))
