"""One reply, from its preparation to its end: its states, its text and audio, and how much was heard. Pure."""

from dataclasses import dataclass, field
from enum import Enum

from services.edge.conversation.heard import cut_text, heard_text
from services.edge.conversation.playout import Playout
from shared.protocol.frames import ReplyDelta, ReplyDone
from shared.protocol.session import ToolCall


class ReplyState(Enum):
    PREPARING = "preparing"
    """It is being made; its turn is not over, and may never be one."""
    WAITING = "waiting"
    """Its turn is accepted. It plays as soon as some of it has arrived and nothing else plays or is spoken."""
    PLAYING = "playing"
    """It is sent to the client, and played there."""
    PAUSED = "paused"
    """Someone speaks into it; nothing is sent."""
    FINISHED = "finished"
    """It was played to its end."""
    INTERRUPTED = "interrupted"
    """It was stopped, or thrown away before it was played."""


class ReplySignal(Enum):
    ACCEPT = "accept"
    PLAY = "play"
    PAUSE = "pause"
    RESUME = "resume"
    FINISH = "finish"
    INTERRUPT = "interrupt"


TABLE: dict[tuple[ReplyState, ReplySignal], ReplyState] = {
    (ReplyState.PREPARING, ReplySignal.ACCEPT): ReplyState.WAITING,
    (ReplyState.WAITING, ReplySignal.PLAY): ReplyState.PLAYING,
    (ReplyState.PLAYING, ReplySignal.PAUSE): ReplyState.PAUSED,
    (ReplyState.PAUSED, ReplySignal.RESUME): ReplyState.PLAYING,
    (ReplyState.PLAYING, ReplySignal.FINISH): ReplyState.FINISHED,
    (ReplyState.PREPARING, ReplySignal.INTERRUPT): ReplyState.INTERRUPTED,
    (ReplyState.WAITING, ReplySignal.INTERRUPT): ReplyState.INTERRUPTED,
    (ReplyState.PLAYING, ReplySignal.INTERRUPT): ReplyState.INTERRUPTED,
    (ReplyState.PAUSED, ReplySignal.INTERRUPT): ReplyState.INTERRUPTED,
}
"""(state, signal) -> next state. A pair that is not here is refused, and changes nothing."""


@dataclass(slots=True)
class Reply:
    """The reply to one revision of one turn."""

    turn: int
    revision: int
    playout: Playout
    state: ReplyState = ReplyState.PREPARING
    interruptible: bool = True
    speculated: bool = False
    """It was begun before its turn was over: it is valid only if its prompt hash still matches."""
    prompt_hash: int | None = None
    """Checksum of the chat model's whole input; None: it was not asked yet."""
    arrived: bool = False
    """Some text or audio of it has arrived."""
    voiced: bool = False
    """The chat model speaks it: there are no sentences."""
    text: str = ""
    sentences: dict[int, str] = field(default_factory=dict)
    text_done: bool = False
    sent_chars: int = 0
    """Characters of the text that the client was sent."""
    calls: list[ToolCall] = field(default_factory=list)
    """Tool calls that were not sent to the client."""
    called: bool = False
    """Tool calls were sent to the client."""
    failure: str = ""
    """A stage gave up, and no more of it arrives: why, one of `reasons.FAILURES`."""
    cut: str = ""
    """Why its text ends early: see `ReplyDone`."""
    audible: bool = False
    """Audio of it was sent."""
    pause_sent: bool = False
    """A `Pause` was sent to the client."""
    ended: bool = False
    """A `ReplyEnded` was sent to the client."""
    status: str = "completed"
    """How it ended: see `events.ReplyEnded`."""
    timer_runs: bool = False
    """The timer `REPLY` is started."""
    progress_s: float = 0.0
    """When something of it last arrived."""
    voice_due_s: float = 0.0
    """When the voice got its next sentence, or something of its audio last arrived."""
    marks: dict[str, int] = field(default_factory=dict)
    """Broker's clock, in ms, at which its parts were first there."""

    def change(self, signal: ReplySignal) -> bool:
        """Go to the next state. Returns False, and changes nothing, if the table has no such transition."""
        following = TABLE.get((self.state, signal))
        if following is None:
            return False
        self.state = following
        return True

    # -- what arrives -----------------------------------------------------------------------------

    def mark(self, name: str, at_ms: int) -> None:
        """Note the time at which a part was first there."""
        self.marks.setdefault(name, at_ms)

    def add_sentence(self, index: int, text: str, now_s: float) -> None:
        """A sentence that the voice has to speak."""
        if index == self.playout.next_sentence:
            self.voice_due_s = now_s
        self.sentences[index] = text

    def add_text(self, delta: ReplyDelta) -> None:
        """Add a piece of the text; a part that is already there is dropped. A piece after a gap is dropped, too: what was lost
        with a worker comes with `ReplyDone`."""
        if delta.offset <= len(self.text):
            self.text += delta.text[len(self.text) - delta.offset :]

    def add_call(self, call: ToolCall) -> None:
        """Take a call of a tool. A call after the end of the text is from a second answer to the same turn, and dropped."""
        if not self.text_done:
            self.calls.append(call)

    def finish_text(self, done: ReplyDone) -> None:
        if done.text.startswith(self.text):
            self.text = done.text
        self.text_done, self.cut = True, done.cut
        self.playout.expect(done.sentences)

    def fail(self, why: str) -> None:
        """End the reply with what has arrived. `why`: one of `reasons.FAILURES`."""
        received = self.playout.received_samples
        words = self.heard_text(received) if received else ""
        self.failure = why
        self.playout.cease()
        spoken = [text for index, text in sorted(self.sentences.items()) if index < self.playout.next_sentence]
        if spoken:  # the last one may have broken off
            spoken[-1] = words.removeprefix(" ".join(spoken[:-1])).strip()
        elif self.sentences:  # nobody heard a word of it, however much was written
            spoken = [""]
        self.sentences = dict(enumerate(spoken))

    def apologise(self, text: str, pcm: bytes = b"", rate_hz: int = 0, *, in_words: bool = True) -> None:
        """Let a reply that failed end with this sentence. `pcm`: s16le mono; without it, it is only shown. `in_words`: the
        text is what is heard."""
        sent = self.text[: self.sent_chars]
        self.text = f"{sent}{' ' if sent and not sent[-1].isspace() else ''}{text}"
        if pcm:
            if not self.voiced:
                self.sentences[self.playout.next_sentence] = text if in_words else ""
            self.playout.append(pcm, rate_hz)

    @property
    def failed(self) -> bool:
        return bool(self.failure)

    @property
    def reason(self) -> str:
        """See `events.ReplyEnded`."""
        return self.failure or (self.cut if self.status == "completed" else "")

    @property
    def is_mute(self) -> bool:
        """It is complete, and the voice made no sound of its words."""
        words = any(character.isalnum() for text in self.sentences.values() for character in text)
        return words and self.fully_received and not self.playout.received_samples

    @property
    def fully_received(self) -> bool:
        return self.text_done and self.playout.fully_received

    # -- what is sent -----------------------------------------------------------------------------

    def take_unsent(self) -> str:
        """Return the text to send to the client now."""
        fresh, self.sent_chars = self.text[self.sent_chars :], len(self.text)
        return fresh

    @property
    def fully_sent(self) -> bool:
        """Whether all text and audio was sent, and no more will come."""
        return (self.text_done or self.failed) and self.playout.fully_sent

    def played_out(self, now_s: float) -> bool:
        """Whether all of it was sent, and the client has played it."""
        return self.ended and not self.playout.playing(now_s)

    # -- what was heard ---------------------------------------------------------------------------

    def heard_text(self, heard: int) -> str:
        """The words of it in the first `heard` samples. A reply without sentences is only text, and counts as read."""
        if self.voiced:
            if self.fully_received and heard >= self.playout.received_samples:
                return self.text
            return cut_text(self.text, heard / max(1, self.playout.received_samples))
        if not self.sentences:
            return self.text
        texts = [text for _, text in sorted(self.sentences.items())]
        words = heard_text(texts, self.playout.sentences(), heard, self.playout.received_samples)
        return self.text if self.fully_received and not self.failed and words == " ".join(texts) else words

    def unheard_text(self, heard: int) -> str:
        """The text that was sent to the client and is not in the first `heard` samples."""
        sent, words = self.text[: self.sent_chars], self.heard_text(heard)
        if sent.startswith(words):
            return sent[len(words) :].lstrip()
        return sent[len(cut_text(sent, heard / max(1, self.playout.received_samples))) :].lstrip()

    def ms(self, samples: int) -> int:
        return samples * 1000 // self.playout.rate_hz
