"""One reply: its text and audio in order, each exactly once, and what of it was heard. It may be prepared before it is wanted."""

from dataclasses import dataclass, field

from services.edge.heard import cut_text, heard_text
from services.edge.playout import Playout
from shared.protocol.frames import ReplyDelta, ReplyDone
from shared.protocol.session import ToolCall


@dataclass(slots=True)
class Reply:
    """The reply to one revision of one turn."""

    turn: int
    revision: int
    playout: Playout
    prompt_hash: int | None = None
    """Checksum of what the chat model was told; None while it was not asked."""
    voiced: bool = False
    """The chat model speaks it: there are no sentences."""
    interruptible: bool = True
    text: str = ""
    told: int = 0
    """Characters of it that the client was sent."""
    told_paused: bool = False
    """The client was told to fall silent for a while."""
    sentences: dict[int, str] = field(default_factory=dict)
    calls: list[ToolCall] = field(default_factory=list)
    """Tools that it asks for and that the client was not told of."""
    called: bool = False
    """The client was told to run tools."""
    text_done: bool = False
    begun: bool = False
    """Audio of it has left."""
    failed: bool = False
    ended: bool = False
    """The client was told that no more comes."""
    status: str = "completed"
    """How it ended: see `events.ReplyEnded`."""
    marks: dict[str, int] = field(default_factory=dict)
    """Broker's clock, in ms, at which its parts were there first."""

    def mark(self, name: str, at_ms: int) -> None:
        """The first time counts."""
        self.marks.setdefault(name, at_ms)

    def add_text(self, delta: ReplyDelta) -> None:
        """A piece of the text; what is there already is no news."""
        if delta.offset <= len(
            self.text
        ):  # else a piece before it was lost with its worker, and comes with `ReplyDone`
            self.text += delta.text[len(self.text) - delta.offset :]

    def add_call(self, call: ToolCall) -> None:
        """It asks for a tool. After its end that is another's doing: a turn that was given to be answered twice."""
        if not self.text_done:
            self.calls.append(call)

    def finish_text(self, done: ReplyDone) -> None:
        """The text is complete."""
        if done.text.startswith(self.text):
            self.text = done.text
        self.text_done = True
        self.playout.expect(done.sentences)

    def untold(self) -> str:
        """Text that the client is to be sent now."""
        fresh, self.told = self.text[self.told :], len(self.text)
        return fresh

    def told_after(self, heard: int) -> str:
        """The text that the client was sent and did not hear, having heard so many samples."""
        told, words = self.text[: self.told], self.heard_text(heard)
        if told.startswith(words):
            return told[len(words) :].lstrip()
        return told[len(cut_text(told, heard / max(1, self.playout.there))) :].lstrip()

    @property
    def complete(self) -> bool:
        """All text and audio was sent."""
        return self.text_done and self.playout.complete

    def playing(self, now_s: float) -> bool:
        """Whether it is still being made, sent or played."""
        return not self.ended or self.playout.playing(now_s)

    def heard_text(self, heard: int) -> str:
        """What the person heard of it, having heard so many samples; what is only written, they have read."""
        if self.voiced:
            whole = self.text_done and self.playout.whole and heard >= self.playout.there
            return self.text if whole else cut_text(self.text, heard / max(1, self.playout.there))
        if not self.sentences:
            return self.text
        texts = [text for _, text in sorted(self.sentences.items())]
        words = heard_text(texts, self.playout.sentences(), heard, self.playout.there)
        return self.text if self.text_done and self.playout.whole and words == " ".join(texts) else words
