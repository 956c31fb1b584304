"""The frames: all messages between Parley's processes. Each states a fact, with units.

On the wire a frame is a MessagePack array of its tag and its fields in order. A stream entry holds an
array of frames. The format may only be extended by fields at the end, with a default, and by new frames: both are
ignored by an older release (`shared/protocol/codec.py`). Decoding checks every type, and raises `BadFrame` if one does
not match. `python -m tests.support.golden` records the format; a test compares every release's record with this code.

Only frames in jobs streams have a `session` field; for the others the stream's key names the session.
Unless a field says otherwise, offsets and lengths are in samples at 16 kHz since the session began.
`turn` rises within a session, `revision` within a turn. `trace` is a W3C traceparent, the parent of the
receiver's spans; it is empty if the turn is not traced.
"""

from dataclasses import dataclass

from shared.protocol.codec import FrameCodec
from shared.protocol.reasons import STAGE_FAILED
from shared.protocol.session import CASCADE, Message, ReplyOptions, SessionSettings, ToolCall, Word


class Frame:
    """Base of all frames."""

    __slots__ = ()


# -- client input: edge to vad --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SessionStarted(Frame):
    """A client has connected; a vad worker takes the session."""

    session: str
    settings: SessionSettings


@dataclass(frozen=True, slots=True)
class SessionEnded(Frame):
    """The client has left, or the session was closed."""

    reason: str


@dataclass(frozen=True, slots=True)
class SessionResumed(Frame):
    """The client has connected again. Only the edge with this connection serves the session from now on."""

    line: str
    """Name of the connection."""


@dataclass(frozen=True, slots=True)
class SettingsChanged(Frame):
    """The session's settings were replaced."""

    settings: SessionSettings


@dataclass(frozen=True, slots=True)
class AudioChunk(Frame):
    """A slice of microphone audio: s16le, mono, 16 kHz."""

    offset: int
    """Position of the first sample, in samples since the session began."""
    pcm: bytes


@dataclass(frozen=True, slots=True)
class TextTyped(Frame):
    """The client typed a turn."""

    text: str
    options: ReplyOptions


@dataclass(frozen=True, slots=True)
class InputCommitted(Frame):
    """The client ended its spoken turn (push-to-talk or a manual commit)."""

    options: ReplyOptions


@dataclass(frozen=True, slots=True)
class InputCleared(Frame):
    """The client discarded the audio since the last turn."""


@dataclass(frozen=True, slots=True)
class ReplyRequested(Frame):
    """The client asked for a reply to the conversation so far, or for the text given in the options."""

    options: ReplyOptions
    unless_spoken: bool = False
    """Ignore the request if the person is speaking."""


# -- turn-taking: vad to asr and edge -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SpeechStarted(Frame):
    """Speech has begun; an asr worker recognises the utterance."""

    session: str
    turn: int
    revision: int
    start: int
    """First sample for the recogniser, including the pre-roll."""
    onset: int
    """First sample of speech."""
    cursor: str
    """Id on the `speech` stream; the utterance's audio follows it."""
    language: str
    interrupts: bool
    """The speech stops a reply that is playing."""
    hints: str = ""
    """Words and names for the recogniser to expect."""
    route: str = CASCADE
    """`omni`: a chat model that takes audio answers the turn (`TurnAudioReady`). The transcript serves the history and
    the check of interruptions only."""
    trace: str = ""


@dataclass(frozen=True, slots=True)
class SpeechPaused(Frame):
    """The person has been silent since `end`; the turn may be over."""

    turn: int
    revision: int
    end: int
    """One past the last sample of speech."""
    speculate: bool = False
    """Prepare a reply now, in case the turn is over."""
    transcribe: bool = False
    """The decision whether the turn is over needs the words so far: answer with a `PauseTranscribed`."""


@dataclass(frozen=True, slots=True)
class SpeechResumed(Frame):
    """Speech resumed before the commit; all work on earlier revisions is stale."""

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
    """One past the last sample received when the turn was committed."""
    input_ms: int
    """Broker's clock, in ms, when that sample reached the broker."""
    options: ReplyOptions
    reasons: tuple[str, ...] = ()
    """Why this much silence ended the turn, as the endpointing engine says; empty: it does not say, or it did not decide."""


EMPTY = "empty"
"""Reason of `TurnDiscarded`: the client committed a turn without speech."""


@dataclass(frozen=True, slots=True)
class TurnDiscarded(Frame):
    """The turn was discarded: it did not contain speech for the agent."""

    turn: int
    revision: int
    reason: str


@dataclass(frozen=True, slots=True)
class TurnInterrupted(Frame):
    """Playback of this turn's reply, and of all earlier replies, was interrupted."""

    turn: int
    reason: str
    """`speech`, `text`, `client`."""
    heard: int
    """Samples of the reply that were played, at the client's rate."""
    rate_hz: int = 0
    """The client's rate."""


# -- recognition: asr to llm and edge -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TranscriptPartial(Frame):
    """The transcript so far; it replaces the previous partial transcript."""

    turn: int
    revision: int
    text: str


@dataclass(frozen=True, slots=True)
class TranscriptFinal(Frame):
    """The transcript of this revision; an llm worker prepares the reply. Empty if there were no words.

    There is at most one per revision. If it comes before the commit, the reply is prepared speculatively.
    """

    session: str
    turn: int
    revision: int
    text: str
    options: ReplyOptions
    trace: str = ""
    murmur: bool = False
    """It sounds like a murmur of somebody who listens: said into a reply, it does not take the floor."""


@dataclass(frozen=True, slots=True)
class PauseTranscribed(Frame):
    """The words up to the pause in this revision. The vad stage decides with them whether the turn is over."""

    turn: int
    revision: int
    text: str
    """Empty if there were no words."""
    language: str = ""
    """The recognised language, as a BCP 47 tag; empty: the session's."""
    confidence: float | None = None
    """Mean log-probability of the recogniser's tokens; None: it does not report it."""


@dataclass(frozen=True, slots=True)
class TurnAudioReady(Frame):
    """The audio of this revision is ready; on the route `omni` an llm worker prepares the reply from it.

    There is at most one per revision. If it comes before the commit, the reply is prepared speculatively.
    """

    session: str
    turn: int
    revision: int
    cursor: str
    """Id on the `speech` stream; the turn's audio follows it."""
    start: int
    """First sample of the audio, including the pre-roll."""
    end: int
    """One past the last sample of speech."""
    options: ReplyOptions
    spoken: int = 0
    """The turn that contains the audio, if the reply was requested later and has its own turn; 0: this turn."""
    trace: str = ""


# -- the reply: llm to tts and edge ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ReplyStarted(Frame):
    """The request to the chat model has begun."""

    turn: int
    revision: int
    prompt_hash: int
    """See `shared.protocol.prompt.prompt_hash`."""
    voiced: bool = False
    """The chat model produces speech itself; there are no sentences to synthesise."""


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
    """A sentence of the reply; a tts worker synthesises it."""

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


@dataclass(frozen=True, slots=True)
class ToolCalled(Frame):
    """The chat model calls a tool in this reply. The client gets the call only if the reply is played."""

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
    """Number of sentences sent to the tts stage."""
    cut: str = ""
    """Why the text ends early, one of `reasons.CUTS`; empty: it does not."""


@dataclass(frozen=True, slots=True)
class SummaryRequested(Frame):
    """The conversation has become long: an llm worker summarises these turns, both ends included. It belongs to no turn."""

    session: str
    first: int
    through: int
    trace: str = ""


# -- speech: tts, or an llm that speaks, to edge --------------------------------------------------


@dataclass(frozen=True, slots=True)
class VoiceChunk(Frame):
    """A slice of a spoken sentence: s16le, mono. The whole reply of a chat model that speaks counts as one sentence."""

    turn: int
    revision: int
    sentence: int
    offset: int
    """Samples of the sentence before this slice, at `rate_hz`."""
    rate_hz: int
    """The engine's sample rate."""
    pcm: bytes
    words: tuple[Word, ...]
    """The words that begin in this slice."""


@dataclass(frozen=True, slots=True)
class VoiceDone(Frame):
    """The speech of the sentence is complete."""

    turn: int
    revision: int
    sentence: int
    samples: int
    """Length of the whole sentence, at the engine's rate."""


# -- outcomes -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PlayedOut(Frame):
    """A reply has ended, whether or not it was played to the end."""

    turn: int
    revision: int
    heard: int
    """Samples that were played, at the client's rate."""
    total: int
    """Samples that were sent, at the client's rate."""
    rate_hz: int = 0
    """The client's rate."""


@dataclass(frozen=True, slots=True)
class StageFailed(Frame):
    """A stage gave up on this turn; the session continues."""

    stage: str
    turn: int
    revision: int
    message: str
    code: str = STAGE_FAILED
    """One of `reasons.FAILURES`."""


@dataclass(frozen=True, slots=True)
class History(Frame):
    """The conversation so far: the value of the key `history:<session>`."""

    messages: tuple[Message, ...]
    keys: tuple[str, ...] = ()
    """The key of each message: see `services.edge.client.keys`."""


@dataclass(frozen=True, slots=True)
class Summary(Frame):
    """What was said at the beginning of a long conversation: a value of the key `session:<session>`."""

    text: str
    through: int
    """The last turn that it covers."""
    turns: tuple[int, ...]
    """The numbers of the turns that it covers."""
    digests: tuple[int, ...]
    """A CRC-32 of each of these turns: the summary is not used once one of them has changed."""


# -- what an edge needs to go on with another edge's session ---------------------------------------


@dataclass(frozen=True, slots=True)
class EventSent(Frame):
    """The edge has sent this event to the client."""

    number: int
    """From 1, within the session."""
    name: str
    """Its class in `services.edge.client.events`."""
    turn: int
    """0: it is about no turn."""
    chars: int
    """Characters of the reply's text in it."""


@dataclass(frozen=True, slots=True)
class EventsReceived(Frame):
    """The client has resumed its session, and has the events up to this number. Later ones that were written before never arrived."""

    number: int


@dataclass(frozen=True, slots=True)
class MessageReceived(Frame):
    """The client has sent this message, in a protocol whose state follows from such messages."""

    number: int
    """From 1, within the session, among those of the events."""
    body: str


@dataclass(frozen=True, slots=True)
class ResumePoint(Frame):
    """A moment in which nobody spoke and nothing was due to be said. From here, the log rebuilds the conversation."""

    cursor: str
    """Id of the last entry of the log that is included."""
    events: int
    """Number of the last event that had been sent."""
    newest_over: int
    newest_turn: int
    accepted_turns: int
    interrupted_replies: int
    floor_turn: int
    """Everything before this turn and revision is stale."""
    floor_revision: int
    input_samples: int
    """Samples of the microphone that the edge had accepted."""
    began_ms: int
    """Broker's clock, in ms, at the beginning of the session."""
    protocol: str
    rate_hz: int
    """The client's rate."""
    codec: bytes = b""
    """The state of the wire protocol, in a form of its own."""


FRAMES: tuple[type[Frame], ...] = tuple({cls.__name__: cls for cls in Frame.__subclasses__()}.values())
"""All frames. `slots=True` makes each class twice: the second one counts."""

codec: FrameCodec[Frame] = FrameCodec(FRAMES)
"""`codec.encode(frame) -> bytes`, `codec.decode_entry(bytes) -> list[Frame]`."""
