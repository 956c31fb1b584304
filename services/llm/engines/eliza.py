"""The embedded chat model: Eliza, with the rules that come with NLTK.

It answers what was said last and heeds neither instructions nor history; a conversation always gets the same reply,
so that a second attempt at it goes on where the first one stopped.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from functools import cache
from hashlib import blake2b
from random import Random

from shared.protocol.session import Message, Tool
from shared.settings import Settings

LONGEST_INPUT = 1000
"""Characters of the last message that are heard: the rules repeat them in the reply."""

GREETING = "Hello. How are you feeling today?"

_DELTA = re.compile(r"\s*\S+")
_PLACEHOLDER = re.compile(r"%(\d)")
_WORD = re.compile(r"[\w']+")

Rule = tuple[re.Pattern[str], tuple[str, ...]]
"""What was said, and the answers to it; `%1` stands for what the first group matched."""


class ElizaModel:
    """See `engine.ChatModel`. A reply takes well under a millisecond, so it is made on the event loop."""

    slots = 64

    def __init__(self, settings: Settings) -> None:
        pass

    async def load(self) -> None:
        await asyncio.to_thread(_rules)
        answer((Message("user", "Hello", 1),))

    async def reply(
        self, messages: Sequence[Message], *, language: str, prefix: str = "", tools: Sequence[Tool] = ()
    ) -> AsyncIterator[str]:
        """See `engine.ChatModel`; one word in each delta."""
        text = answer(messages)
        if text.startswith(prefix):
            for delta in _DELTA.findall(text[len(prefix) :]):
                yield delta

    async def close(self) -> None:
        pass


@cache
def _rules() -> tuple[tuple[Rule, ...], dict[str, str]]:
    """NLTK's rules, and the words to turn round in what is repeated ("my" to "your").

    Only its tables are used: its own `Chat` draws from the global random generator and stumbles over a `%` that a
    person says.
    """
    from nltk.chat.eliza import pairs
    from nltk.chat.util import reflections

    return tuple((re.compile(pattern, re.IGNORECASE), tuple(answers)) for pattern, answers in pairs), dict(reflections)


def answer(messages: Sequence[Message]) -> str:
    """The reply to the last thing that the user said; a greeting where there is none. The same for the same messages."""
    said = next((message.text for message in reversed(messages) if message.role == "user"), None)
    if said is None:
        return GREETING
    heard = said[:LONGEST_INPUT].encode(errors="replace").decode()  # half a surrogate pair could not be sent
    heard = " ".join(heard.split()).rstrip("!. ")
    seed = blake2b(digest_size=8)
    for message in messages:
        seed.update(f"{message.role}\0{message.text}\0".encode(errors="replace"))
    rules, _ = _rules()
    for pattern, answers in rules:
        if (match := pattern.match(heard)) is not None:
            return _fill(_choose(answers, match, Random(seed.digest())), match)
    return GREETING  # not reached with NLTK's rules, whose last one matches everything


def _choose(answers: Sequence[str], match: re.Match[str], random: Random) -> str:
    """Any of the answers, but none that would repeat nothing."""
    filled = [text for text in answers if all(_WORD.search(match[int(n)] or "") for n in _PLACEHOLDER.findall(text))]
    return random.choice(filled or answers)


def _fill(text: str, match: re.Match[str]) -> str:
    filled = _PLACEHOLDER.sub(lambda place: _turn_round(match[int(place[1])] or ""), text)
    filled = re.sub(r"\?([?.])$", r"\1", filled)  # what is repeated may end in a mark of its own
    return " ".join(filled.split())


def _turn_round(said: str) -> str:
    _, reflections = _rules()
    return _WORD.sub(lambda word: reflections.get(word[0], word[0]), said.lower())
