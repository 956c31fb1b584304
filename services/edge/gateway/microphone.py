"""Converts a client's audio to 16 kHz chunks numbered in samples, and limits its rate. Pure: the caller passes the time."""

from shared.audio.pcm import Resampler
from shared.protocol.frames import AudioChunk
from shared.protocol.session import RATE_HZ

BURST_S = 30.0
"""Audio may be this far ahead of real time, so that a client can send a short recording in one burst."""
FASTEST = 1.5
"""The highest sustained rate, in multiples of real time."""


class Microphone:
    def __init__(self, rate_hz: int, began_s: float) -> None:
        self.received = 0
        """Samples accepted, at 16 kHz."""
        self.dropped = 0
        """Samples dropped, at 16 kHz."""
        self._resampler = Resampler(rate_hz, RATE_HZ)
        self._began_s = began_s

    def take(self, pcm: bytes, now_s: float) -> AudioChunk | None:
        """Take the next samples, s16le at the client's rate.

        Returns None if the resampler has no complete sample yet, or if the audio arrived too fast and was dropped.
        """
        pcm = self._resampler.process(pcm)
        samples = len(pcm) // 2
        if not samples:
            return None
        if self.received + samples > RATE_HZ * (BURST_S + FASTEST * (now_s - self._began_s)):
            self.dropped += samples  # later samples are numbered as if these had never arrived
            return None
        chunk = AudioChunk(self.received, pcm)
        self.received += samples
        return chunk
