"""`parley up` as a person runs it, with a real broker; only the services are replaced."""

import contextlib
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.up import Broker, service_specs
from shared.settings import Settings
from tests.support.program_output import ended
from tests.support.waiting import HANG_S

STAGE = """
import os, signal, socket, sys

def main() -> int:
    with socket.socket(socket.AF_UNIX) as broker:
        broker.connect(os.environ["PARLEY_REDIS_URL"].removeprefix("unix://"))
        broker.sendall(b"PING\\r\\n")
        assert broker.recv(64) == b"+PONG\\r\\n"
    print({name!r}, "has", os.getpid(), file=sys.stderr, flush=True)
    signal.sigwait({{signal.SIGTERM}})
    return 0
"""
EDGE = """
import json, os, signal, socket, sys, threading
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        stages = {name: {"ready": 1} for name in ("vad", "asr", "llm", "tts")}
        body = json.dumps({"status": "ok", "stages": stages}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

def main() -> int:
    print("edge has", os.getpid(), file=sys.stderr, flush=True)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    server = HTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
    server.socket = socket.socket(fileno=int(os.environ["PARLEY_LISTEN_FD"]))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    signal.sigwait({signal.SIGTERM})
    return 0
"""

BESIDE = "import pkgutil\n__path__ = pkgutil.extend_path(__path__, __name__)\n"
"""The beginning of a package of stand-ins: its other modules are the real ones, such as services.edge.access."""


class Running:
    """A running `parley up`, and its output so far."""

    def __init__(self, process: subprocess.Popen[bytes], output: int, temp: Path) -> None:
        self.process = process
        self.temp = temp
        self.text = ""
        self._output = output

    def read_until(self, pattern: str) -> re.Match[str]:
        """Read until the output matches. Fails if the output ends first."""
        while not (found := re.search(pattern, self.text)):
            assert self._read(), f"{pattern!r} never came:\n{self.text}"
        return found

    def read_until_ready(self) -> None:
        """Read until the system is ready and every service has printed its pid."""
        self.read_until(r"ready after")
        self.read_until(r"(?s)(has \d+.*){5}")

    def read_all(self) -> int:
        """Read to the end. Returns the exit code."""
        while self._read():
            pass
        return self.process.wait(HANG_S)

    def _read(self) -> bool:
        try:
            chunk = os.read(self._output, 65536)
        except OSError:  # the end of a terminal's output
            chunk = b""
        self.text += chunk.decode(errors="replace")
        return bool(chunk)

    def pids(self) -> list[int]:
        return [int(pid) for pid in re.findall(r"has (\d+)", self.text)]


BESIDE = "__path__ = __import__('pkgutil').extend_path(__path__, __name__)\n"
"""A package of stand-ins: what it lacks is imported from the real one."""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder with fake services and a folder for temporary files. Its path is short: a socket's path has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="up-", dir="/tmp") as folder:
        yield _furnished(Path(folder))


def _furnished(place: Path) -> Path:
    for name in ("vad", "asr", "llm", "tts", "edge"):
        package = place / "standins" / "services" / name
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(BESIDE)
        (package / "__main__.py").write_text(EDGE if name == "edge" else STAGE.format(name=name))
    (place / "standins" / "services" / "__init__.py").write_text(BESIDE)
    (place / "t").mkdir()
    return place


@contextlib.contextmanager
def running(place: Path, *arguments: str, terminal: bool = False, **environ: str) -> Iterator[Running]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("PARLEY_")}
    paths = os.pathsep.join((str(place / "standins"), str(Path(__file__).parents[3])))
    env.update(PYTHONPATH=paths, TMPDIR=str(place / "t"), TERM="xterm", PARLEY_PORT="0", **environ)
    ours, its = pty.openpty() if terminal else os.pipe()
    command = [sys.executable, "-P", "-m", "deploy.cli", "up", *arguments]
    process = subprocess.Popen(
        command, env=env, stdin=subprocess.DEVNULL, stdout=its, stderr=its, cwd=place, start_new_session=True
    )
    os.close(its)
    try:
        yield Running(process, ours, place / "t")
    finally:
        process.kill()
        process.wait()
        os.close(ours)


linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@linux
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_starts_prints_the_url_of_the_page_and_stops_without_leftovers(place: Path, number: signal.Signals) -> None:
    with running(place) as parley:
        parley.read_until_ready()
        parley.read_until(r"ready after [\d.]+ s; open http://127\.0\.0\.1:\d+/\n")
        parley.read_until(r"watch it at http://127\.0\.0\.1:\d+/monitor\n")
        assert len(list(parley.temp.glob("parley-*"))) == 1
        os.kill(parley.process.pid, number)
        assert parley.read_all() == 0
        assert parley.text.endswith("stopping; press Ctrl-C again to kill\nstopped\n")
        assert len(parley.pids()) == 5
        assert all(ended(pid) for pid in parley.pids())
        assert list(parley.temp.iterdir()) == []


@linux
def test_a_killed_service_and_a_killed_broker_are_restarted(place: Path) -> None:
    with running(place, PATH="") as parley:
        parley.read_until_ready()
        pid = int(parley.read_until(r"llm has (\d+)")[1])
        os.kill(pid, signal.SIGKILL)
        parley.read_until(r"llm was killed by SIGKILL; restarting now\n")
        parley.read_until(r"(?s)restarting now.*llm has \d+")
        (child,) = [
            int(pid)
            for pid in Path(f"/proc/{parley.process.pid}/task/{parley.process.pid}/children").read_text().split()
            if b"valkey-server" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        os.kill(child, signal.SIGKILL)
        parley.read_until(r"broker was killed by SIGKILL; restarting")
        parley.read_until(r"broker is ready again")
        os.kill(parley.process.pid, signal.SIGTERM)
        assert parley.read_all() == 0


@linux
def test_a_killed_supervisor_leaves_no_process_and_the_next_start_removes_its_folder(place: Path) -> None:
    with running(place) as parley:
        parley.read_until_ready()
        parley.process.kill()
        assert all(ended(pid) for pid in parley.pids())
        assert len(list(parley.temp.glob("parley-*"))) == 1
    with running(place) as parley:
        parley.read_until(r"ready after")
        assert len(list(parley.temp.glob("parley-*"))) == 1


@linux
def test_a_terminal_shows_a_line_for_each_service(place: Path) -> None:
    with running(place, terminal=True) as parley:
        parley.read_until(r"ready after")
        for name in ("broker", "vad", "asr", "llm", "tts", "edge"):
            parley.read_until(rf"{name} +\S*ready")
        os.kill(parley.process.pid, signal.SIGINT)
        assert parley.read_all() == 0
        assert "\x1b[?25h" in parley.text  # the cursor is back


def test_a_port_in_use_is_reported_before_anything_starts(place: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with running(place, "--port", str(port)) as parley:
            assert parley.read_all() == 1
    assert parley.text.startswith(f"port {port} on 127.0.0.1 is in use")
    assert parley.text.count("\n") == 1


def test_an_unreachable_broker_is_reported_before_anything_starts(place: Path) -> None:
    with running(place, PARLEY_REDIS_URL="redis://:geheim@127.0.0.1:1") as parley:
        assert parley.read_all() == 1
    assert parley.text.startswith("no broker at 127.0.0.1:1")
    assert parley.pids() == []


def test_an_old_server_on_the_path_is_reported_and_not_used(place: Path) -> None:
    old = place / "redis-server"
    old.write_text("#!/bin/sh\necho 'Redis server v=6.2.14'\n")
    old.chmod(0o755)
    with running(place, PATH=str(place)) as parley:
        parley.read_until(rf"cannot use {old}: Redis 6\.2\.14 is too old")
        parley.read_until(r"broker: Valkey [\d.]+ \(")
        os.kill(parley.process.pid, signal.SIGTERM)
        assert parley.read_all() == 0


def test_settings_that_a_service_rejects_end_the_start(place: Path) -> None:
    refusing = "from shared.settings import BadSettings\ndef main(): raise BadSettings('PARLEY_TTS_ENGINE=1: no')\n"
    (place / "standins" / "services" / "tts" / "__main__.py").write_text(refusing)
    (place / "standins" / "services" / "edge" / "__main__.py").write_text(EDGE.replace('"ready": 1', '"ready": 0'))
    with running(place) as parley:
        assert parley.read_all() == 2
    assert parley.text.endswith("tts cannot start: see its message above\n")
    assert parley.text.count("PARLEY_TTS_ENGINE=1: no\n") == 1
    assert list(parley.temp.iterdir()) == []


def test_every_process_gets_the_broker_and_its_own_metrics_port() -> None:
    settings = Settings(metrics_port=9100, log_format="auto")
    specs = service_specs(settings, {"HOME": "/h"}, Broker("redis://host"), 8123, text_logs=True)
    assert [spec.name for spec in specs] == ["vad", "asr", "llm", "tts", "edge"]
    assert [spec.env["PARLEY_METRICS_PORT"] for spec in specs] == ["9100", "9101", "9102", "9103", "9104"]
    wanted = {"PARLEY_REDIS_URL": "redis://host", "PARLEY_PORT": "8123", "PARLEY_LOG_FORMAT": "text", "HOME": "/h"}
    assert all(wanted.items() <= spec.env.items() for spec in specs)


def test_a_stage_can_have_its_own_device() -> None:
    settings = Settings(device="cuda:0", llm_device="cuda:1")
    specs = service_specs(settings, {"PARLEY_DEVICE": "cuda:0"}, Broker("redis://host"), 8123, text_logs=True)
    assert [spec.env["PARLEY_DEVICE"] for spec in specs] == ["cuda:0", "cuda:0", "cuda:1", "cuda:0", "cuda:0"]
