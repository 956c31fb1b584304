"""Decodes uploaded recordings, in a process of its own for each: see `services/edge/http/decoder.py`."""

import asyncio
import os
import sys
from pathlib import Path
from typing import IO

import numpy as np
import structlog

from services.edge.http import decoder
from services.edge.http.decoder import REFUSED, RESULT, Floats
from shared.audio.voices import LONGEST_S

log = structlog.get_logger()

DECODER = Path(decoder.__file__)
DECODE_S = 20.0
"""Time for the process, its start included; decoding itself has `decoder.CPU_S`."""
TOO_MUCH = "this file cannot be decoded within the limits of time and memory: send a WAV or FLAC file of a few seconds"


async def decode_upload(body: bytes) -> tuple[Floats, int]:
    """Return the samples of an audio file (mono, -1..1) and their rate.

    Raises:
        ValueError: it is not a usable recording; the message says why.
    """
    with _memory_file(body) as given, _memory_file() as written:
        code = await _run(given, written)
        written.seek(0)
        output = written.read()
    if code == REFUSED:
        raise ValueError(output.decode(errors="replace"))
    if code != 0 or len(output) <= RESULT.size:
        log.warning("upload not decoded", exit_code=code, upload_bytes=len(body), output_bytes=len(output))
        raise ValueError(TOO_MUCH)
    (rate_hz,) = RESULT.unpack_from(output)
    return np.frombuffer(output, "<f4", offset=RESULT.size), rate_hz


async def _run(given: IO[bytes], written: IO[bytes]) -> int | None:
    """Run the process on these files. Returns its exit code; None if it was too slow."""
    # -I: nothing of the environment or the current folder is imported. One thread: each has 64 MB of address space.
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", str(DECODER), str(LONGEST_S)),
        env={"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        stdin=given,
        stdout=written,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(DECODE_S):
            return await process.wait()
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _memory_file(content: bytes = b"") -> IO[bytes]:
    """Return a file without a name, in memory. With pipes, a process that writes without end could not be waited for."""
    file = os.fdopen(os.memfd_create("upload"), "w+b", buffering=0)
    file.write(content)
    file.seek(0)
    return file
