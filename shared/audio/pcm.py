"""G.711 µ-law and A-law, and a streaming resampler. Pure.

All PCM is `bytes`: s16le, mono.

The resampler is libsamplerate: fed with 20 ms chunks it delays 1 to 2.5 ms. libsoxr works in large blocks and delays
20 to 118 ms at every quality with a usable anti-alias filter.
"""

from typing import Literal

import numpy as np
import samplerate
from numpy.typing import NDArray

Floats = NDArray[np.float32]

Law = Literal["ulaw", "alaw"]
LAW_RATE_HZ = 8000
"""The sample rate of G.711."""

QUALITY = "sinc_fastest"
"""80 % of the bandwidth and 97 dB SNR, says libsamplerate; the better qualities delay more than twice as long."""
FLUSH_SAMPLES = 2000
"""More input samples than the resampler ever delays."""


def _ulaw_values() -> NDArray[np.int16]:
    code = ~np.arange(256, dtype=np.int32) & 0xFF
    magnitude = ((((code & 0x0F) << 3) + 0x84) << ((code & 0x70) >> 4)) - 0x84
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def _alaw_values() -> NDArray[np.int16]:
    code = np.arange(256, dtype=np.int32) ^ 0x55
    exponent = (code & 0x70) >> 4
    mantissa = ((code & 0x0F) << 4) + 8
    magnitude = np.where(exponent > 0, (mantissa + 0x100) << np.maximum(exponent - 1, 0), mantissa)
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


def _ulaw_codes() -> NDArray[np.uint8]:
    """The code of every sample; the index is the sample's bits as an unsigned number."""
    # G.711 quantises 14 bits, and an arithmetic shift keeps the reference encoder's rounding of negative values.
    sample = np.arange(65536, dtype=np.uint16).view(np.int16).astype(np.int32) >> 2
    biased = np.minimum(np.abs(sample), 8158) + 33
    exponent = np.floor(np.log2(biased)).astype(np.int32) - 5
    code = (exponent << 4) | ((biased >> (exponent + 1)) & 0x0F)
    codes: NDArray[np.uint8] = (code ^ np.where(sample < 0, 0x7F, 0xFF)).astype(np.uint8)
    return codes


def _alaw_codes() -> NDArray[np.uint8]:
    """The code of every sample; the index is the sample's bits as an unsigned number."""
    sample = np.arange(65536, dtype=np.uint16).view(np.int16).astype(np.int32) >> 3
    magnitude = np.where(sample < 0, -sample - 1, sample)
    exponent = np.maximum(np.floor(np.log2(np.maximum(magnitude, 1))).astype(np.int32) - 4, 0)
    code = (exponent << 4) | ((magnitude >> np.maximum(exponent, 1)) & 0x0F)
    codes: NDArray[np.uint8] = (code ^ np.where(sample < 0, 0x55, 0xD5)).astype(np.uint8)
    return codes


_VALUES = {"ulaw": _ulaw_values(), "alaw": _alaw_values()}
_CODES = {"ulaw": _ulaw_codes(), "alaw": _alaw_codes()}


def decode_law(law: Law, codes: bytes) -> bytes:
    """Decode G.711 to PCM, two bytes for each code."""
    values: NDArray[np.int16] = _VALUES[law][np.frombuffer(codes, np.uint8)]
    return values.astype("<i2", copy=False).tobytes()


def encode_law(law: Law, pcm: bytes) -> bytes:
    """Encode PCM as G.711, one byte for each sample.

    Raises:
        ValueError: an odd number of bytes.
    """
    codes: NDArray[np.uint8] = _CODES[law][np.frombuffer(pcm, "<u2")]
    return codes.tobytes()


class WholeSamples:
    """Joins pieces of 16-bit PCM that were cut anywhere: half a sample waits for its other half."""

    def __init__(self) -> None:
        self._half = b""

    def take(self, piece: bytes) -> bytes:
        """Return the whole samples up to the end of this piece; without a half, the piece itself."""
        if not self._half and not len(piece) & 1:
            return piece
        joined = self._half + piece
        end = len(joined) & ~1
        self._half = joined[end:]
        return joined[:end]

    def drop_half(self) -> None:
        """The next piece begins with a whole sample."""
        self._half = b""


class Resampler:
    """Converts one stream of PCM to another sample rate. The output does not depend on the chunks of the input."""

    def __init__(self, from_hz: int, to_hz: int) -> None:
        self._from_hz, self._to_hz = from_hz, to_hz
        self._ratio = to_hz / from_hz
        self._identity = from_hz == to_hz
        self._converter = samplerate.Resampler(QUALITY, channels=1)
        self._reset()

    def process(self, pcm: bytes) -> bytes:
        """Return the output that this input completes; with equal rates, the input itself.

        Raises:
            ValueError: an odd number of bytes.
        """
        if self._identity or not pcm:
            return pcm
        return self._convert(np.frombuffer(pcm, "<i2").astype(np.float32))

    def flush(self) -> bytes:
        """Return the delayed rest of the stream, as if silence followed. The next `process` begins a new stream."""
        if self._identity:
            return b""
        missing = -(-self._taken * self._to_hz // self._from_hz) - self._given
        # Silence pushes the rest out: the library's end of input returns at most as many samples as were put in.
        rest = self._convert(np.zeros(FLUSH_SAMPLES, np.float32))[: 2 * missing]
        self._reset()
        return rest

    def _reset(self) -> None:
        self._taken = self._given = 0
        self._converter.reset()

    def _convert(self, samples: Floats) -> bytes:
        out = self._converter.process(samples, self._ratio)
        self._taken += len(samples)
        self._given += len(out)
        pcm: bytes = np.clip(np.rint(out), -32768, 32767).astype("<i2").tobytes()
        return pcm
