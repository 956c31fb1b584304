"""The client's microphone: to 16 kHz, numbered in samples, and no faster than someone can speak. Pure: the time is told to it."""

from shared.audio.pcm import Resampler
from shared.protocol.frames import AudioChunk
from shared.protocol.session import RATE_HZ

BURST_S = 30.0
"""Audio may come so much ahead of real time: a client may send a recording at once."""
FASTEST = 1.5
"""How much faster than real time it may come for good."""


class Microphone:
    """The samples of one session."""

    def __init__(self, rate_hz: int, began_s: float) -> None:
        self.received = 0
        """Samples taken, at 16 kHz."""
        self.dropped = 0
        """Samples refused, at 16 kHz."""
        self._resampler = Resampler(rate_hz, RATE_HZ)
        self._began_s = began_s

    def take(self, pcm: bytes, now_s: float) -> AudioChunk | None:
        """The next samples at the client's rate; None if nothing is complete, or if it came too fast and was dropped."""
        pcm = self._resampler.process(pcm)
        samples = len(pcm) // 2
        if not samples:
            return None
        if self.received + samples > RATE_HZ * (BURST_S + FASTEST * (now_s - self._began_s)):
            self.drop(samples)
            return None
        chunk = AudioChunk(self.received, pcm)
        self.received += samples
        return chunk

    def drop(self, samples: int) -> None:
        """These are not taken: what follows is numbered as if they had never been."""
        self.dropped += samples
