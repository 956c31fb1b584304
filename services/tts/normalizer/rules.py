"""Apply the rules of a language to a text: each finds written forms, and says them. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

import regex

from services.tts.normalizer.language import Match, Say

LEFT = r"(?<![\p{L}\p{N}_.,/:-])"
"""Matches before a number or a word that stands alone."""
RIGHT = r"(?![\p{L}\p{N}_])"
"""Matches after such a number or word."""
DASH = r"\s?[-\u2010-\u2015]\s?"
"""Matches between the ends of a range."""
_OPENERS = "([{\"'\u201c\u2018\u00ab\u00bf\u00a1"


class Rule(NamedTuple):
    pattern: regex.Pattern[str]
    say: Say


class Span(NamedTuple):
    """A part of a text, as it is written and as it is said."""

    written: str
    spoken: str


def rule(pattern: str, say: Say, flags: int = 0) -> Rule:
    return Rule(regex.compile(pattern, flags), say)


def apply(rules: Sequence[Rule], text: str) -> list[Span]:
    """Return the text in parts. Where several rules match, the one that begins first counts, then the first of them."""
    spans: list[Span] = []
    done = 0
    found = {at: match for at, one in enumerate(rules) if (match := one.pattern.search(text))}
    while found:
        at = min(found, key=lambda number: (found[number].start(), number))
        match = found[at]
        said = rules[at].say(match) if match.end() > match.start() else None
        if said is not None:
            if match.start() > done:
                spans.append(_unchanged(text[done : match.start()]))
            last = next((span.spoken[-1] for span in reversed(spans) if span.spoken), " ")
            spans.append(Span(match[0], _apart(said, text, match, spaced=last.isspace())))
            done = match.end()
        for number in [number for number, other in found.items() if other.start() < done or number == at]:
            start = max(done, match.start() + 1) if number == at else done
            again = rules[number].pattern.search(text, start)
            if again:
                found[number] = again
            else:
                del found[number]
    if done < len(text):
        spans.append(_unchanged(text[done:]))
    return spans


def _unchanged(text: str) -> Span:
    return Span(text, text)


def _apart(said: str, text: str, match: Match, *, spaced: bool) -> str:
    """Return the words with spaces where the text lacks them. `spaced`: what was said before ends in one."""
    before, after = text[: match.start()][-1:], text[match.end() :][:1]
    if not said:
        return " " if before.isalnum() and after.isalnum() else ""
    apart = not spaced and before and not before.isspace() and before not in _OPENERS and said[0] not in ",."
    return f"{' ' if apart else ''}{said}{' ' if after.isalnum() and not said.endswith(' ') else ''}"
