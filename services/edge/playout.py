"""Playout: puts a reply's audio in order, exactly once, and knows how much of it was heard.

Pure: the time is told to it. A sample that came before is dropped, a gap waits. Positions are samples of the
reply at the client's rate.
"""

from collections import deque
from dataclasses import dataclass, field

from shared.audio import Resampler
from shared.frames import VoiceChunk

LATENESS_S = 0.3
"""A client plays what it was sent up to so much later: buffer, network, sound card."""
WAITING_LIMIT = 4_000
"""Slices held for want of an earlier one; those beyond it are dropped, to be spoken again when the gap is filled."""


@dataclass(slots=True)
class _Sentence:
    """What is there of one sentence, in order and not."""

    fence: int = 0
    got: int = 0
    """Samples taken in order, at the engine's rate."""
    total: int | None = None
    waiting: dict[int, VoiceChunk] = field(default_factory=dict)
    end: int | None = None
    """Where it ends in the reply, once it was released whole."""


class Playout:
    """The audio of one reply."""

    def __init__(self, rate_hz: int, ahead_s: float) -> None:
        self.rate_hz = rate_hz
        self.sent = 0
        """Samples released."""
        self.late = 0
        """Samples dropped because they had come before."""
        self._ahead = int(ahead_s * rate_hz)
        self._sentences: dict[int, _Sentence] = {}
        self._current = 0
        self._expected: int | None = None
        self._ready: deque[bytes] = deque()
        self._resampler: Resampler | None = None
        self._resampler_hz = 0
        self._heard = 0  # samples played at `_heard_at_s`; it goes on from there
        self._heard_at_s: float | None = None
        self._reported = False

    # -- what comes in ----------------------------------------------------------------------------

    def add(self, chunk: VoiceChunk, fence: int) -> None:
        """A slice, in whatever order."""
        sentence = self._sentences.setdefault(chunk.sentence, _Sentence())
        if fence < sentence.fence or len(sentence.waiting) >= WAITING_LIMIT:
            return
        sentence.fence = fence
        end = chunk.offset + len(chunk.pcm) // 2
        if end <= sentence.got:
            self.late += len(chunk.pcm) // 2
            return
        held = sentence.waiting.get(chunk.offset)
        if held is None or len(held.pcm) < len(chunk.pcm):
            sentence.waiting[chunk.offset] = chunk
        self._advance()

    def sentence_done(self, index: int, samples: int) -> None:
        """This sentence has so many samples, at the engine's rate."""
        self._sentences.setdefault(index, _Sentence()).total = samples
        self._advance()

    def expect(self, sentences: int) -> None:
        """The reply has so many sentences."""
        self._expected = sentences
        self._advance()

    @property
    def complete(self) -> bool:
        """Everything that there is was released."""
        return self._expected is not None and self._current >= self._expected and not self._ready

    # -- what goes out ----------------------------------------------------------------------------

    def release(self, now_s: float) -> list[bytes]:
        """What may be sent now."""
        released: list[bytes] = []
        heard = self.heard(now_s)
        if self._ready and heard == self.sent:  # the client has nothing left to play: it begins anew with this
            self._heard, self._heard_at_s = heard, now_s
        room = self._ahead - (self.sent - heard)
        while self._ready and room > 0:
            pcm = self._ready.popleft()
            released.append(pcm)
            self.sent += len(pcm) // 2
            room -= len(pcm) // 2
        return released

    def wait_s(self, now_s: float) -> float | None:
        """How long until more may be sent; None if nothing waits."""
        if not self._ready:
            return None
        excess = self.sent - self.heard(now_s) - self._ahead
        return max(0.01, excess / self.rate_hz + 0.02)

    # -- what was heard ---------------------------------------------------------------------------

    def report(self, samples: int, now_s: float) -> None:
        """The client says how far it has played."""
        self._heard = min(max(samples, self._heard if self._reported else 0), self.sent)
        self._heard_at_s, self._reported = now_s, True

    def heard(self, now_s: float) -> int:
        """Samples played by now: as the client reported, going on since; by the send clock where it reports nothing."""
        if self._heard_at_s is None:
            return 0
        return min(self.sent, self._heard + round((now_s - self._heard_at_s) * self.rate_hz))

    def playing(self, now_s: float) -> bool:
        """Whether the client may still have something to play."""
        if self._heard_at_s is None:
            return False
        return not self.complete or now_s < self._heard_at_s + (self.sent - self._heard) / self.rate_hz + LATENESS_S

    def sentence_ends(self) -> list[int]:
        """Where each sentence that was released whole ends in the reply."""
        return [one.end for _, one in sorted(self._sentences.items()) if one.end is not None]

    # -- order ------------------------------------------------------------------------------------

    def _advance(self) -> None:
        while (sentence := self._sentences.get(self._current)) is not None:
            while (chunk := self._next(sentence)) is not None:
                fresh = chunk.pcm[2 * (sentence.got - chunk.offset) :]
                self.late += sentence.got - chunk.offset
                sentence.got += len(fresh) // 2
                self._push(fresh, chunk.rate_hz)
            if sentence.total is None or sentence.got < sentence.total:
                break
            sentence.waiting.clear()
            self._current += 1
            if self._current == self._expected:
                self._push_rest()
            sentence.end = self.sent + sum(len(pcm) for pcm in self._ready) // 2
        if self._expected is not None and self._current >= self._expected:
            self._push_rest()

    def _next(self, sentence: _Sentence) -> VoiceChunk | None:
        chunk = sentence.waiting.pop(sentence.got, None)
        if chunk is not None or not sentence.waiting:
            return chunk
        for offset, held in list(sentence.waiting.items()):
            if offset < sentence.got:
                del sentence.waiting[offset]
                if offset + len(held.pcm) // 2 > sentence.got:
                    return held
        return None

    def _push(self, pcm: bytes, rate_hz: int) -> None:
        if self._resampler is None or self._resampler_hz != rate_hz:
            self._push_rest()
            self._resampler, self._resampler_hz = Resampler(rate_hz, self.rate_hz), rate_hz
        self._queue(self._resampler.process(pcm))

    def _push_rest(self) -> None:
        if self._resampler is not None:
            self._queue(self._resampler.flush())
            self._resampler = None

    def _queue(self, pcm: bytes) -> None:
        if pcm:
            self._ready.append(pcm)
