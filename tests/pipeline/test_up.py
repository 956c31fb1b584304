"""`parley up` with everything real: start, a call, a death, the doctor, the end."""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.program_output import PARLEY, Output, parley_up
from tests.support.system import SCRIPTED
from tests.support.waiting import HANG_S


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PARLEY_")}
    return {**inherited, **SCRIPTED, "TMPDIR": str(tmp_path), "PARLEY_PORT": "0", "PARLEY_LOG_FORMAT": "json"}


@pytest.fixture
def parley(environ: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], Output]]:
    with parley_up(environ) as running:
        yield running


def children(pid: int) -> dict[str, int]:
    """The processes that a `parley up` runs, by the last word of their command line."""
    found = {}
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found[Path(f"/proc/{child}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")[-1].decode()] = int(child)
    return found


def call(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PARLEY, *arguments], env=environ, capture_output=True, text=True, timeout=HANG_S, check=False
    )


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_the_whole_life_of_a_system(
    parley: tuple[subprocess.Popen[str], Output],
    environ: dict[str, str],
    tmp_path: Path,
    speech_wav: Callable[[str, float, float], Path],
) -> None:
    process, output = parley
    url = output.until(r"ready after [\d.]+ s; open (http://127\.0\.0\.1:\d+)/\n")[1]

    health = httpx.get(f"{url}/health", trust_env=False)
    assert health.status_code == 200
    assert {name: facts["ready"] for name, facts in health.json()["stages"].items()} == dict.fromkeys(
        ("vad", "asr", "llm", "tts"), 1
    )

    doctor = call(environ, "doctor", "--url", url, "--json")
    assert (doctor.returncode, json.loads(doctor.stdout)["ok"]) == (0, True), doctor.stdout

    speech, reply = speech_wav("hello there", 0.5, 1.5), tmp_path / "reply.wav"
    talk = call(environ, "talk", str(speech), "--url", url, "--out", str(reply), "--json")
    assert talk.returncode == 0, talk.stderr
    assert "hello there" in talk.stdout
    assert reply.stat().st_size > 16_000

    os.kill(children(process.pid)["llm"], signal.SIGKILL)
    output.until(r"llm was killed by SIGKILL; restarting now\n")
    output.until(r"llm is ready again\n")
    assert call(environ, "talk", str(speech), "--url", url, "--out", str(reply)).returncode == 0

    handles = [os.pidfd_open(pid) for pid in children(process.pid).values()]
    assert len(handles) == 6
    process.send_signal(signal.SIGINT)
    assert process.wait(HANG_S) == 0
    output.until(r"stopped\n$")
    for handle in handles:
        assert select.select([handle], [], [], 0)[0], "a process outlives the system"
        os.close(handle)
    assert "does not stop" not in output.text
    assert not list(tmp_path.glob("parley-*"))


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_an_engine_that_does_not_exist_ends_the_start_by_name(environ: dict[str, str]) -> None:
    result = call({**environ, "PARLEY_TTS_ENGINE": "esspeak"}, "up")
    assert result.returncode == 2
    assert "PARLEY_TTS_ENGINE='esspeak': known are" in result.stderr
