"""The streams: their keys, their lengths, and the routes of each stage's frames. Pure."""

from enum import Enum

from shared.protocol import frames as fr
from shared.protocol.frames import Frame


class StreamKind(Enum):
    """A kind of stream. Consumer groups read the jobs streams; the others are read in order, without a group."""

    IN = "in"
    SPEECH = "speech"
    OUT = "out"
    EVENTS = "events"
    JOBS_VAD = "jobs:vad"
    JOBS_ASR = "jobs:asr"
    JOBS_LLM = "jobs:llm"
    JOBS_TTS = "jobs:tts"


JOBS = {"vad": StreamKind.JOBS_VAD, "asr": StreamKind.JOBS_ASR, "llm": StreamKind.JOBS_LLM, "tts": StreamKind.JOBS_TTS}
"""The stream of each stage's jobs."""

# If a frame goes to several streams, the edge's log (OUT) comes last: every frame in the log has been handed on.
ROUTES: dict[str, dict[type[Frame], tuple[StreamKind, ...]]] = {
    "edge": {
        fr.SessionStarted: (StreamKind.OUT,),  # and to JOBS_VAD: see `Records.request_listener`
        fr.SessionEnded: (StreamKind.IN, StreamKind.OUT),
        fr.SessionResumed: (StreamKind.OUT,),
        fr.EventSent: (StreamKind.EVENTS,),
        fr.EventsReceived: (StreamKind.EVENTS,),
        fr.MessageReceived: (StreamKind.EVENTS,),
        fr.SettingsChanged: (StreamKind.IN,),
        fr.AudioChunk: (StreamKind.IN,),
        fr.TextTyped: (StreamKind.IN,),
        fr.InputCommitted: (StreamKind.IN,),
        fr.InputCleared: (StreamKind.IN,),
        fr.ReplyRequested: (StreamKind.IN,),
        fr.TranscriptFinal: (StreamKind.JOBS_LLM, StreamKind.OUT),
        fr.TurnAudioReady: (StreamKind.JOBS_LLM, StreamKind.OUT),
        fr.TurnInterrupted: (StreamKind.OUT,),
        fr.PlayedOut: (StreamKind.OUT,),
        fr.ReplySentence: (StreamKind.JOBS_TTS, StreamKind.OUT),  # the preview of a voice
    },
    "vad": {
        fr.AudioChunk: (StreamKind.SPEECH,),
        fr.SpeechStarted: (StreamKind.JOBS_ASR, StreamKind.OUT),
        fr.SpeechPaused: (StreamKind.SPEECH, StreamKind.OUT),
        fr.SpeechResumed: (StreamKind.SPEECH, StreamKind.OUT),
        fr.TurnCommitted: (StreamKind.SPEECH, StreamKind.OUT),
        fr.TurnDiscarded: (StreamKind.SPEECH, StreamKind.OUT),
        fr.TurnAudioReady: (StreamKind.JOBS_LLM, StreamKind.OUT),
        fr.TranscriptFinal: (StreamKind.JOBS_LLM, StreamKind.OUT),
        fr.StageFailed: (StreamKind.OUT,),
    },
    "asr": {
        fr.TranscriptPartial: (StreamKind.OUT,),
        fr.PauseTranscribed: (StreamKind.IN,),
        fr.TranscriptFinal: (StreamKind.JOBS_LLM, StreamKind.OUT),
        fr.StageFailed: (StreamKind.OUT,),
    },
    "llm": {
        fr.ReplyStarted: (StreamKind.OUT,),
        fr.ReplyDelta: (StreamKind.OUT,),
        fr.ReplySentence: (StreamKind.JOBS_TTS, StreamKind.OUT),
        fr.ToolCalled: (StreamKind.OUT,),
        fr.ReplyDone: (StreamKind.OUT,),
        fr.SummaryRequested: (StreamKind.JOBS_LLM,),
        fr.VoiceChunk: (StreamKind.OUT,),  # from a chat model that speaks
        fr.VoiceDone: (StreamKind.OUT,),
        fr.StageFailed: (StreamKind.OUT,),
    },
    "tts": {
        fr.VoiceChunk: (StreamKind.OUT,),
        fr.VoiceDone: (StreamKind.OUT,),
        fr.StageFailed: (StreamKind.OUT,),
    },
}

JOB_KINDS: dict[str, frozenset[type[Frame]]] = {
    stage: frozenset(frame for routes in ROUTES.values() for frame, kinds in routes.items() if jobs in kinds)
    for stage, jobs in JOBS.items()
} | {"vad": frozenset({fr.SessionStarted})}
"""The frames that are jobs of each stage."""

MAXLEN: dict[StreamKind, int] = {
    StreamKind.IN: 1_500,  # 30 s of 20 ms chunks: several times as much as a takeover needs
    StreamKind.SPEECH: 1_200,  # the longest turn in 100 ms chunks, twice
    StreamKind.OUT: 4_000,
    StreamKind.EVENTS: 8_000,  # of as many turns as there are in OUT
    **dict.fromkeys(JOBS.values(), 100_000),
}
"""Approximate number of entries at which a stream is trimmed. Finished jobs are deleted much earlier."""

DEAD_MAXLEN = 1_000
TURNS_MAXLEN = 5_000
PRESENT = "@"
"""Marks the names of consumers that are subscribed to their presence channel while they live."""
PRESENCE_PREFIX = b"parley:present:"
SESSION_TTL_S = 45
"""A session's keys expire this long after its last keep-alive: its edge has died, or the client did not come back."""
ENDED_TTL_S = 10
"""The keys of a session that has ended expire after this time, in which its vad worker reads the end."""


class Keys:
    """Names of the broker's keys. All have the hash tag `{0}`, so that commands and scripts may use several of them."""

    def stream(self, kind: StreamKind, session: str) -> bytes:
        """Return the stream of that kind for this session; all sessions share the jobs streams."""
        if kind in SHARED:
            return b"parley:{0}:%s" % kind.value.encode()
        return b"parley:{0}:%s:%s" % (kind.value.encode(), session.encode())

    def jobs(self, stage: str) -> bytes:
        return b"parley:{0}:%s" % JOBS[stage].value.encode()

    def data(self) -> bytes:
        """A random id of everything that the broker stores. It changes when the broker has lost it."""
        return b"parley:{0}:data"

    def session(self, session: str) -> bytes:
        """Hash: `settings`, the `job` of its vad worker and that worker's `checkpoint`, the `line` that serves the session, the
        hash of its resume `token`, its `resume_points`, and the `summary` of a long conversation."""
        return b"parley:{0}:session:%s" % session.encode()

    def history(self, session: str) -> bytes:
        """The conversation so far, as a `History` frame."""
        return b"parley:{0}:history:%s" % session.encode()

    def of_session(self, session: str) -> list[bytes]:
        streams = [self.stream(kind, session) for kind in _OF_SESSION]
        return [*streams, self.session(session), self.history(session)]

    def dead(self, stage: str) -> bytes:
        """Stream: what a stage gave up, with the reason."""
        return b"parley:{0}:dead:%s" % stage.encode()

    def dead_content(self, stage: str) -> bytes:
        """Stream: the bytes of the dead letters, by the same `id`. They are kept for less time."""
        return b"parley:{0}:dead-content:%s" % stage.encode()

    def ready(self, stage: str) -> bytes:
        """Sorted set: the stage's ready workers, scored by the time (ms) at which they expire."""
        return b"parley:{0}:ready:%s" % stage.encode()

    def load(self, stage: str) -> bytes:
        """Hash: the load of each ready worker of the stage as JSON, by consumer."""
        return b"parley:{0}:load:%s" % stage.encode()

    def waiting(self, stage: str) -> bytes:
        """What a worker of the stage waits for before it is ready, as JSON. It expires, because workers can die."""
        return b"parley:{0}:waiting:%s" % stage.encode()

    def turns(self) -> bytes:
        """Stream: a record of each finished turn."""
        return b"parley:{0}:turns"

    def wake(self, consumer: str) -> bytes:
        return b"parley:{0}:wake:%s" % consumer.encode()

    def voices(self) -> bytes:
        """Hash: the metadata of each cloned voice, by name."""
        return b"parley:{0}:voices"

    def secret(self, digest: str) -> bytes:
        """What the holder of a client secret may do, as JSON, by the SHA-256 of the secret."""
        return b"parley:{0}:secret:%s" % digest.encode()

    def secret_uses(self, digest: str) -> bytes:
        """How many sessions the client secret has opened."""
        return b"parley:{0}:secret:%s:uses" % digest.encode()

    def recordings(self) -> bytes:
        """Hash: the recordings of the cloned voices, by digest."""
        return b"parley:{0}:recordings"

    def presence_channel(self, consumer: str) -> bytes:
        """Pub/Sub channel that nobody publishes to: a consumer is subscribed to its own for as long as it lives."""
        return PRESENCE_PREFIX + consumer.encode()

    def stop_channel(self) -> bytes:
        """Pub/Sub channel: tells workers to stop work on stale turns."""
        return b"parley:stop"


SHARED = frozenset(JOBS.values())
"""Streams of all sessions together."""
_OF_SESSION = (StreamKind.IN, StreamKind.SPEECH, StreamKind.OUT, StreamKind.EVENTS)
