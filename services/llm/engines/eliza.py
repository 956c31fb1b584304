"""The embedded chat model: Eliza, with the rules of NLTK.

It answers the last message of the user and ignores the instructions. The same conversation always gets the same reply,
so that a second attempt can continue where the first one stopped.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from functools import cache
from hashlib import blake2b
from random import Random

from shared.protocol.session import Message, Tool
from shared.settings import Settings

MAX_INPUT = 1000
"""Characters of the last message that are used: the rules repeat parts of it in the reply."""

GREETING = "Hello. How are you feeling today?"

_DELTA = re.compile(r"\s*\S+")
_PLACEHOLDER = re.compile(r"%(\d)")
_WORD = re.compile(r"[\w']+")

Rule = tuple[re.Pattern[str], tuple[str, ...]]
"""A pattern and its answers; `%1` stands for the text of the first group."""


class ElizaModel:
    """See `engine.ChatModel`. A reply takes well under a millisecond, so it runs on the event loop."""

    slots = 64

    def __init__(self, settings: Settings) -> None:
        pass

    async def load(self) -> None:
        await asyncio.to_thread(_rules)
        answer((Message("user", "Hello", 1),))

    async def reply(
        self, messages: Sequence[Message], *, language: str, prefix: str = "", tools: Sequence[Tool] = ()
    ) -> AsyncIterator[str]:
        """See `engine.ChatModel`. Each delta is one word."""
        text = answer(messages)
        if text.startswith(prefix):
            for delta in _DELTA.findall(text[len(prefix) :]):
                yield delta

    async def close(self) -> None:
        pass


@cache
def _rules() -> tuple[tuple[Rule, ...], dict[str, str]]:
    """Return NLTK's rules, and the words to swap in repeated text ("my" to "your").

    Only NLTK's tables are used: its `Chat` draws from the global random generator, and fails if the user says a `%`.
    """
    from nltk.chat.eliza import pairs
    from nltk.chat.util import reflections

    return tuple((re.compile(pattern, re.IGNORECASE), tuple(answers)) for pattern, answers in pairs), dict(reflections)


def answer(messages: Sequence[Message]) -> str:
    """Return the reply to the user's last message; a greeting without one. Equal messages get equal replies."""
    said = next((message.text for message in reversed(messages) if message.role == "user"), None)
    if said is None:
        return GREETING
    text = said[:MAX_INPUT].encode(errors="replace").decode()  # a lone surrogate cannot be encoded
    text = " ".join(text.split()).rstrip("!. ")
    seed = blake2b(digest_size=8)
    for message in messages:
        seed.update(f"{message.role}\0{message.text}\0".encode(errors="replace"))
    rules, _ = _rules()
    for pattern, answers in rules:
        if (match := pattern.match(text)) is not None:
            return _fill(_choose(answers, match, Random(seed.digest())), match)
    return GREETING  # unreachable with NLTK's rules: the last one matches everything


def _choose(answers: Sequence[str], match: re.Match[str], random: Random) -> str:
    """Choose an answer at random, preferably one whose placeholders all have words."""
    filled = [text for text in answers if all(_WORD.search(match[int(n)] or "") for n in _PLACEHOLDER.findall(text))]
    return random.choice(filled or answers)


def _fill(text: str, match: re.Match[str]) -> str:
    filled = _PLACEHOLDER.sub(lambda place: _swap_persons(match[int(place[1])] or ""), text)
    filled = re.sub(r"\?([?.])$", r"\1", filled)  # the repeated text may end in punctuation
    return " ".join(filled.split())


def _swap_persons(text: str) -> str:
    _, reflections = _rules()
    return _WORD.sub(lambda word: reflections.get(word[0], word[0]), text.lower())
