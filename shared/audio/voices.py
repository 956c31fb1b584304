"""Cloned voices and the requirements on their recordings. Pure.

A cloned voice is a short recording of a speaker with its text; an engine that can clone imitates the speaker.
"""

import hashlib
import re
from dataclasses import asdict, dataclass

import msgpack
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

NAMES = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
NAME_RULE = "a letter or digit, then at most 63 of a-z, 0-9, - and _"
LARGEST_BYTES = 10 * 1024 * 1024
"""Largest audio file that a voice can be made from."""
MIN_HZ = 16_000
SHORTEST_S, LONGEST_S = 1.0, 30.0
BEST_S = (3.0, 12.0)
"""Lengths of the reference recordings that cloning models were trained with."""
LEAST_RMS = 0.01
"""-40 dBFS; amplified to speech level, a softer recording is mostly noise."""
SILENT_RMS = 0.0005
CLIPPED_AT = 0.999
MAX_CLIPPED = 0.001
"""Share of the samples that may be at full scale."""
CHARACTERS_PER_S = (1.0, 40.0)
"""Speaking rates, from Chinese to fast English. A text outside this range is not what the recording says."""


@dataclass(frozen=True, slots=True)
class VoiceInfo:
    name: str
    text: str
    """The words of the recording."""
    rate_hz: int
    samples: int
    digest: str
    """SHA-256 of name, text, rate and recording, in hex."""

    @property
    def seconds(self) -> float:
        return self.samples / self.rate_hz

    def pack(self) -> bytes:
        packed: bytes = msgpack.packb(asdict(self))
        return packed

    @classmethod
    def unpack(cls, packed: bytes) -> "VoiceInfo":
        """Read what `pack` wrote; fields of a later release are ignored. Raises `ValueError` for other bytes."""
        try:
            found = msgpack.unpackb(packed)
            fields = {name: found[name] for name in cls.__annotations__}
            info = cls(**fields)
        except (KeyError, TypeError, ValueError, msgpack.UnpackException) as error:
            raise ValueError(f"not a cloned voice: {error}") from None
        for name, value in fields.items():
            if type(value) is not (int if name in ("rate_hz", "samples") else str):
                raise ValueError(f"not a cloned voice: {name} is {type(value).__name__}")
        if info.rate_hz < 1:
            raise ValueError(f"not a cloned voice: rate_hz is {info.rate_hz}")
        return info


@dataclass(frozen=True, slots=True)
class ClonedVoice:
    info: VoiceInfo
    pcm: bytes
    """s16le, mono, at `info.rate_hz`."""

    @property
    def name(self) -> str:
        return self.info.name

    def samples(self) -> Floats:
        """Return the recording as floats, -1..1."""
        return np.frombuffer(self.pcm, "<i2").astype(np.float32) / np.float32(32_768)


def cloned_voice(name: str, text: str, rate_hz: int, pcm: bytes) -> ClonedVoice:
    """Make a voice and compute its digest, without checks."""
    head = f"{name}\0{text}\0{rate_hz}\0".encode()
    return ClonedVoice(VoiceInfo(name, text, rate_hz, len(pcm) // 2, hashlib.sha256(head + pcm).hexdigest()), pcm)


def make_voice(name: str, text: str, rate_hz: int, samples: Floats) -> ClonedVoice:
    """Make a voice from a recording (mono, -1..1), after checking name, text and recording.

    Raises:
        ValueError: one of them is not good enough; the message says why and what is needed.
    """
    check_name(name)
    check_recording(samples, rate_hz)
    words = check_text(text, len(samples) / rate_hz)
    pcm = np.rint(np.clip(samples, -1, 1) * 32_767).astype("<i2").tobytes()
    return cloned_voice(name, words, rate_hz, pcm)


def check_name(name: str) -> None:
    """Raises `ValueError` for an invalid name of a cloned voice."""
    if not NAMES.fullmatch(name):
        raise ValueError(f"a voice cannot be called {name[:80]!r}: a name is {NAME_RULE}")


def check_text(text: str, seconds: float) -> str:
    """Return the text on one line.

    Raises:
        ValueError: the text is empty, or its length does not fit a recording of that length.
    """
    words = " ".join(text.split())
    if not any(character.isalnum() for character in words):
        raise ValueError("the text is missing: write what is said in the recording, word for word")
    slowest, fastest = CHARACTERS_PER_S
    if not slowest * seconds <= len(words) <= fastest * seconds:
        raise ValueError(
            f"a text of {len(words)} characters does not belong to {seconds:.1f} s of speech: "
            "write what is said in the recording, word for word"
        )
    return words


def check_recording(samples: Floats, rate_hz: int) -> None:
    """Check whether a recording (mono, -1..1) is good enough for a voice.

    Raises:
        ValueError: it is not; the message says why and what is needed.
    """
    if rate_hz < MIN_HZ:
        raise ValueError(f"the recording has {rate_hz} Hz: a voice needs at least {MIN_HZ} Hz")
    seconds = len(samples) / rate_hz
    if not SHORTEST_S <= seconds <= LONGEST_S:
        raise ValueError(
            f"the recording lasts {seconds:.1f} s: a voice needs {SHORTEST_S:g} to {LONGEST_S:g} s, "
            f"best {BEST_S[0]:g} to {BEST_S[1]:g}"
        )
    if not np.isfinite(samples).all():
        raise ValueError("the recording contains infinite or NaN samples")
    level = float(np.sqrt(np.mean(np.square(samples - samples.mean(), dtype=np.float64))))
    if level < SILENT_RMS:
        raise ValueError("the recording is silent")
    if level < LEAST_RMS:
        levels = f"{20 * np.log10(level):.0f} dBFS, at least {20 * np.log10(LEAST_RMS):.0f} are needed"
        raise ValueError(f"the recording is too quiet ({levels}): speak closer to the microphone")
    clipped = float(np.mean(np.abs(samples) >= CLIPPED_AT))
    if clipped >= MAX_CLIPPED:
        raise ValueError(
            f"the recording is clipped ({clipped:.1%} of its samples are at full scale): record it at a lower level"
        )


def advice(seconds: float) -> str:
    """Return how the recording could give a better voice; empty if its length is fine."""
    shortest, longest = BEST_S
    if shortest <= seconds <= longest:
        return ""
    return f"the recording lasts {seconds:.1f} s: {shortest:g} to {longest:g} s give the best voice"
