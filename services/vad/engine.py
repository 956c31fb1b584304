"""What tells speech from everything else: the contract, and the names of the detectors that come with Parley."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

WINDOW_MS = 20
WINDOW_SAMPLES = 320
WINDOW_BYTES = 2 * WINDOW_SAMPLES

DetectorState = TypeVar("DetectorState")
"""What a detector keeps of one session: cheap, fed with consecutive windows."""


class SpeechDetector(Protocol[DetectorState]):
    """The loaded model, shared by all sessions of a worker."""

    blocking: bool
    """True: `judge` takes long and is called in a thread. False: a window takes microseconds, `judge` runs on the event loop."""

    async def load(self) -> None:
        """Load and warm up; the worker is ready when this returns."""
        ...

    def open(self) -> DetectorState:
        """A fresh state for one session."""
        ...

    def judge(self, batch: Sequence[tuple[DetectorState, bytes]]) -> list[list[float]]:
        """For each session its new windows (s16le, 16 kHz, mono; a whole number of 320 samples), in order; each state at
        most once. Returns the probability, 0..1, that each window holds speech.

        One call at a time, and none that `load` or `close` overlaps.
        """
        ...

    async def close(self) -> None: ...


ENGINES = {
    "webrtc": "services.vad.engines.webrtc:WebRtcDetector",
    "silero": "services.vad.engines.silero:SileroDetector",
}
