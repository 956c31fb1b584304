"""What tells speech from everything else: the contract, and the names of the detectors that come with Parley."""

from typing import Protocol

WINDOW_MS = 20
WINDOW_SAMPLES = 320
WINDOW_BYTES = 2 * WINDOW_SAMPLES


class SpeechStream(Protocol):
    """One session's ear: cheap, fed with consecutive windows."""

    def probability(self, window: bytes) -> float:
        """Probability, 0..1, that this window of 320 samples (s16le, 16 kHz, mono) holds speech."""
        ...


class SpeechDetector(Protocol):
    """The loaded model, shared by all sessions of a worker. Called from the event loop: a window takes microseconds."""

    async def load(self) -> None:
        """Load and warm up; the worker is ready when this returns."""
        ...

    def open(self) -> SpeechStream:
        """A fresh ear for one session."""
        ...

    async def close(self) -> None: ...


ENGINES = {"webrtc": "services.vad.webrtc:WebRtcDetector"}
