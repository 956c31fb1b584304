"""`parley observe` with the real programs beside a real system."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.local.address import PortTaken, claim_metrics_ports, claim_port
from deploy.local.observe import RULES
from deploy.local.up import SERVICES
from shared.settings import STAGES
from tests.conftest import need, system
from tests.support.system import SCRIPTED
from tests.support.waiting import HANG_S


def free_metrics_port() -> int:
    """The first of `count` free ports in a row."""
    while True:
        first = claim_port("127.0.0.1", 0)
        with contextlib.suppress(PortTaken):
            claim_metrics_ports("127.0.0.1", first, SERVICES, 0)
            return first


@pytest.fixture
def observer(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(**environ: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-P", "-m", "deploy.cli", "observe"]
        env = {**os.environ, "PARLEY_DATA_DIR": str(tmp_path), **environ}
        process = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def read_until(process: subprocess.Popen[str], word: str) -> str:
    """The first line with the word; a silence ends with the test's own deadline."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if word in line:
            return line
    raise AssertionError(f"no {word!r} in:\n{''.join(lines)}")


def ask(url: str, path: str, reached: Callable[[Any], bool]) -> Any:
    """The answer, once it is what we wait for."""
    end_s = time.monotonic() + HANG_S
    while not reached(data := httpx.get(f"{url}/api/v1/{path}", trust_env=False, timeout=HANG_S).json()["data"]):
        assert time.monotonic() < end_s, data
        time.sleep(0.1)
    return data


def children(pid: int) -> dict[str, int]:
    """The programs that a process runs, by their file names."""
    found = {}
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found[Path(Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")[0].decode()).name] = int(child)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_prometheus_has_all_five_and_ctrl_c_stops_all(
    observer: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    need("prometheus")
    need("alertmanager", "prometheus-alertmanager")
    environ = {"PARLEY_METRICS_PORT": str(free_metrics_port())}
    with system({**SCRIPTED, **environ}):
        process = observer(**environ)
        url = read_until(process, "Prometheus: ").split()[1].removesuffix("/graph;")
        read_until(process, "Alertmanager: http://127.0.0.1:")

        def all_up(data: Any) -> bool:
            return [target["health"] for target in data["activeTargets"]] == ["up"] * len(SERVICES)

        targets = ask(url, "targets?state=active", all_up)["activeTargets"]
        assert {target["labels"]["stage"] for target in targets} == set(SERVICES)
        assert {(target["labels"]["job"], target["labels"]["environment"]) for target in targets} == {
            ("parley", "local")
        }

        ready = ask(url, "query?query=parley_ready_workers", lambda data: data["result"])["result"]
        assert {one["metric"]["stage"] for one in ready} == set(STAGES), "a metric's own label stays as it is"
        assert bool(ask(url, "rules", lambda _: True)["groups"]) == RULES.is_file()
        assert ask(url, "alertmanagers", lambda data: data["activeAlertmanagers"])

        second = observer(**environ)
        assert second.wait(HANG_S) == 1
        read_until(second, "another `parley observe` uses")

        programs = children(process.pid)
        os.kill(programs["prometheus"], signal.SIGKILL)
        read_until(process, "prometheus was killed by SIGKILL; restarting")
        while (now := children(process.pid)).keys() != programs.keys():
            time.sleep(0.05)
        assert len(now) == 2

        handles = [os.pidfd_open(pid) for pid in now.values()]
        process.send_signal(signal.SIGINT)
        read_until(process, "stopped")
        assert process.wait(HANG_S) == 0
        for handle in handles:
            assert select.select([handle], [], [], 0)[0], "a program outlives the command"
            os.close(handle)
        assert (tmp_path / "observe/prometheus").is_dir()
