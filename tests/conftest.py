"""What all tests share: a real system of processes, speech to play to it, and programs that have to be there."""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import threading
import wave
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from tests.support import system as systems
from tests.support.fork_server import ForkServer
from tests.support.free_ports import free_ports
from tests.support.system import CLASSIC, SCRIPTED, System, running_system
from tests.support.waiting import HANG_S

# Whatever this machine's processor is fast with: what is compared token for token is calculated alike everywhere.
os.environ.setdefault("PARLEY_DTYPE", "float32")
# Several processes run models at once. With a thread per core each, the threads wait for one another by spinning:
# on two busy cores the tests of Whisper took 162 s instead of 58 s. Programs that tests start inherit this.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Settings of a test that chooses no profile: no test needs a model by accident.
os.environ.setdefault("PARLEY_PROFILE", "classic")

pytest_plugins = ["tests.support.leaks"]

# An example may take any time: this machine may be slow and busy.
settings.register_profile(
    "parley",
    settings.get_profile(settings.get_current_profile_name()),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("parley")

IN_CI = os.environ.get("CI") == "true"

MAY_BE_SKIPPED = ("docker compose is not installed", "the standard library has no audioop")
"""Reasons to skip a test that hold in CI too."""
LIMITS_S = {"pipeline": 600, "browser": 600, "chaos": 600, "commands": 600, "models": 300, "unit": 60}
"""By folder, or `models` for unit tests of real models: after how long a test counts as hung, its fixtures included, on a slow and busy machine too."""
WITH_SHARED_SYSTEMS = ("pipeline", "browser", "chaos")
"""Folders whose tests share systems; they run one after the other."""


def _kind(item: pytest.Item) -> str:
    folder = item.path.relative_to(Path(__file__).parent).parts[0]
    return "models" if folder == "unit" and item.get_closest_marker("models") else folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(LIMITS_S[_kind(item)]))
    # The longest files first: at the end no test process waits for another one's long file.
    order = list(LIMITS_S)
    items.sort(key=lambda item: order.index(_kind(item)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a test that is skipped fails: CI has everything, and a skipped test is not noticed there."""
    report = yield
    if IN_CI and report.skipped and call.excinfo is not None:
        reason = str(call.excinfo.value)
        if not any(part in reason for part in MAY_BE_SKIPPED):
            report.outcome, report.longrepr = "failed", f"skipped in CI: {reason}"
    return report


def need(*programs: str) -> str:
    """The path of a program that a test needs, under any of its names; the test is skipped without it."""
    found = next(filter(None, map(shutil.which, programs)), None)
    if found is None:
        pytest.skip(f"{programs[0]} is not installed")
    return found


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing beyond this machine can be asked; a system that runs beside the test still talks to itself."""
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def is_here(host: object) -> bool:
        return host in (None, "", "localhost", "::1") or str(host).startswith("127.")

    def connect_here(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and not is_here(address[0]):
            raise AssertionError(f"the network was touched: {address}")
        connect(self, address)

    def look_up_here(host: Any, *args: Any, **options: Any) -> Any:
        if not is_here(host):
            raise AssertionError(f"the network was touched: {host}")
        return look_up(host, *args, **options)

    monkeypatch.setattr(socket.socket, "connect", connect_here)
    monkeypatch.setattr(socket, "getaddrinfo", look_up_here)


@pytest.fixture(scope="session", autouse=True)
def _fork_server() -> Iterator[None]:
    """The processes of systems are forks: most of the CPU of a start is imports."""
    with ForkServer() as server, pytest.MonkeyPatch.context() as patched:
        patched.setattr(systems, "launch", server.launch)
        yield
        shared_systems.close()  # their processes end with the server


@contextmanager
def system(env: Mapping[str, str], *, workers: int = 1, hung_s: float | None = None) -> Iterator[System]:
    """A system as of `running_system`, looked after by a thread of its own: a test's event loop comes and goes."""
    started: Future[System] = Future()
    over = threading.Event()

    async def look_after() -> None:
        try:
            async with running_system(env, workers=workers, hung_s=hung_s) as ready:
                started.set_result(ready)
                await asyncio.to_thread(over.wait)
        except Exception as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=asyncio.run, args=(look_after(),), name="system")
    thread.start()
    try:
        yield started.result()  # a start that hangs fails by itself
    finally:
        over.set()
        thread.join()


@pytest.fixture(scope="session")
def metrics_port() -> int:
    """Where the first process of `parley_server` offers its metrics; the others follow: vad, asr, llm, tts, edge."""
    return free_ports(5)


class SharedSystems:
    """The systems that many files share. Each is started when it is first asked for, and all end after the last of those
    files: a system that nobody uses takes 4 % of a core."""

    def __init__(self) -> None:
        self._running: dict[str, System] = {}
        self._open = ExitStack()

    def get(self, name: str, env: Mapping[str, str]) -> System:
        if name not in self._running:
            self._running[name] = self._open.enter_context(system(env))
        return self._running[name]

    def close(self) -> None:
        self._running.clear()
        self._open.close()


shared_systems = SharedSystems()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    if nextitem is None or _kind(nextitem) not in WITH_SHARED_SYSTEMS:
        shared_systems.close()


@pytest.fixture(scope="module")
def parley_server(metrics_port: int) -> System:
    """A whole system with the webrtc detector and the scripted engines."""
    return shared_systems.get("parley", {**SCRIPTED, "PARLEY_METRICS_PORT": str(metrics_port)})


@pytest.fixture(scope="module")
def classic_server() -> System:
    """A whole system with the engines of the classic profile."""
    return shared_systems.get("classic", CLASSIC)


@pytest.fixture(scope="module")
def talkative_server() -> System:
    """A system whose replies last so long that they can always be interrupted."""
    return shared_systems.get("talkative", {**SCRIPTED, "PARLEY_SCRIPTED_TTS_SECONDS": "60"})


@pytest.fixture(scope="session")
def clips() -> Path:
    """The folder with human speech and its transcripts.tsv."""
    folder = os.environ.get("PARLEY_TEST_CLIPS")
    if not folder or not (Path(folder) / "transcripts.tsv").is_file():
        pytest.skip("PARLEY_TEST_CLIPS names no folder with human speech")
    return Path(folder)


@pytest.fixture(scope="session")
def speech_pcm() -> Callable[[str, int], bytes]:
    """`speech_pcm(text, rate_hz)`: someone says the text; s16le mono, without silence around it."""

    @cache
    def speech(text: str, rate_hz: int) -> bytes:
        # In a process of its own: espeak has one voice for a process, and tests of the engine use it too.
        argv = (sys.executable, str(Path(__file__).parent / "support" / "say.py"), text, str(rate_hz))
        return _trim(subprocess.run(argv, check=True, capture_output=True, timeout=HANG_S).stdout)

    return speech


@pytest.fixture
def speech_wav(speech_pcm: Callable[[str, int], bytes], tmp_path: Path) -> Callable[[str, float, float], Path]:
    """`speech_wav(text, lead_s, tail_s)`: a 16 kHz WAV of it with silence around."""

    def write(text: str, lead_s: float, tail_s: float) -> Path:
        path = tmp_path / "speech.wav"
        with wave.open(str(path), "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(16_000)
            out.writeframes(bytes(2 * int(16_000 * lead_s)))
            out.writeframes(speech_pcm(text, 16_000))
            out.writeframes(bytes(2 * int(16_000 * tail_s)))
        return path

    return write


def _trim(pcm: bytes) -> bytes:
    samples = np.frombuffer(pcm, "<i2")
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) > 300)
    return samples[loud[0] : loud[-1] + 1].tobytes()
