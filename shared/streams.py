"""The streams: their keys, how long they are kept, and which frame goes where from whom.

The one place that says it. Pure.
"""

from enum import Enum

from shared.frames import (
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
    TurnCommitted,
    TurnDiscarded,
    TurnHeard,
    TurnInterrupted,
    VoiceChunk,
    VoiceDone,
)


class Place(Enum):
    """A kind of stream. The jobs streams are read by consumer groups, the others plainly, in order."""

    IN = "in"
    SPEECH = "speech"
    OUT = "out"
    JOBS_VAD = "jobs:vad"
    JOBS_ASR = "jobs:asr"
    JOBS_LLM = "jobs:llm"
    JOBS_TTS = "jobs:tts"


JOBS = {"vad": Place.JOBS_VAD, "asr": Place.JOBS_ASR, "llm": Place.JOBS_LLM, "tts": Place.JOBS_TTS}
"""The stream that hands out each stage's work."""

# Where one frame goes to several places, the edge's log comes last: what stands in the log was handed on.
ROUTES: dict[str, dict[type[Frame], tuple[Place, ...]]] = {
    "edge": {
        SessionStarted: (Place.JOBS_VAD, Place.OUT),
        SessionEnded: (Place.IN, Place.OUT),
        SettingsChanged: (Place.IN,),
        AudioChunk: (Place.IN,),
        TextTyped: (Place.IN,),
        InputCommitted: (Place.IN,),
        InputCleared: (Place.IN,),
        ReplyRequested: (Place.IN,),
        TranscriptFinal: (Place.JOBS_LLM, Place.OUT),
        TurnHeard: (Place.JOBS_LLM, Place.OUT),
        TurnInterrupted: (Place.OUT,),
        PlayedOut: (Place.OUT,),
    },
    "vad": {
        AudioChunk: (Place.SPEECH,),
        SpeechStarted: (Place.JOBS_ASR, Place.OUT),
        SpeechPaused: (Place.SPEECH, Place.OUT),
        SpeechResumed: (Place.SPEECH, Place.OUT),
        TurnCommitted: (Place.SPEECH, Place.OUT),
        TurnDiscarded: (Place.SPEECH, Place.OUT),
        TurnHeard: (Place.JOBS_LLM, Place.OUT),
        TranscriptFinal: (Place.JOBS_LLM, Place.OUT),
        StageFailed: (Place.OUT,),
    },
    "asr": {
        TranscriptPartial: (Place.OUT,),
        TranscriptFinal: (Place.JOBS_LLM, Place.OUT),
        StageFailed: (Place.OUT,),
    },
    "llm": {
        ReplyStarted: (Place.OUT,),
        ReplyDelta: (Place.OUT,),
        ReplySentence: (Place.JOBS_TTS, Place.OUT),
        ToolCalled: (Place.OUT,),
        ReplyDone: (Place.OUT,),
        VoiceChunk: (Place.OUT,),  # of a model that speaks itself
        VoiceDone: (Place.OUT,),
        StageFailed: (Place.OUT,),
    },
    "tts": {
        VoiceChunk: (Place.OUT,),
        VoiceDone: (Place.OUT,),
        StageFailed: (Place.OUT,),
    },
}

KEEP: dict[Place, int] = {
    Place.IN: 1_500,  # 30 s of 20 ms chunks: what a takeover needs, several times over
    Place.SPEECH: 1_200,  # the longest turn in 100 ms chunks, twice
    Place.OUT: 4_000,
    Place.JOBS_VAD: 100_000,
    Place.JOBS_ASR: 100_000,
    Place.JOBS_LLM: 100_000,
    Place.JOBS_TTS: 100_000,
}
"""Entries that a stream keeps, roughly; work is deleted when it is done, long before."""

DEAD_KEEP = 1_000
TURNS_KEEP = 5_000
SESSION_TTL_S = 120
"""A session's keys outlive its last sign of life by this."""


class Keys:
    """Names of the broker's keys. All have the hash tag `{0}`, so that scripts and reads of several keys stay in one slot."""

    def stream(self, place: Place, session: str) -> bytes:
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
        streams = [self.stream(place, session) for place in (Place.IN, Place.SPEECH, Place.OUT)]
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
