"""A session's audio on its way to the vad worker. What is too much is dropped and counted, and the client is told."""

import asyncio
from collections import deque
from collections.abc import Callable

from services.edge.client.codec import Codec
from services.edge.gateway.microphone import Microphone
from shared.bus.bus import Channel
from shared.bus.session_store import SessionStore
from shared.observability import metrics
from shared.protocol.session import RATE_HZ

BACKLOG_LIMIT = 5_000
"""Commands that the broker has not answered; above it, audio is dropped rather than queued."""
ARRIVALS_KEPT = 256
"""Messages of audio whose time is remembered: five seconds of 20 ms."""
TOLD_EVERY_S = 1.0
"""The client is told of dropped audio no more often."""


class AudioInput:
    """One client's."""

    def __init__(self, bus: SessionStore, channel: Channel, codec: Codec, tell: Callable[[str, str], None]) -> None:
        """`tell` is given a code and a message for the client. The session begins now."""
        self._bus, self._channel, self._codec, self._tell = bus, channel, codec, tell
        self._loop = asyncio.get_running_loop()
        self._began_s = self._loop.time()
        self._told_at_s = 0.0
        self._arrivals: deque[tuple[int, float]] = deque(maxlen=ARRIVALS_KEPT)  # samples taken by then
        self._microphone: Microphone | None = None  # the rate stands only once there is audio

    @property
    def received_s(self) -> float:
        """Seconds of audio taken."""
        return self._microphone.received / RATE_HZ if self._microphone else 0.0

    @property
    def dropped(self) -> int:
        """Samples refused because they came too fast, at 16 kHz."""
        return self._microphone.dropped if self._microphone else 0

    def age_s(self, sample: int) -> float:
        """How long ago the microphone took this sample: before the rest of its message, which then came at once. Samples
        alone are no clock: a client may fall silent, or send a recording."""
        now_s = self._loop.time()
        end, came_s = sample, now_s
        for taken, at_s in reversed(self._arrivals):
            if taken <= sample:
                break
            end, came_s = taken, at_s
        return now_s - came_s + (end - sample) / RATE_HZ

    def take(self, pcm: bytes) -> None:
        """The next samples at the client's rate."""
        if self._microphone is None:
            self._microphone = Microphone(self._codec.rate_hz, self._began_s)
        dropped, now_s = self._microphone.dropped, self._loop.time()
        chunk = self._microphone.take(pcm, now_s)
        self._arrivals.append((self._microphone.received, now_s))
        if chunk is None:
            if self._microphone.dropped > dropped:
                self._refuse("audio_too_fast", "audio comes far faster than real time; what is too much is dropped")
        elif self._bus.writer.backlog > BACKLOG_LIMIT:
            self._refuse("broker_slow", "the broker is behind; audio is dropped")
        else:
            self._channel.publish(chunk, urgent=False)

    def _refuse(self, code: str, message: str) -> None:
        metrics.dropped.labels(code).inc()
        now_s = self._loop.time()
        if now_s - self._told_at_s > TOLD_EVERY_S:
            self._told_at_s = now_s
            self._tell(code, message)
