"""The contract of a speech detector, and the names of the detectors that come with Parley."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

WINDOW_MS = 20
WINDOW_SAMPLES = 320
WINDOW_BYTES = 2 * WINDOW_SAMPLES

DetectorState = TypeVar("DetectorState")
"""What a detector remembers of one session. Cheap to create."""


class SpeechDetector(Protocol[DetectorState]):
    """The loaded model, shared by all sessions of a worker."""

    blocking: bool
    """True: `judge` is called in a thread. False: it takes microseconds and is called on the event loop."""

    async def load(self) -> None:
        """Load and warm up. The worker is ready when this returns.

        Raises:
            UnknownEngine: the model or its library is not installed.
        """
        ...

    def open(self) -> DetectorState:
        """Return the initial state of one session."""
        ...

    def judge(self, batch: Sequence[tuple[DetectorState, bytes]]) -> list[list[float]]:
        """Return the speech probability, 0..1, of each window of each session.

        `batch` has each session at most once, with its next windows in order: s16le, 16 kHz, mono, a multiple of 320
        samples. Updates the states. Calls never overlap, neither with each other nor with `load` and `close`.
        """
        ...

    async def close(self) -> None: ...


ENGINES = {
    "webrtc": "services.vad.engines.webrtc:WebRtcDetector",
    "silero": "services.vad.engines.silero:SileroDetector",
}
