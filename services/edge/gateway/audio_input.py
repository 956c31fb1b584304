"""A session's audio input: converts it to 16 kHz chunks numbered in samples, and forwards them to the vad worker.

Excess audio is dropped and counted, and the client is warned; one that goes on is closed.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from services.edge.client.codec import Codec
from shared.audio.pcm import Resampler
from shared.bus.channel import Channel
from shared.bus.session_store import SessionStore
from shared.observability import metrics
from shared.protocol.frames import AudioChunk
from shared.protocol.session import RATE_HZ

BURST_S = 30.0
"""Audio may be this far ahead of real time, so that a client can send a short recording in one burst."""
FASTEST = 1.5
"""The highest sustained rate, in multiples of real time."""
DROPPED_LIMIT_S = 300.0
"""Seconds of audio that may be dropped: at 50 times real time that is after 6 s."""
HELD_LIMIT_S = 600.0
"""Longest turn that the client ends itself (push to talk). Its further audio is refused until the client commits or clears it."""
BACKLOG_LIMIT = 5_000
"""Unanswered broker commands above which audio is dropped instead of queued."""
ARRIVALS_KEPT = 256
"""Audio messages whose arrival time is kept: 5 s of 20 ms messages."""
WARNING_PERIOD_S = 1.0
"""Shortest time between two warnings about dropped audio."""


class AudioInput:
    """The audio input of one client."""

    def __init__(
        self,
        bus: SessionStore,
        channel: Channel,
        codec: Codec,
        warn: Callable[[str, str], None],
        close: Callable[[int, str], None],
    ) -> None:
        """`warn(code, message)` sends a warning to the client, `close(code, reason)` ends its connection. The real-time limit
        counts from now."""
        self._bus, self._channel, self._codec, self._warn, self._close = bus, channel, codec, warn, close
        self._loop = asyncio.get_running_loop()
        self._began_s = self._loop.time()
        self._warned_at_s = 0.0
        self._arrivals: deque[tuple[int, float]] = deque(maxlen=ARRIVALS_KEPT)  # samples accepted, time in s
        self._resampler: Resampler | None = None  # made at the first audio: the client may set the rate before
        self._received = self._first = 0  # samples accepted, at 16 kHz, and of them before this connection
        self._turn_first = 0  # samples accepted before the turn that the client ends itself
        self.dropped = 0
        """Samples at 16 kHz that were dropped because they arrived too fast."""

    @property
    def received_s(self) -> float:
        """Seconds of audio accepted on this connection."""
        return (self._received - self._first) / RATE_HZ

    @property
    def samples(self) -> int:
        """The number of the next sample, at 16 kHz."""
        return self._received

    def go_on_from(self, sample: int) -> None:
        """The first audio on this connection begins with this sample of the session."""
        self._received = self._first = self._turn_first = sample

    def begin_turn(self) -> None:
        """The client has ended or cleared the turn that it holds, or begins to hold one."""
        self._turn_first = self._received

    def age_s(self, sample: int) -> float:
        """Seconds since the microphone recorded this sample, estimated from the arrival of its message.

        The number of samples does not measure time: a client may stop sending, or send a recording faster than real time.
        """
        now_s = self._loop.time()
        end, arrived_s = sample, now_s
        for accepted, at_s in reversed(self._arrivals):
            if accepted <= sample:
                break
            end, arrived_s = accepted, at_s
        return now_s - arrived_s + (end - sample) / RATE_HZ

    def take(self, pcm: bytes, *, held: bool = False) -> None:
        """Take the next samples, s16le at the client's rate. `held`: they belong to a turn that the client ends itself."""
        if self._resampler is None:
            self._resampler = Resampler(self._codec.rate_hz, RATE_HZ)
        now_s, offset = self._loop.time(), self._received
        expected = len(pcm) // 2 * RATE_HZ // self._codec.rate_hz
        if offset - self._first + expected > RATE_HZ * (BURST_S + FASTEST * (now_s - self._began_s)):
            self.dropped += expected  # later samples are numbered as if these had never arrived
            self._drop("audio_too_fast", "audio arrives much faster than real time: the excess is dropped")
            if self.dropped > DROPPED_LIMIT_S * RATE_HZ:
                self._close(1008, "audio arrives much faster than real time")
            return
        if held and offset - self._turn_first + expected > RATE_HZ * HELD_LIMIT_S:
            self._drop(
                "turn_too_long",
                f"a turn that the client ends has at most {HELD_LIMIT_S:g} s: what follows is dropped until a commit or a clear",
            )
            return
        pcm = self._resampler.process(pcm)
        self._received += len(pcm) // 2
        self._arrivals.append((self._received, now_s))
        if not pcm:
            return  # the resampler has no complete sample yet
        if self._bus.writer.backlog > BACKLOG_LIMIT:
            self._drop("broker_slow", "the broker does not keep up: audio is dropped")
        else:
            self._channel.publish(AudioChunk(offset, pcm), urgent=False)

    def _drop(self, code: str, message: str) -> None:
        metrics.dropped.labels(code).inc()
        now_s = self._loop.time()
        if now_s - self._warned_at_s > WARNING_PERIOD_S:
            self._warned_at_s = now_s
            self._warn(code, message)
