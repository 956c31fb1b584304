"""Partial transcripts that do not flicker: words are shown when two hypotheses in a row agree on them. Pure.

LocalAgreement-2 (Liu, Spanakis, Niehues 2020; Macháček, Dabre, Bojar 2023, "Turning Whisper into Real-Time Transcription System").
"""

import re

_BARE = re.compile(r"[^\w']+")


class Agreement:
    """The words of one utterance on which its hypotheses agree."""

    def __init__(self) -> None:
        self._last: list[str] = []
        self._agreed: list[str] = []

    def take(self, hypothesis: str) -> str:
        """The next hypothesis of all that was heard so far. Returns the words agreed on; they only ever grow."""
        words = hypothesis.split()
        count = 0
        for one, other in zip(self._last, words, strict=False):
            if _key(one) != _key(other):
                break
            count += 1
        if count > len(self._agreed):
            self._agreed += words[len(self._agreed) : count]
        self._last = words
        return " ".join(self._agreed)


def _key(word: str) -> str:
    return _BARE.sub("", word).lower() or word
