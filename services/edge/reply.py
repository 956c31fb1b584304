"""One reply on its way to the client: text and audio in order, each exactly once, and when what happened."""

from dataclasses import dataclass, field

from services.edge.history import heard_text
from services.edge.playout import Playout
from shared.frames import ReplyDelta, ReplyDone


@dataclass(slots=True)
class Reply:
    """The reply to one turn."""

    turn: int
    revision: int
    playout: Playout
    text: str = ""
    sentences: dict[int, str] = field(default_factory=dict)
    text_done: bool = False
    ended: bool = False
    """The client was told that no more comes."""

    def add_text(self, delta: ReplyDelta) -> str:
        """What is new in this piece of text."""
        if delta.offset > len(self.text):
            return ""  # a piece before it was lost with its worker; the whole text comes with `ReplyDone`
        fresh = delta.text[len(self.text) - delta.offset :]
        self.text += fresh
        return fresh

    def finish_text(self, done: ReplyDone) -> str:
        """The text is complete: what was missing of it."""
        rest = done.text[len(self.text) :] if done.text.startswith(self.text) else ""
        self.text += rest
        self.text_done = True
        self.playout.expect(done.sentences)
        return rest

    @property
    def complete(self) -> bool:
        """All text and audio was sent."""
        return self.text_done and self.playout.complete

    def heard_text(self, now_s: float) -> str:
        """What the person heard of it."""
        if not self.sentences:
            return self.text
        ordered = [text for _, text in sorted(self.sentences.items())]
        playout = self.playout
        return heard_text(ordered, playout.sentence_ends(), playout.heard(now_s), playout.sent)
