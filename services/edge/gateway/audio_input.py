"""A session's audio input: forwards it to the vad worker. Excess audio is dropped and counted, and the client is warned."""

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
"""Unanswered broker commands above which audio is dropped instead of queued."""
ARRIVALS_KEPT = 256
"""Audio messages whose arrival time is kept: 5 s of 20 ms messages."""
WARNING_PERIOD_S = 1.0
"""Shortest time between two warnings about dropped audio."""


class AudioInput:
    """The audio input of one client."""

    def __init__(self, bus: SessionStore, channel: Channel, codec: Codec, warn: Callable[[str, str], None]) -> None:
        """`warn(code, message)` sends a warning to the client. The real-time limit counts from now."""
        self._bus, self._channel, self._codec, self._warn = bus, channel, codec, warn
        self._loop = asyncio.get_running_loop()
        self._began_s = self._loop.time()
        self._warned_at_s = 0.0
        self._arrivals: deque[tuple[int, float]] = deque(maxlen=ARRIVALS_KEPT)  # samples accepted, time in s
        self._microphone: Microphone | None = None  # made at the first audio: the client may set the rate before

    @property
    def received_s(self) -> float:
        """Seconds of accepted audio."""
        return self._microphone.received / RATE_HZ if self._microphone else 0.0

    @property
    def dropped(self) -> int:
        """Samples at 16 kHz that were dropped because they arrived too fast."""
        return self._microphone.dropped if self._microphone else 0

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

    def take(self, pcm: bytes) -> None:
        """Take the next samples, s16le at the client's rate."""
        if self._microphone is None:
            self._microphone = Microphone(self._codec.rate_hz, self._began_s)
        dropped, now_s = self._microphone.dropped, self._loop.time()
        chunk = self._microphone.take(pcm, now_s)
        self._arrivals.append((self._microphone.received, now_s))
        if chunk is None:
            if self._microphone.dropped > dropped:
                self._drop("audio_too_fast", "audio arrives much faster than real time: the excess is dropped")
        elif self._bus.writer.backlog > BACKLOG_LIMIT:
            self._drop("broker_slow", "the broker does not keep up: audio is dropped")
        else:
            self._channel.publish(chunk, urgent=False)

    def _drop(self, code: str, message: str) -> None:
        metrics.dropped.labels(code).inc()
        now_s = self._loop.time()
        if now_s - self._warned_at_s > WARNING_PERIOD_S:
            self._warned_at_s = now_s
            self._warn(code, message)
