"""One reply as it grows: deltas for the eye, sentences for who speaks them, or the speech of a model that does so itself."""

from collections.abc import Sequence

from services.llm.sentences import SentenceCutter
from services.llm.spoken import speakable
from shared.protocol.frames import (
    Frame,
    ReplyDelta,
    ReplyDone,
    ReplySentence,
    ToolCalled,
    TranscriptFinal,
    TurnAudioReady,
    VoiceChunk,
    VoiceDone,
)
from shared.protocol.session import SessionSettings, ToolCall
from shared.protocol.speech import Speech
from shared.worker.work import Work


def is_spoken(job: TranscriptFinal | TurnAudioReady, settings: SessionSettings) -> bool:
    """Whether the reply is to be heard, and not only read."""
    return settings.spoken if job.options.spoken is None else job.options.spoken


class Reply:
    """What is published of it, and what was before, by an attempt that was cut off."""

    def __init__(
        self,
        work: Work,
        job: TranscriptFinal | TurnAudioReady,
        settings: SessionSettings,
        first_words: int,
        rate_hz: int,
    ) -> None:
        """`rate_hz` is that of the model's own voice; 0: what is to be heard of it is given to be spoken."""
        self._given = is_spoken(job, settings) and not rate_hz
        self._work, self._job, self._settings, self._rate_hz = work, job, settings, rate_hz
        self._cutter = SentenceCutter(settings.language, first_words)
        self._sentences = self._said_before = 0
        self._voiced = self._voiced_before = 0  # samples
        self._calls: list[ToolCall] = []
        self._begun = False
        self.text = ""

    def add(self, delta: str) -> None:
        if not delta:
            return
        self._begin()
        job = self._job
        self._work.publish(ReplyDelta(job.turn, job.revision, len(self.text), delta), urgent=False)
        self.text += delta
        if self._given:
            self._say(self._cutter.feed(delta))

    def speak(self, piece: Speech) -> None:
        """The model's own voice: all of it is one sentence. A second attempt speaks it again: the edge drops what it has."""
        self._begin()
        job, offset = self._job, self._voiced
        if not offset:
            self._work.note("first audio", "parley.first_audio_s")
        self._work.publish(
            VoiceChunk(job.turn, job.revision, 0, offset, self._rate_hz, piece.pcm, piece.words), urgent=offset == 0
        )
        self._voiced += len(piece.pcm) // 2

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._work.note("first token", "gen_ai.response.time_to_first_chunk")

    def call(self, call: ToolCall) -> None:
        """Kept to the end, as what must not be done twice: the last frames and the end of the work are one step."""
        self._calls.append(call)

    def done(self) -> Sequence[Frame]:
        if self._given:
            self._say(self._cutter.finish())
        at = (self._job.turn, self._job.revision)
        frames: list[Frame] = [ToolCalled(*at, call) for call in self._calls]
        if samples := max(self._voiced, self._voiced_before):
            self._sentences = 1
            frames.append(VoiceDone(*at, 0, samples))
        return [*frames, ReplyDone(*at, self.text, self._sentences)]

    def _say(self, pieces: Sequence[str]) -> None:
        """Give these to be spoken, but for what an earlier attempt has given."""
        job, settings = self._job, self._settings
        for piece in pieces:
            if text := speakable(piece):
                if self._sentences >= self._said_before:
                    spoken_as = (settings.voice, settings.speed, settings.language)
                    place = (job.session, job.turn, job.revision, self._sentences)
                    self._work.publish(ReplySentence(*place, text, *spoken_as, self._work.trace))
                self._sentences += 1

    def resume(self, log: Sequence[Frame]) -> None:
        """An earlier attempt was cut off: go on after what it said, so that nobody hears anything twice."""
        at = (self._job.turn, self._job.revision)
        for frame in log:
            match frame:
                case ReplyDelta(turn, revision, offset, text) if (turn, revision) == at and offset <= len(self.text):
                    self.text = self.text[:offset] + text
                case ReplySentence(turn=turn, revision=revision, index=index) if (turn, revision) == at:
                    self._said_before = max(self._said_before, index + 1)
                case VoiceChunk(turn, revision, offset=offset, pcm=pcm) if (turn, revision) == at and self._rate_hz:
                    self._voiced_before = max(self._voiced_before, offset + len(pcm) // 2)
                case _:
                    pass
        if self._given:
            self._say(self._cutter.feed(self.text))


def is_mute(job: TranscriptFinal | TurnAudioReady, log: Sequence[Frame]) -> bool:
    """An earlier attempt has written something of this reply, and spoken nothing: others can still speak all of it."""
    kinds = {
        type(frame)
        for frame in log
        if isinstance(frame, ReplyDelta | VoiceChunk) and (frame.turn, frame.revision) == (job.turn, job.revision)
    }
    return kinds == {ReplyDelta}
