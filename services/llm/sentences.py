"""Cut a reply into sentences while it is being made. Pure; where sentences end is a library's knowledge."""

import sentencex

SHORTEST = 2
"""Characters; a sentence of fewer is kept for the next one."""
ENDS = frozenset(".!?…。！？｡।॥؟\n")
"""Without one of these there is no need to ask."""
LONGEST = 400
"""Characters after which a sentence is cut at a space: nobody should wait for the full stop of a list."""


class SentenceCutter:
    """Feed it deltas; it gives sentences as soon as it is sure that they are over."""

    def __init__(self, language: str, first_words: int = 0) -> None:
        self._language = language.partition("-")[0] or "en"
        self._text = ""

    def feed(self, delta: str) -> list[str]:
        """The sentences that this delta completed."""
        self._text += delta
        found: list[str] = []
        if not ENDS.isdisjoint(self._text):
            # The last piece may go on: "3." is a sentence until "14" comes.
            *complete, self._text = _pieces(self._language, self._text)
            found = complete
        while len(self._text) > LONGEST:
            cut = self._text.rfind(" ", SHORTEST, LONGEST)
            cut = LONGEST if cut < 0 else cut
            found.append(self._text[:cut])
            self._text = self._text[cut:]
        return [text for text in map(str.strip, found) if text]

    def finish(self) -> list[str]:
        """What is left when the reply is over."""
        rest, self._text = self._text, ""
        return [text for text in map(str.strip, _pieces(self._language, rest)) if text]


def _pieces(language: str, text: str) -> list[str]:
    pieces: list[str] = []
    for piece in sentencex.segment(language, text):
        if pieces and len(pieces[-1].strip()) < SHORTEST:
            pieces[-1] += piece
        else:
            pieces.append(piece)
    return pieces or [text]
