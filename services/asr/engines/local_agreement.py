"""Stable partial transcripts: a word is shown once two consecutive hypotheses agree on it. Pure.

LocalAgreement-2: Liu, Spanakis, Niehues 2020; Macháček, Dabre, Bojar 2023, "Turning Whisper into Real-Time
Transcription System".
"""

import re

_PUNCTUATION = re.compile(r"[^\w']+")


class LocalAgreement:
    """The words of one utterance on which two consecutive hypotheses agree."""

    def __init__(self) -> None:
        self._previous: list[str] = []
        self._agreed: list[str] = []

    def add(self, hypothesis: str) -> str:
        """Add the next hypothesis of the whole utterance. Returns the agreed words; words are never removed again."""
        words = hypothesis.split()
        count = 0
        for one, other in zip(self._previous, words, strict=False):
            if _key(one) != _key(other):
                break
            count += 1
        if count > len(self._agreed):
            self._agreed += words[len(self._agreed) : count]
        self._previous = words
        return " ".join(self._agreed)


def _key(word: str) -> str:
    """Return the word without case and punctuation, for comparison."""
    return _PUNCTUATION.sub("", word).lower() or word
