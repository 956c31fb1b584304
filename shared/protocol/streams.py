"""The streams: their keys, how long they are kept, and which frame goes where from whom.

The one place that says it. Pure.
"""

from enum import Enum

from shared.protocol.frames import (
    AudioChunk,
    Frame,
    InputCleared,
    InputCommitted,
    PlayedOut,
    ReplyDelta,
    ReplyDone,
    ReplyRequested,
    ReplySentence,
    ReplyStarted,
    SessionEnded,
    SessionStarted,
    SettingsChanged,
    SpeechPaused,
    SpeechResumed,
    SpeechStarted,
    StageFailed,
    TextTyped,
    ToolCalled,
    TranscriptFinal,
    TranscriptPartial,
    TurnAudioReady,
    TurnCommitted,
    TurnDiscarded,
    TurnInterrupted,
    VoiceChunk,
    VoiceDone,
)


class StreamKind(Enum):
    """A kind of stream. The jobs streams are read by consumer groups, the others plainly, in order."""

    IN = "in"
    SPEECH = "speech"
    OUT = "out"
    JOBS_VAD = "jobs:vad"
    JOBS_ASR = "jobs:asr"
    JOBS_LLM = "jobs:llm"
    JOBS_TTS = "jobs:tts"


JOBS = {"vad": StreamKind.JOBS_VAD, "asr": StreamKind.JOBS_ASR, "llm": StreamKind.JOBS_LLM, "tts": StreamKind.JOBS_TTS}
"""The stream that hands out each stage's work."""

# Where one frame goes to several places, the edge's log comes last: what stands in the log was handed on.
ROUTES: dict[str, dict[type[Frame], tuple[StreamKind, ...]]] = {
    "edge": {
        SessionStarted: (StreamKind.JOBS_VAD, StreamKind.OUT),
        SessionEnded: (StreamKind.IN, StreamKind.OUT),
        SettingsChanged: (StreamKind.IN,),
        AudioChunk: (StreamKind.IN,),
        TextTyped: (StreamKind.IN,),
        InputCommitted: (StreamKind.IN,),
        InputCleared: (StreamKind.IN,),
        ReplyRequested: (StreamKind.IN,),
        TranscriptFinal: (StreamKind.JOBS_LLM, StreamKind.OUT),
        TurnAudioReady: (StreamKind.JOBS_LLM, StreamKind.OUT),
        TurnInterrupted: (StreamKind.OUT,),
        PlayedOut: (StreamKind.OUT,),
    },
    "vad": {
        AudioChunk: (StreamKind.SPEECH,),
        SpeechStarted: (StreamKind.JOBS_ASR, StreamKind.OUT),
        SpeechPaused: (StreamKind.SPEECH, StreamKind.OUT),
        SpeechResumed: (StreamKind.SPEECH, StreamKind.OUT),
        TurnCommitted: (StreamKind.SPEECH, StreamKind.OUT),
        TurnDiscarded: (StreamKind.SPEECH, StreamKind.OUT),
        TurnAudioReady: (StreamKind.JOBS_LLM, StreamKind.OUT),
        TranscriptFinal: (StreamKind.JOBS_LLM, StreamKind.OUT),
        StageFailed: (StreamKind.OUT,),
    },
    "asr": {
        TranscriptPartial: (StreamKind.OUT,),
        TranscriptFinal: (StreamKind.JOBS_LLM, StreamKind.OUT),
        StageFailed: (StreamKind.OUT,),
    },
    "llm": {
        ReplyStarted: (StreamKind.OUT,),
        ReplyDelta: (StreamKind.OUT,),
        ReplySentence: (StreamKind.JOBS_TTS, StreamKind.OUT),
        ToolCalled: (StreamKind.OUT,),
        ReplyDone: (StreamKind.OUT,),
        VoiceChunk: (StreamKind.OUT,),  # of a model that speaks itself
        VoiceDone: (StreamKind.OUT,),
        StageFailed: (StreamKind.OUT,),
    },
    "tts": {
        VoiceChunk: (StreamKind.OUT,),
        VoiceDone: (StreamKind.OUT,),
        StageFailed: (StreamKind.OUT,),
    },
}

JOB_KINDS: dict[str, frozenset[type[Frame]]] = {
    stage: frozenset(kind for routes in ROUTES.values() for kind, places in routes.items() if place in places)
    for stage, place in JOBS.items()
}
"""The frames that are work for each stage."""

MAXLEN: dict[StreamKind, int] = {
    StreamKind.IN: 1_500,  # 30 s of 20 ms chunks: what a takeover needs, several times over
    StreamKind.SPEECH: 1_200,  # the longest turn in 100 ms chunks, twice
    StreamKind.OUT: 4_000,
    StreamKind.JOBS_VAD: 100_000,
    StreamKind.JOBS_ASR: 100_000,
    StreamKind.JOBS_LLM: 100_000,
    StreamKind.JOBS_TTS: 100_000,
}
"""Entries that a stream keeps, roughly; work is deleted when it is done, long before."""

DEAD_MAXLEN = 1_000
TURNS_MAXLEN = 5_000
SESSION_TTL_S = 120
"""A session's keys outlive its last sign of life by this."""


class Keys:
    """Names of the broker's keys. All have the hash tag `{0}`, so that scripts and reads of several keys stay in one slot."""

    def stream(self, place: StreamKind, session: str) -> bytes:
        """The stream of that kind on which frames of this session travel."""
        if place in _SHARED:
            return b"parley:{0}:%s" % place.value.encode()
        return b"parley:{0}:%s:%s" % (place.value.encode(), session.encode())

    def jobs(self, stage: str) -> bytes:
        """The stream of the stage's jobs."""
        return b"parley:{0}:%s" % JOBS[stage].value.encode()

    def session(self, session: str) -> bytes:
        """Hash: `settings`, and the vad worker's `checkpoint`."""
        return b"parley:{0}:session:%s" % session.encode()

    def history(self, session: str) -> bytes:
        """The conversation so far, as a frame `History`."""
        return b"parley:{0}:history:%s" % session.encode()

    def of_session(self, session: str) -> list[bytes]:
        """Every key that belongs to this session alone."""
        streams = [self.stream(place, session) for place in (StreamKind.IN, StreamKind.SPEECH, StreamKind.OUT)]
        return [*streams, self.session(session), self.history(session)]

    def dead(self, stage: str) -> bytes:
        return b"parley:{0}:dead:%s" % stage.encode()

    def ready(self, stage: str) -> bytes:
        """Sorted set of the stage's ready workers, scored by when they must have renewed it."""
        return b"parley:{0}:ready:%s" % stage.encode()

    def load(self, stage: str) -> bytes:
        """Hash: by consumer, how busy each of the stage's ready workers is, as JSON."""
        return b"parley:{0}:load:%s" % stage.encode()

    def turns(self) -> bytes:
        """Stream: a record of each turn that is over."""
        return b"parley:{0}:turns"

    def wake(self, consumer: str) -> bytes:
        return b"parley:{0}:wake:%s" % consumer.encode()

    def voices(self) -> bytes:
        """Hash: of each cloned voice, by name, all but its sound."""
        return b"parley:{0}:voices"

    def recordings(self) -> bytes:
        """Hash: the sound of the cloned voices, by digest."""
        return b"parley:{0}:recordings"

    def stop_channel(self) -> bytes:
        """Pub/Sub: work on turns below a number is in vain."""
        return b"parley:stop"


_SHARED = frozenset(JOBS.values())
