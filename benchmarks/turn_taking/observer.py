"""What a caller notices of the system in a scene, and the scripted reply that it hears."""

from typing import Any

from benchmarks.turn_taking.score import Seen
from deploy.client.conversation import Conversation
from deploy.client.performance import Performer
from services.llm.spoken import SpokenSentences
from shared.protocol.session import RATE_HZ
from shared.settings import Settings

TEXT = (
    "This is the first sentence of a reply that goes on for a while. Here is the second one, which is no shorter. "
    "The third one follows at once. Then comes the last one of them all."
)
PIECE_S = 1.6
"""Length of a sentence of the scripted voice."""
PLAYED_S = 0.5
"""How often the caller reports what it has played."""


class Observer:
    """Notes what the system does, and reports what the caller has heard."""

    def __init__(self, performer: Performer) -> None:
        self._performer = performer
        self.seen: list[Seen] = []
        self.off_words: list[int] = []
        self._turn, self._reported_s = 0, 0.0  # of the current reply

    def on_message(self, message: dict[str, Any], conversation: Conversation) -> None:
        kind, now_s = message["type"], self._performer.now_s
        if kind == "processing_started":
            self.seen.append(Seen(now_s, "commit"))
        elif kind == "reply_started":
            self._turn, self._reported_s = message["turn"], 0.0
        elif kind in ("pause", "resume", "interrupt"):
            self.seen.append(Seen(now_s, kind))
            if kind == "interrupt" and (played_s := conversation.track.played_s(now_s)):
                self.off_words.append(len(message["heard"].split()) - played_words(played_s))

    def report(self, conversation: Conversation, now_s: float) -> dict[str, Any] | None:
        played_s, playing = conversation.track.played_s(now_s), conversation.track.end_s > now_s
        if played_s - self._reported_s < (PLAYED_S if playing else 1 / RATE_HZ):
            return None
        self._reported_s = played_s
        return {"type": "played", "turn": self._turn, "ms": round(1000 * played_s)}


def played_words(played_s: float) -> int:
    """Words of the scripted reply that were played. Its voice spreads the words of each piece evenly over `PIECE_S`."""
    spoken = SpokenSentences("en", Settings().first_clause_words)
    pieces = [sentence.split() for sentence in (*spoken.feed(TEXT), *spoken.finish())]
    count = 0
    for index, words in enumerate(pieces):
        share = (played_s - index * PIECE_S) / PIECE_S * len(words)
        count += min(len(words), max(0, int(share + 0.5)))
    return count
