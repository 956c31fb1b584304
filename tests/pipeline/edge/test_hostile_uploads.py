"""An uploaded file that is made to hurt is refused, within its limits, and the edge goes on."""

import io
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile

from services.edge.http import decoder, uploads
from services.edge.http.uploads import DECODER, decode_upload
from shared.audio.voices import LONGEST_S


def encoded(kind: str, seconds: float = 4, rate_hz: int = 24_000, subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    samples = 0.2 * np.sin(2 * np.pi * 220 * np.arange(int(seconds * rate_hz)) / rate_hz)
    soundfile.write(file, samples, rate_hz, format=kind, subtype=subtype)
    return file.getvalue()


def flac_that_claims(samples: int, rate_hz: int = 24_000, channels: int = 1) -> bytes:
    """A FLAC file of 4 s whose header says something else."""
    body = bytearray(encoded("FLAC"))
    assert body[:4] == b"fLaC"
    body[18:26] = struct.pack(">Q", rate_hz << 44 | (channels - 1) << 41 | 15 << 36 | samples)
    return bytes(body)


def wav_that_claims(data_bytes: int, channels: int = 1, rate_hz: int = 24_000) -> bytes:
    body = bytearray(encoded("WAV"))
    body[22:28] = struct.pack("<HI", channels, rate_hz)
    body[40:44] = struct.pack("<I", data_bytes)
    return bytes(body)


BOMBS = {
    "FLAC that claims 33 days": flac_that_claims(2**36 - 1),
    "FLAC that claims 8 channels at 655 kHz": flac_that_claims(2**36 - 1, 655_350, 8),
    "FLAC that claims to be empty": flac_that_claims(0),
    "WAV that claims 4 GB": wav_that_claims(2**32 - 1),
    "WAV that claims 65535 channels": wav_that_claims(2**32 - 1, 65_535),
    "WAV that claims 4 GHz": wav_that_claims(96_000, 1, 2**32 - 1),
    "WAV that claims no rate": wav_that_claims(96_000, 1, 0),
    **{f"half a {kind} file": encoded(kind)[: len(encoded(kind)) // 2] for kind in ("FLAC", "OGG", "MP3")},
    **{f"{kind} header alone": encoded(kind)[:60] for kind in ("FLAC", "OGG", "CAF")},
}


async def assert_harmless(body: bytes) -> None:
    """The file is refused, or yields no more than may be."""
    with suppress(ValueError):
        samples, rate_hz = await decode_upload(body)
        assert samples.nbytes < decoder.largest_output_bytes(LONGEST_S)
        assert rate_hz <= decoder.KEPT_HZ


async def test_a_bomb_is_refused_or_yields_no_more_than_its_samples() -> None:
    for body in BOMBS.values():
        await assert_harmless(body)


async def test_what_was_uploaded_comes_back_as_its_samples() -> None:
    samples, rate_hz = await decode_upload(encoded("FLAC"))
    assert (len(samples), rate_hz) == (96_000, 24_000)


async def test_flipped_bytes_of_every_format_hurt_nobody() -> None:
    chance = np.random.default_rng(1)
    for kind in ("FLAC", "OGG", "MP3"):
        body = bytearray(encoded(kind))
        for at in chance.integers(0, len(body), 40):
            body[at] ^= int(chance.integers(1, 256))
        await assert_harmless(bytes(body))


@pytest.fixture
def decoder_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """`decoder_that(code)`: the process runs this code behind the limits, instead of decoding."""

    def behave(code: str) -> None:
        path = tmp_path / "decoder.py"
        head = f"import sys, time\nsys.path.insert(0, {str(DECODER.parent)!r})\nimport decoder\ndecoder.limit_resources(4000)\n"
        path.write_text(head + code)
        monkeypatch.setattr(uploads, "DECODER", path)

    yield behave
    assert not [child for child in psutil.Process().children() if "decoder.py" in " ".join(child.cmdline())]


@pytest.mark.parametrize(
    "code",
    [
        "bytearray(1 << 30)",
        "while True: pass",
        "while True: sys.stdout.buffer.write(bytes(1 << 20))",
        "open('/etc/hostname').read()",
        "import os; os.abort()",
        "sys.exit(0)",
        "sys.stdin.close(); sys.exit(7)",
    ],
)
async def test_a_decoder_that_runs_amok_ends_at_its_limits(decoder_that: Callable[[str], None], code: str) -> None:
    decoder_that("import resource; resource.setrlimit(resource.RLIMIT_CPU, (1, 1))\n" + code)
    with pytest.raises(ValueError, match="cannot be decoded within the limits"):
        await decode_upload(encoded("WAV", seconds=10))


async def test_a_decoder_that_hangs_is_killed(
    decoder_that: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "DECODE_S", 0.5)
    decoder_that("time.sleep(600)")
    with pytest.raises(ValueError, match="cannot be decoded within the limits"):
        await decode_upload(encoded("WAV"))


def test_the_decoder_imports_nothing_of_parley() -> None:
    """It would cost time, and lay out settings and secrets in its memory."""
    code = f"import sys; sys.path.insert(0, {str(DECODER.parent)!r}); import decoder; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert not {name.partition(".")[0] for name in found.stdout.split()} & {"shared", "services", "deploy"}
