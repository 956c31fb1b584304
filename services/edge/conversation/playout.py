"""Playout: puts the audio of a reply in order, each sample exactly once, and knows how much of it was heard.

Pure: callers pass the time. A sample that has arrived before is dropped, what follows a gap waits. Positions are samples
of the reply at the client's rate.
"""

from collections import deque
from dataclasses import dataclass, field

from services.edge.conversation.heard import SentenceSpan
from shared.audio.pcm import Resampler
from shared.protocol.frames import VoiceChunk
from shared.protocol.session import Word

LATENESS_S = 0.3
"""A client plays what it was sent later, by this time at most: buffer, network, sound card."""
BEHIND_S = 3.0
"""A report of the client is not believed where it is further behind the send clock than this."""
INAUDIBLE_S = 0.005
"""A gap shorter than this is not an underrun: a resampler holds this much back until the last sentence is known."""
SLICES_PER_S = 5
"""Audio that is sent again is cut into slices of this length."""
ALL = 2**62
"""More samples than any reply has."""
WAITING_LIMIT = 4_000
"""Slices that wait for an earlier one; more are dropped, and arrive again with the slice that fills the gap."""


@dataclass(slots=True)
class _Sentence:
    """The part of a sentence that has arrived."""

    fence: int = 0
    got: int = 0
    """Samples taken in order, at the engine's rate."""
    total: int | None = None
    waiting: dict[int, VoiceChunk] = field(default_factory=dict)
    begin: int | None = None
    """Where it begins in the reply, once something of it has arrived."""
    end: int | None = None
    """Where it ends in the reply, once all of it has arrived."""
    words: list[Word] = field(default_factory=list)
    rate_hz: int = 0


class Playout:
    """The audio of one reply."""

    def __init__(self, rate_hz: int, ahead_s: float, *, keeps: bool = False) -> None:
        """`keeps`: what was sent and not yet heard can be sent again, for a client that cannot pause."""
        self.rate_hz = rate_hz
        self.sent = 0
        """Samples released."""
        self.late = 0
        """Samples dropped because they had arrived before."""
        self.underruns = 0
        """How often the client had played everything before the next audio arrived."""
        self.paused = False
        self._broken = False
        self._restarted = False  # nothing was sent since a pause: the silence is not an underrun
        self.began_s: float | None = None
        """When the first sample was released."""
        self._ahead = int(ahead_s * rate_hz)
        self._sentences: dict[int, _Sentence] = {}
        self._current = 0
        self._expected: int | None = None
        self._ready: deque[bytes] = deque()
        self.received_samples = 0
        """Samples that have arrived in order, released or not."""
        self._resampler: Resampler | None = None
        self._resampler_hz = 0
        self._heard = 0  # samples played at `_heard_at_s`; it goes on from there
        self._heard_at_s: float | None = None
        self._reported = False
        self._restricted: int | None = None
        self._kept: deque[bytes] | None = deque() if keeps else None  # what was sent, from `_kept_from` on
        self._kept_from = 0

    # -- what comes in ----------------------------------------------------------------------------

    def add(self, chunk: VoiceChunk, fence: int) -> None:
        """Take a slice; slices come in any order. Those of an older fence are dropped: a successor sends them again."""
        sentence = self._sentence(chunk.sentence)
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
        """Take the length of a sentence, in samples at the engine's rate."""
        self._sentence(index).total = samples
        self._advance()

    def expect(self, sentences: int) -> None:
        self._expected = sentences
        self._advance()

    def cease(self) -> None:
        """Expect no more than has arrived in order: a sentence of which a part is there ends with it."""
        if not self.received_samples:
            self._sentences.clear()
            self._current = 0
        begun = self._sentences.get(self._current)
        self._sentences = {index: one for index, one in self._sentences.items() if index < self._current}
        if begun is not None and begun.got:
            begun.waiting.clear()
            begun.total = begun.got
            self._sentences[self._current] = begun
            self._expected = self._current + 1
        else:
            self._expected = self._current
        self._advance()

    def append(self, pcm: bytes, rate_hz: int) -> None:
        """One more sentence follows what there is."""
        index, self._expected = self._current, self._current + 1
        self.add(VoiceChunk(0, 0, index, 0, rate_hz, pcm, ()), 0)
        self.sentence_done(index, len(pcm) // 2)

    @property
    def next_sentence(self) -> int:
        """Index of the first sentence that has not arrived completely."""
        return self._current

    @property
    def fully_received(self) -> bool:
        return self._expected is not None and self._current >= self._expected

    @property
    def fully_sent(self) -> bool:
        return self.fully_received and not self._ready

    # -- what goes out ----------------------------------------------------------------------------

    def release(self, now_s: float) -> list[bytes]:
        """Return the audio that may be sent now."""
        released: list[bytes] = []
        if self.paused:
            return released
        heard = self.heard(now_s)
        if self._ready and heard == self.sent:  # the client has played everything: it starts again with this
            missed = self.received_samples - self.sent > INAUDIBLE_S * self.rate_hz
            self.underruns += self.sent > 0 and missed and not self._restarted
            self._heard, self._heard_at_s = heard, now_s
        room = self._ahead - (self.sent - heard) if self._restricted is None else self._restricted - self.sent
        while self._ready and room > 0:
            pcm = self._ready.popleft()
            if self._restricted is not None and len(pcm) // 2 > room:
                self._ready.appendleft(pcm[2 * room :])
                pcm = pcm[: 2 * room]
            released.append(pcm)
            self.sent += len(pcm) // 2
            room -= len(pcm) // 2
        if released:
            self._restarted = False
            self.began_s = now_s if self.began_s is None else self.began_s
        if self._kept is not None:
            self._kept.extend(released)
            while self._kept and self._kept_from + len(self._kept[0]) // 2 <= heard - int(BEHIND_S * self.rate_hz):
                self._kept_from += len(self._kept.popleft()) // 2
        return released

    def wait_s(self, now_s: float) -> float | None:
        """Return the time until more may be sent, in seconds; None if nothing waits."""
        if not self._ready or self.paused or self._restricted is not None:
            return None
        excess = self.sent - self.heard(now_s) - self._ahead
        return max(0.01, excess / self.rate_hz + 0.02)

    def restrict(self, samples: int) -> None:
        """Release only these first samples, which the client has already received, as soon as they arrive."""
        self._restricted = samples

    def lift(self) -> None:
        """Release what follows. The silence since then is not an underrun."""
        self._restricted = None
        self._restarted = True

    # -- what was heard ---------------------------------------------------------------------------

    def report(self, samples: int, now_s: float) -> None:
        """Take the client's report of how far it has played."""
        least = self._heard if self._reported and not self.paused else self._kept_from
        self._heard = min(max(samples, least), self.sent)
        self._heard_at_s, self._reported = now_s, True

    def heard(self, now_s: float) -> int:
        """Samples played by now: as the client reported, going on since; by the send clock where it reports nothing."""
        if self._heard_at_s is None:
            return 0
        if self.paused:
            return self._heard
        return min(self.sent, self._heard + round((now_s - self._heard_at_s) * self.rate_hz))

    def heard_out_s(self, now_s: float) -> float:
        """When the client will have played, or has played, all that has arrived; 0.0: nothing has."""
        if not self.received_samples:
            return 0.0
        begin_s = now_s if self.paused or self._heard_at_s is None else self._heard_at_s
        return begin_s + (self.received_samples - self._heard) / self.rate_hz

    @property
    def steady(self) -> bool:
        """It plays without a pause or an underrun since its beginning."""
        return self.sent > 0 and not self._broken and not self.underruns

    def playing(self, now_s: float) -> bool:
        """Whether the client may still have something to play."""
        return self._heard_at_s is not None and (not self.fully_sent or self.paused or self.left_s(now_s) > 0)

    def left_s(self, now_s: float) -> float:
        """Return the longest time that the client still plays what it was sent, in seconds."""
        if self._heard_at_s is None:
            return 0.0
        return self._heard_at_s + (self.sent - self._heard) / self.rate_hz + LATENESS_S - now_s

    def pause(self, now_s: float) -> None:
        """Stop: the client falls silent, and nothing is released until `resume`."""
        self._heard, self.paused, self._broken = self.heard(now_s), True, True

    def resume(self, now_s: float) -> None:
        """Go on where it stopped; what was sent and not heard is released again, where it is kept."""
        self.paused = False
        if self._heard_at_s is not None:
            self._heard_at_s = now_s
        if self._kept is not None:
            again = b"".join(self._kept)[2 * (self._heard - self._kept_from) :]
            self._kept.clear()
            self._kept_from = self.sent = self._heard
            step = 2 * (self.rate_hz // SLICES_PER_S)
            for at in reversed(range(0, len(again), step)):
                self._ready.appendleft(again[at : at + step])
        self._restarted = self._heard == self.sent

    def sentences(self) -> list[SentenceSpan]:
        """The sentences of which something has arrived, in order."""
        found = []
        for _, one in sorted(self._sentences.items()):
            if one.begin is None:
                break
            scale = self.rate_hz / (one.rate_hz or self.rate_hz)
            words = tuple(
                (word.text, one.begin + round(word.start * scale), one.begin + round(word.end * scale))
                for word in one.words
            )
            found.append(SentenceSpan(one.begin, one.end, words))
        return found

    # -- order ------------------------------------------------------------------------------------

    def _sentence(self, index: int) -> _Sentence:
        found = self._sentences.get(index)
        if found is None:
            found = self._sentences[index] = _Sentence()
        return found

    def _advance(self) -> None:
        while (sentence := self._sentences.get(self._current)) is not None:
            if sentence.begin is None:
                sentence.begin = self.received_samples
            while (chunk := self._next(sentence)) is not None:
                fresh = chunk.pcm[2 * (sentence.got - chunk.offset) :]
                self.late += sentence.got - chunk.offset
                sentence.got += len(fresh) // 2
                sentence.rate_hz = chunk.rate_hz
                known = sentence.words[-1].start if sentence.words else -1
                sentence.words += [word for word in chunk.words if word.start > known]
                self._push(fresh, chunk.rate_hz)
            if sentence.total is None or sentence.got < sentence.total:
                break
            sentence.waiting.clear()
            self._current += 1
            if self._current == self._expected:
                self._push_rest()
            sentence.end = self.received_samples
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
            self.received_samples += len(pcm) // 2
