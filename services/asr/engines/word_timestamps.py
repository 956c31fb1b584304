"""Word timestamps, from the model's time steps at which the tokens were emitted. Pure."""

import string
from collections.abc import Sequence
from dataclasses import dataclass

from shared.protocol.session import Word

_WORD_MARKS = ("▁", "Ġ", "|", " ")
"""The space before a word in tokenizers: SentencePiece, byte-level BPE, wav2vec 2, plain text."""


@dataclass(frozen=True, slots=True)
class Span:
    """A token and the time steps of the model that it covers."""

    token: int
    start: int
    end: int
    """One past the last step."""


def ctc_spans(path: Sequence[int], blank: int) -> list[Span]:
    """Return the tokens of a CTC path (one label for each step): repetitions merged, blanks removed."""
    spans: list[Span] = []
    for step, token in enumerate(path):
        if spans and spans[-1].token == token and spans[-1].end == step:
            spans[-1] = Span(token, spans[-1].start, step + 1)
        else:
            spans.append(Span(token, step, step + 1))
    return [span for span in spans if span.token != blank]


def transducer_spans(tokens: Sequence[int], durations: Sequence[int], skipped: frozenset[int]) -> list[Span]:
    """Return the tokens of a transducer, from the steps by which each token advances; without those in `skipped`."""
    spans: list[Span] = []
    step = 0
    for token, duration in zip(tokens, durations, strict=True):
        if token not in skipped:
            spans.append(Span(token, step, step + max(1, duration)))
        step += duration
    return spans


def timed_words(text: str, tokens: Sequence[str], spans: Sequence[Span], samples_per_step: int) -> tuple[Word, ...]:
    """Return the words of the text with their first sample and one past their last.

    Empty if the tokens do not show where each word begins: wrong timestamps are worse than no timestamps.
    """
    times: list[tuple[int, int]] = []
    begins = True
    for token, span in zip(tokens, spans, strict=True):
        begins = begins or token.startswith(_WORD_MARKS)
        if not token.strip("".join(_WORD_MARKS)):
            continue
        if begins:
            times.append((span.start, span.end))
        elif token.strip(string.punctuation):  # the time of a full stop is that of the pause after the word
            times[-1] = (times[-1][0], span.end)
        begins = token.endswith("|")
    words = text.split()
    if len(words) != len(times):
        return ()
    return tuple(
        Word(word, start * samples_per_step, end * samples_per_step)
        for word, (start, end) in zip(words, times, strict=True)
    )
