"""The process that decodes one uploaded recording: file on stdin, `RESULT` and float32 samples on stdout.

Audio decoders are C code with a history of holes, and an upload is a stranger's. So this process has no environment, no
descriptors of the edge, and limits of memory, time and output; it ends after one file. It is run by path, and imports
nothing of Parley. `services/edge/http/uploads.py` starts it.
"""

import io
import os
import resource
import struct
import sys

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

Floats = NDArray[np.float32]

MAX_RATE_HZ, MAX_CHANNELS = 192_000, 2
KEPT_HZ = 24_000
"""The input rate of cloning models; a recording with a higher rate is resampled to it."""
RESULT = struct.Struct("<I")
"""The sample rate, before the samples."""
REFUSED = 3
"""Exit code: the file is not a usable recording; stdout says why."""
MEMORY_BYTES = 384 * 1024 * 1024
"""Address space of the process. The largest recording that is accepted, 30 s of stereo at 192 kHz, needs 181 MB."""
CPU_S = 5
"""The same recording takes 0.6 s, the start of the process included."""


def largest_output_bytes(longest_s: float) -> int:
    """Bytes that a recording of this length can become."""
    return RESULT.size + 4 * int(KEPT_HZ * (longest_s + 1))


def limit_resources(output_bytes: int) -> None:
    """Give up what decoding does not need; it cannot be taken back."""
    for kind, most in {
        resource.RLIMIT_AS: MEMORY_BYTES,
        resource.RLIMIT_CPU: CPU_S,
        resource.RLIMIT_FSIZE: output_bytes,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 3,
    }.items():
        resource.setrlimit(kind, (most, most))
    os.nice(10)


def decode_recording(body: bytes, longest_s: float) -> tuple[Floats, int]:
    """The samples of a file, mono float32, and their rate: the file's own rate, but at most `KEPT_HZ`.

    Raises:
        ValueError: not a readable audio file, too many channels, too high a rate, or too long.
    """
    try:
        with soundfile.SoundFile(io.BytesIO(body)) as file:
            rate_hz = int(file.samplerate)
            if rate_hz > MAX_RATE_HZ or file.channels > MAX_CHANNELS:
                raise ValueError(
                    f"the recording has {file.channels} channels at {rate_hz} Hz: "
                    f"send mono or stereo at {MAX_RATE_HZ} Hz or less"
                )
            # Limit what is decoded, not what the header declares: a few megabytes can hold hours of silence.
            limit = int(rate_hz * longest_s) + 1
            samples = file.read(limit, dtype="float32", always_2d=True).mean(axis=1, dtype=np.float32)
            if len(samples) == limit:
                raise ValueError(f"the recording is longer than {longest_s:g} s")
    except soundfile.SoundFileError as error:
        reason = str(error).rpartition(":")[2].strip() or "unknown format"
        raise ValueError(f"this is not a readable WAV, FLAC, OGG or MP3 file ({reason})") from error
    if rate_hz > KEPT_HZ:
        return soxr.resample(samples, rate_hz, KEPT_HZ, quality="HQ").astype(np.float32, copy=False), KEPT_HZ
    return samples, rate_hz


def main(longest_s: float) -> int:
    limit_resources(largest_output_bytes(longest_s))
    try:
        samples, rate_hz = decode_recording(sys.stdin.buffer.read(), longest_s)
    except ValueError as error:
        sys.stdout.write(str(error))
        return REFUSED
    sys.stdout.buffer.write(RESULT.pack(rate_hz) + samples.tobytes())
    return 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1])))
