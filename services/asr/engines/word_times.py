"""When words were said, from the steps at which a model wrote their tokens. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.protocol.session import Word

_MARKS = ("▁", "Ġ", "|", " ")
"""How tokenizers write the space before a word: SentencePiece, byte-level BPE, wav2vec 2, plain."""


@dataclass(frozen=True, slots=True)
class Span:
    """A token and when it was written, in steps of the model."""

    token: int
    start: int
    end: int
    """One past the last."""


def collapsed(steps: Sequence[int], blank: int) -> list[Span]:
    """The tokens of a CTC path: repetitions are one, blanks none."""
    spans: list[Span] = []
    for place, token in enumerate(steps):
        if spans and spans[-1].token == token and spans[-1].end == place:
            spans[-1] = Span(token, spans[-1].start, place + 1)
        else:
            spans.append(Span(token, place, place + 1))
    return [span for span in spans if span.token != blank]


def emitted(tokens: Sequence[int], steps: Sequence[int], skipped: frozenset[int]) -> list[Span]:
    """The tokens of a transducer, each with the steps that it goes on by."""
    spans: list[Span] = []
    place = 0
    for token, step in zip(tokens, steps, strict=True):
        if token not in skipped:
            spans.append(Span(token, place, place + max(1, step)))
        place += step
    return spans


def words_of(text: str, tokens: Sequence[str], spans: Sequence[Span], samples_per_step: int) -> tuple[Word, ...]:
    """The words of the text with the samples at which they were said.

    None at all where the tokens do not show where words begin: no time is better than that of another word.
    """
    times: list[tuple[int, int]] = []
    begins = True
    for token, span in zip(tokens, spans, strict=True):
        begins = begins or token.startswith(_MARKS)
        if not token.strip("".join(_MARKS)):
            continue
        if begins:
            times.append((span.start, span.end))
        else:
            times[-1] = (times[-1][0], span.end)
        begins = token.endswith("|")
    words = text.split()
    if len(words) != len(times):
        return ()
    return tuple(
        Word(word, start * samples_per_step, end * samples_per_step)
        for word, (start, end) in zip(words, times, strict=True)
    )
