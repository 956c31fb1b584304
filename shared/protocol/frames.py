"""The frames: everything that Parley's processes tell each other, as facts with units.

On the wire a frame is a MessagePack array of its tag and its fields in order; an entry of a stream
holds an array of frames. Fields may be added at the end, with a default; nothing else may change.
Decoding checks tag, number of fields and every type, and raises `BadFrame` on anything else.

`session` is a field only of frames that travel through a consumer group, where the stream's key does
not tell it. Offsets and lengths are samples at 16 kHz since the session began unless a field says
otherwise; `turn` rises within a session, `revision` within a turn.
"""

from dataclasses import dataclass

from shared.protocol.codec import FrameCodec
from shared.protocol.session import CASCADE, Message, ReplyOptions, SessionSettings, ToolCall, Word


class Frame:
    """Base of the closed union; `FRAMES` lists its members."""

    __slots__ = ()


# -- what the client does: edge to vad ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SessionStarted(Frame):
    """A client is there; a vad worker is to listen to it."""

    session: str
    settings: SessionSettings


@dataclass(frozen=True, slots=True)
class SessionEnded(Frame):
    """The client is gone, or the session was closed."""

    reason: str


@dataclass(frozen=True, slots=True)
class SettingsChanged(Frame):
    """The session goes on with these settings."""

    settings: SessionSettings


@dataclass(frozen=True, slots=True)
class AudioChunk(Frame):
    """A slice of what the microphone heard: s16le, mono, 16 kHz."""

    offset: int
    """Samples since the session began, of the first sample."""
    pcm: bytes


@dataclass(frozen=True, slots=True)
class TextTyped(Frame):
    """The client typed a turn."""

    text: str
    options: ReplyOptions


@dataclass(frozen=True, slots=True)
class InputCommitted(Frame):
    """The client says that what it spoke so far is a turn."""

    options: ReplyOptions


@dataclass(frozen=True, slots=True)
class InputCleared(Frame):
    """The client takes back what it spoke since the last turn."""


@dataclass(frozen=True, slots=True)
class ReplyRequested(Frame):
    """The agent is to speak: in reply to the conversation as it stands, or what the options say."""

    options: ReplyOptions
    unless_spoken: bool = False
    """Not if someone is speaking just now."""


# -- turn-taking: vad to asr and edge -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SpeechStarted(Frame):
    """Someone speaks: an utterance to be recognised."""

    session: str
    turn: int
    revision: int
    start: int
    """First sample the recogniser is to hear (pre-roll included)."""
    onset: int
    """First sample of speech."""
    cursor: str
    """Id on the `speech` stream after which the utterance's audio comes."""
    language: str
    interrupts: bool
    """It stops a reply that is playing."""
    hints: str = ""
    """Words and names that may be heard."""
    route: str = CASCADE
    """`omni`: the turn is answered as it sounds (`TurnAudioReady`); the transcript is for the record, and for who interrupts."""
    trace: str = ""
    """Where its spans belong: W3C traceparent; empty: the turn is not traced."""


@dataclass(frozen=True, slots=True)
class SpeechPaused(Frame):
    """Silence since `end`: the turn may be over."""

    turn: int
    revision: int
    end: int
    """One past the last sample of speech."""
    speculate: bool = False
    """A reply is to be prepared, in case that it is."""


@dataclass(frozen=True, slots=True)
class SpeechResumed(Frame):
    """Speech again before the commit: all work on earlier revisions is stale."""

    turn: int
    revision: int
    """The new revision."""
    onset: int


@dataclass(frozen=True, slots=True)
class TurnCommitted(Frame):
    """The turn is over."""

    turn: int
    revision: int
    start: int
    end: int
    """One past the last sample of speech; equal to `start` for a turn that was not spoken."""
    decided_at: int
    """One past the last sample heard when this was decided."""
    input_ms: int
    """Redis clock when that sample reached the broker."""
    options: ReplyOptions


EMPTY = "empty"
"""The reason of a `TurnDiscarded` that says: the client committed, and nothing had been spoken."""


@dataclass(frozen=True, slots=True)
class TurnDiscarded(Frame):
    """The turn was none; nothing of it counts."""

    turn: int
    revision: int
    reason: str


@dataclass(frozen=True, slots=True)
class TurnInterrupted(Frame):
    """The reply of this turn, and of every earlier one, is not to be heard any further."""

    turn: int
    reason: str
    """`speech`, `text`, `client`."""
    heard: int
    """Samples of the reply that were played, at the client's rate."""


# -- hearing: asr to llm and edge -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TranscriptPartial(Frame):
    """What was understood so far; replaces the partial before it."""

    turn: int
    revision: int
    text: str


@dataclass(frozen=True, slots=True)
class TranscriptFinal(Frame):
    """What the person said, as heard in this revision: a reply to be made. Empty if there were no words.

    There is one for each revision at most. One that comes before its turn is committed starts the work early.
    """

    session: str
    turn: int
    revision: int
    text: str
    options: ReplyOptions
    trace: str = ""
    """Where its spans belong: W3C traceparent; empty: the turn is not traced."""


@dataclass(frozen=True, slots=True)
class TurnAudioReady(Frame):
    """What the person said in this revision, as it sounds: a reply to be made, where the route is `omni`.

    There is one for each revision at most. One that comes before its turn is committed starts the work early.
    """

    session: str
    turn: int
    revision: int
    cursor: str
    """Id on the `speech` stream after which the turn's audio comes."""
    start: int
    """First sample of it (pre-roll included)."""
    end: int
    """One past the last sample of speech."""
    options: ReplyOptions
    spoken: int = 0
    """The turn in which it was said, where the reply was asked for later, and so has a turn of its own; 0: this one."""
    trace: str = ""
    """Where its spans belong: W3C traceparent; empty: the turn is not traced."""


# -- the reply: llm to tts and edge ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ReplyStarted(Frame):
    """The chat model was asked."""

    turn: int
    revision: int
    prompt_hash: int
    """Checksum of all that it was told: see `shared.protocol.prompt.prompt_hash`."""
    voiced: bool = False
    """It speaks the reply itself: there are no sentences to be spoken."""


@dataclass(frozen=True, slots=True)
class ReplyDelta(Frame):
    """A piece of the reply's text."""

    turn: int
    revision: int
    offset: int
    """Characters of the reply before this piece."""
    text: str


@dataclass(frozen=True, slots=True)
class ReplySentence(Frame):
    """A sentence of the reply, to be spoken."""

    session: str
    turn: int
    revision: int
    index: int
    """Number of the sentence within the reply, from 0."""
    text: str
    voice: str
    speed: float
    language: str
    trace: str = ""
    """Where its spans belong: W3C traceparent; empty: the turn is not traced."""


@dataclass(frozen=True, slots=True)
class ToolCalled(Frame):
    """The chat model asks for a tool in this reply; to be run only if the reply is heard."""

    turn: int
    revision: int
    call: ToolCall


@dataclass(frozen=True, slots=True)
class ReplyDone(Frame):
    """The reply's text is complete."""

    turn: int
    revision: int
    text: str
    sentences: int
    """How many sentences were given to be spoken."""


# -- the voice: tts, or an llm that speaks, to edge -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class VoiceChunk(Frame):
    """A slice of a spoken sentence: s16le, mono, at the engine's rate. What a chat model speaks itself is one sentence."""

    turn: int
    revision: int
    sentence: int
    offset: int
    """Samples of the sentence before this slice, at `rate_hz`."""
    rate_hz: int
    pcm: bytes
    words: tuple[Word, ...]
    """The words that begin in this slice."""


@dataclass(frozen=True, slots=True)
class VoiceDone(Frame):
    """The sentence is spoken to its end."""

    turn: int
    revision: int
    sentence: int
    samples: int
    """Length of the whole sentence, at the engine's rate."""


# -- what came of it ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PlayedOut(Frame):
    """The edge's account of a reply that is over, played to the end or not."""

    turn: int
    revision: int
    heard: int
    """Samples that were played, at the client's rate."""
    total: int
    """Samples that were sent, at the client's rate."""


@dataclass(frozen=True, slots=True)
class StageFailed(Frame):
    """A stage gave this turn up; the session goes on."""

    stage: str
    turn: int
    revision: int
    message: str


@dataclass(frozen=True, slots=True)
class History(Frame):
    """The conversation so far: what the key `history:<session>` holds."""

    messages: tuple[Message, ...]


FRAMES: tuple[type[Frame], ...] = (
    SessionStarted,
    SessionEnded,
    SettingsChanged,
    AudioChunk,
    TextTyped,
    InputCommitted,
    InputCleared,
    ReplyRequested,
    SpeechStarted,
    SpeechPaused,
    SpeechResumed,
    TurnCommitted,
    TurnDiscarded,
    TurnInterrupted,
    TranscriptPartial,
    TranscriptFinal,
    ReplyStarted,
    ReplyDelta,
    ReplySentence,
    ToolCalled,
    ReplyDone,
    VoiceChunk,
    VoiceDone,
    PlayedOut,
    StageFailed,
    History,
    TurnAudioReady,
)

codec: FrameCodec[Frame] = FrameCodec(FRAMES)
"""`codec.encode(frame) -> bytes`, `codec.decode_entry(bytes) -> list[Frame]`."""
