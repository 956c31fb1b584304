"""What tells speech from everything else: the contract, and the names of the detectors that come with Parley."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

WINDOW_MS = 20
WINDOW_SAMPLES = 320
WINDOW_BYTES = 2 * WINDOW_SAMPLES

Ear = TypeVar("Ear")
"""What a detector keeps of one session: cheap, fed with consecutive windows."""


class SpeechDetector(Protocol[Ear]):
    """The loaded model, shared by all sessions of a worker."""

    quick: bool
    """A window takes microseconds: `judge` is called on the event loop. Else it is called in a thread."""

    async def load(self) -> None:
        """Load and warm up; the worker is ready when this returns."""
        ...

    def open(self) -> Ear:
        """A fresh ear for one session."""
        ...

    def judge(self, batch: Sequence[tuple[Ear, bytes]]) -> list[list[float]]:
        """For each session its new windows (s16le, 16 kHz, mono; a whole number of 320 samples), in order; each ear at
        most once. Returns the probability, 0..1, that each window holds speech.

        One call at a time, and none that `load` or `close` overlaps.
        """
        ...

    async def close(self) -> None: ...


ENGINES = {
    "webrtc": "services.vad.engines.webrtc:WebRtcDetector",
    "silero": "services.vad.engines.silero:SileroDetector",
}
