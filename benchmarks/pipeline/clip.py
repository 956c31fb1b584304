"""The callers' audio: two seconds of speech without a pause, and the faint noise of a quiet room.

The text has only voiced sounds, so that a detector finds speech in every frame.
"""

import numpy as np
import numpy.typing as npt

from benchmarks.pipeline.ramp import FRAME_SAMPLES
from deploy.client.performance import spoken
from shared.protocol.session import RATE_HZ

TEXT = "We were away a year ago in our yellow van all along the evening, and none knew where we were in any manner."
SPEECH_FRAMES = 100
ONSET_LEVEL = 300
"""The clip begins with the first sample above this (-41 dBFS)."""
QUIET_LEVEL = 2.0
"""Standard deviation of the noise between turns, in steps of 16 bits (-84 dBFS): a microphone is never at digital zero."""

Samples = npt.NDArray[np.int16]


async def speech_frames() -> list[bytes]:
    """The utterance in frames of 20 ms, without silence at either end."""
    voice = (await spoken([TEXT], speed=0.9))[TEXT]
    return frames_of(trim((32_768 * voice).round().clip(-32_768, 32_767).astype(np.int16)))


def trim(voice: Samples) -> Samples:
    """Cut the clip from the onset on, to its exact length."""
    onset = int(np.argmax(np.abs(voice.astype(int)) > ONSET_LEVEL))
    clip = voice[onset : onset + SPEECH_FRAMES * FRAME_SAMPLES]
    if clip.size < SPEECH_FRAMES * FRAME_SAMPLES:
        raise ValueError(f"the voice spoke only {clip.size / RATE_HZ:.2f} s: too short for a clip")
    return clip


def quiet_frames(count: int = 50) -> list[bytes]:
    noise = np.random.default_rng(1).normal(0, QUIET_LEVEL, count * FRAME_SAMPLES)
    return frames_of(noise.round().astype(np.int16))


def frames_of(samples: Samples) -> list[bytes]:
    """Cut into frames of 20 ms. An incomplete last frame is dropped."""
    count = samples.size // FRAME_SAMPLES
    return [part.astype("<i2").tobytes() for part in np.split(samples[: count * FRAME_SAMPLES], count)]
