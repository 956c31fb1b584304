"""Cloned voices: what one is, and which recordings make one.

A voice is a short recording of someone and the words spoken in it; an engine that can clone speaks like it. Pure values.
"""

import hashlib
import re
from dataclasses import asdict, dataclass

import msgpack
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

NAMES = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
NAMES_TOLD = "a letter or digit, then at most 63 of a-z, 0-9, - and _"
LARGEST_BYTES = 10 * 1024 * 1024
"""Of a file that a voice is made of."""
LEAST_HZ = 16_000
SHORTEST_S, LONGEST_S = 1.0, 30.0
BEST_S = (3.0, 12.0)
"""What cloning models were trained to be given."""
LEAST_RMS = 0.01
"""-40 dBFS: below that a recording is mostly noise once it is made louder."""
SILENT_RMS = 0.0005
CLIPPED_AT = 0.999
MOST_CLIPPED = 0.001
"""Share of the samples that may lie at full scale."""
CHARACTERS_PER_S = (1.0, 40.0)
"""How much anyone says in a second, Chinese to hasty English: a text outside of it is not what was said."""


@dataclass(frozen=True, slots=True)
class VoiceInfo:
    """All of a cloned voice but its sound."""

    name: str
    text: str
    """What is said in the recording, word for word."""
    rate_hz: int
    samples: int
    digest: str
    """Of name, text, rate and sound: another recording is another digest."""

    @property
    def seconds(self) -> float:
        return self.samples / self.rate_hz

    def pack(self) -> bytes:
        packed: bytes = msgpack.packb(asdict(self))
        return packed

    @classmethod
    def unpack(cls, packed: bytes) -> "VoiceInfo":
        """Raises `ValueError` for what `pack` did not make."""
        try:
            fields = msgpack.unpackb(packed)
            info = cls(**fields)
        except (TypeError, ValueError, msgpack.UnpackException) as error:
            raise ValueError(f"no cloned voice: {error}") from None
        for name, value in fields.items():
            if type(value) is not (int if name in ("rate_hz", "samples") else str):
                raise ValueError(f"no cloned voice: {name} is {type(value).__name__}")
        if info.rate_hz < 1:
            raise ValueError("no cloned voice: it has no rate")
        return info


@dataclass(frozen=True, slots=True)
class ClonedVoice:
    """A voice to speak with, given by a recording."""

    info: VoiceInfo
    pcm: bytes
    """s16le mono at the info's rate."""

    @property
    def name(self) -> str:
        return self.info.name

    def samples(self) -> Floats:
        """The recording, -1..1."""
        return np.frombuffer(self.pcm, "<i2").astype(np.float32) / np.float32(32_768)


def cloned_voice(name: str, text: str, rate_hz: int, pcm: bytes) -> ClonedVoice:
    """A voice with its digest; nothing is checked."""
    head = f"{name}\0{text}\0{rate_hz}\0".encode()
    return ClonedVoice(VoiceInfo(name, text, rate_hz, len(pcm) // 2, hashlib.sha256(head + pcm).hexdigest()), pcm)


def make_voice(name: str, text: str, rate_hz: int, samples: Floats) -> ClonedVoice:
    """A voice from a recording (mono, -1..1), if it is good enough for one.

    Raises:
        ValueError: saying what is wrong with name, text or recording, and what is wanted.
    """
    check_name(name)
    check_recording(samples, rate_hz)
    said = check_text(text, len(samples) / rate_hz)
    pcm = np.rint(np.clip(samples, -1, 1) * 32_767).astype("<i2").tobytes()
    return cloned_voice(name, said, rate_hz, pcm)


def check_name(name: str) -> None:
    """Raises `ValueError` for a name that no cloned voice can have."""
    if not NAMES.fullmatch(name):
        raise ValueError(f"a voice cannot be called {name[:80]!r}: a name is {NAMES_TOLD}")


def check_text(text: str, seconds: float) -> str:
    """The text on one line.

    Raises:
        ValueError: it cannot be what is said in a recording of that length.
    """
    said = " ".join(text.split())
    if not any(character.isalnum() for character in said):
        raise ValueError("the text is missing: write what is said in the recording, word for word")
    slowest, fastest = CHARACTERS_PER_S
    if not slowest * seconds <= len(said) <= fastest * seconds:
        raise ValueError(
            f"a text of {len(said)} characters does not belong to {seconds:.1f} s of speech: "
            "write what is said in the recording, word for word"
        )
    return said


def check_recording(samples: Floats, rate_hz: int) -> None:
    """Check a recording (mono, -1..1) that a voice is to be made of.

    Raises:
        ValueError: saying what is wrong with it and what is wanted.
    """
    if rate_hz < LEAST_HZ:
        raise ValueError(f"the recording has {rate_hz} Hz: a voice needs {LEAST_HZ} Hz at least")
    seconds = len(samples) / rate_hz
    if not SHORTEST_S <= seconds <= LONGEST_S:
        raise ValueError(
            f"the recording lasts {seconds:.1f} s: a voice needs {SHORTEST_S:g} to {LONGEST_S:g} s, "
            f"best {BEST_S[0]:g} to {BEST_S[1]:g}"
        )
    if not np.isfinite(samples).all():
        raise ValueError("the recording has samples that are no numbers")
    level = float(np.sqrt(np.mean(np.square(samples - samples.mean(), dtype=np.float64))))
    if level < SILENT_RMS:
        raise ValueError("the recording is silent")
    if level < LEAST_RMS:
        told = f"{20 * np.log10(level):.0f} dBFS, {20 * np.log10(LEAST_RMS):.0f} at least are wanted"
        raise ValueError(f"the recording is too quiet ({told}): speak closer to the microphone")
    clipped = float(np.mean(np.abs(samples) >= CLIPPED_AT))
    if clipped >= MOST_CLIPPED:
        raise ValueError(
            f"the recording is overdriven ({clipped:.1%} of its samples are at full scale): record it at a lower level"
        )


def advice(seconds: float) -> str:
    """What would make a better voice of a recording that is good enough; empty: nothing."""
    shortest, longest = BEST_S
    if shortest <= seconds <= longest:
        return ""
    return f"the recording lasts {seconds:.1f} s: {shortest:g} to {longest:g} s give the best voice"
