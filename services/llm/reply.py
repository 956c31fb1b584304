"""One reply while it is generated: its text, and its sentences for the tts stage or the speech of the model itself."""

from collections.abc import Sequence

from services.llm.spoken import SpokenSentences
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
    """Whether the reply is spoken, and not only shown as text."""
    return settings.spoken if job.options.spoken is None else job.options.spoken


class Reply:
    """Publishes the frames of one reply, and continues after the frames of an earlier attempt."""

    def __init__(
        self,
        work: Work,
        job: TranscriptFinal | TurnAudioReady,
        settings: SessionSettings,
        first_words: int,
        rate_hz: int,
    ) -> None:
        """`first_words`: see `SpokenSentences`. `rate_hz`: rate of the model's own voice; 0: the tts stage speaks."""
        self._needs_tts = is_spoken(job, settings) and not rate_hz
        self._work, self._job, self._settings, self._rate_hz = work, job, settings, rate_hz
        self._spoken = SpokenSentences(settings.language, first_words)
        self._sentences = self._earlier_sentences = 0
        self._samples = self._earlier_samples = 0
        self._calls: list[ToolCall] = []
        self._begun = False
        self.text = ""

    @property
    def is_empty(self) -> bool:
        """Nothing was said or called, in this attempt or an earlier one."""
        return not (self.text.strip() or self._calls or self._samples or self._earlier_samples)

    def add(self, delta: str) -> None:
        """Publish a delta of text and the sentences that it completes."""
        if not delta:
            return
        self._begin()
        job = self._job
        self._work.publish(ReplyDelta(job.turn, job.revision, len(self.text), delta), urgent=False)
        self.text += delta
        if self._needs_tts:
            self._publish_sentences(self._spoken.feed(delta))

    def speak(self, piece: Speech) -> None:
        """Publish a slice of the model's own voice. The whole reply is one sentence.

        A second attempt publishes all slices again: the edge drops the samples that it already has.
        """
        self._begin()
        job, offset = self._job, self._samples
        if not offset:
            self._work.note("first audio", "parley.first_audio_s")
        self._work.publish(
            VoiceChunk(job.turn, job.revision, 0, offset, self._rate_hz, piece.pcm, piece.words), urgent=offset == 0
        )
        self._samples += len(piece.pcm) // 2

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._work.note("first token", "gen_ai.response.time_to_first_chunk")

    def call(self, call: ToolCall) -> None:
        """Keep a tool call until the end. The last frames and the job's completion are one atomic step, so that a
        second attempt cannot repeat the call.
        """
        self._calls.append(call)

    def done(self, cut: str) -> Sequence[Frame]:
        """Publish the last sentence, and return the frames that complete the job. `cut`: see `ReplyDone`."""
        if self._needs_tts:
            self._publish_sentences(self._spoken.finish())
        at = (self._job.turn, self._job.revision)
        frames: list[Frame] = [ToolCalled(*at, call) for call in self._calls]
        if samples := max(self._samples, self._earlier_samples):
            self._sentences = 1
            frames.append(VoiceDone(*at, 0, samples))
        return [*frames, ReplyDone(*at, self.text, self._sentences, cut)]

    def _publish_sentences(self, sentences: Sequence[str]) -> None:
        """Publish sentences for the tts stage, except those that an earlier attempt has published."""
        job, settings = self._job, self._settings
        for text in sentences:
            if self._sentences >= self._earlier_sentences:
                spoken_as = (settings.voice, settings.speed, settings.language)
                place = (job.session, job.turn, job.revision, self._sentences)
                self._work.publish(ReplySentence(*place, text, *spoken_as, self._work.trace))
            self._sentences += 1

    def resume(self, log: Sequence[Frame]) -> None:
        """Continue after the frames that an earlier attempt published, so that no sentence is played twice."""
        at = (self._job.turn, self._job.revision)
        for frame in log:
            match frame:
                case ReplyDelta(turn, revision, offset, text) if (turn, revision) == at and offset <= len(self.text):
                    self.text = self.text[:offset] + text
                case ReplySentence(turn=turn, revision=revision, index=index) if (turn, revision) == at:
                    self._earlier_sentences = max(self._earlier_sentences, index + 1)
                case VoiceChunk(turn, revision, offset=offset, pcm=pcm) if (turn, revision) == at and self._rate_hz:
                    self._earlier_samples = max(self._earlier_samples, offset + len(pcm) // 2)
                case _:
                    pass
        if self._needs_tts:
            self._publish_sentences(self._spoken.feed(self.text))


def is_unvoiced(job: TranscriptFinal | TurnAudioReady, log: Sequence[Frame]) -> bool:
    """Whether an earlier attempt published text of this reply and no speech: the tts stage can then speak all of it."""
    kinds = {
        type(frame)
        for frame in log
        if isinstance(frame, ReplyDelta | VoiceChunk) and (frame.turn, frame.revision) == (job.turn, job.revision)
    }
    return kinds == {ReplyDelta}
