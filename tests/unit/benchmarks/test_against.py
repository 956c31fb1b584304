"""The other checkout as a foreign program: what it is asked for, and everything that it may do instead of answering."""

import asyncio
import os
import sys
import time
from pathlib import Path

import psutil
import pytest

from benchmarks import against
from benchmarks.against import OtherFailed, check_checkout, environment, interpreter, run_other
from benchmarks.figures import Run
from benchmarks.pipeline import Options
from tests.support.waiting import HANG_S

pytestmark = pytest.mark.timeout(300)  # they start processes

PHASES = Options(seconds=0.1, barge=0.2, grain_ms=2.0, speculations=1)

WRITES = """
import json, os, pathlib, sys
given = dict(word[2:].split("=", 1) for word in sys.argv[1:])
result = {"commit": "abc", "runs": [{"sessions": int(given["sessions"]), "repeat": 0, "given": given,
          "cwd": os.getcwd(), "paths": sys.path}]}
pathlib.Path(given["out"], "pipeline-2026-11-21-abc.json").write_text(json.dumps(result))
"""


def checkout(folder: Path, program: str) -> Path:
    (folder / "benchmarks").mkdir()
    (folder / "benchmarks" / "__init__.py").touch()
    (folder / "benchmarks" / "pipeline.py").write_text(program)
    return folder


async def test_it_is_asked_for_the_same_run_and_runs_its_own_code(tmp_path: Path) -> None:
    found = await run_other(checkout(tmp_path, WRITES), Run(7, repeat=3), PHASES)
    assert (found["sessions"], found["repeat"], found["commit"]) == (7, 3, "abc")
    assert found["cwd"] == str(tmp_path)
    assert str(tmp_path) in found["paths"]
    out = Path(found["given"].pop("out"))
    assert found["given"] == {"sessions": "7", "seconds": "0.1", "barge": "0.2", "repeat": "1",
                              "grain-ms": "2.0", "speculations": "1"}  # fmt: skip
    assert not out.exists()


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("", "wrote no result"),
        ("import sys; print('no broker', file=sys.stderr); sys.exit(3)", "exit code 3:\nno broker"),
        ("import sys; sys.stderr.write('x' * 1_000_000 + '\\nlast'); sys.exit(1)", "exit code 1:(?s:.*)\nlast"),
        ("import sys; sys.stdout.write('x' * 1_000_000)", "wrote no result"),
        ("import os; os.kill(os.getpid(), 9)", "exit code -9"),
        (WRITES.replace("json.dumps(result)", "''"), "it is empty"),
        (WRITES.replace("json.dumps(result)", "json.dumps(result)[:50]"), "cut off"),
        (WRITES.replace("json.dumps(result)", "'[]'"), "JSON list"),
        (WRITES.replace('"runs": [', '"ran": ['), "KeyError"),
        (WRITES.replace('"runs": [', '"runs": [{}, '), "too many"),
        (WRITES.replace('"runs": [', '"runs": 5, "old": ['), "TypeError"),
        (WRITES + WRITES.replace("-abc.json", "-second.json"), "too many"),
    ],
)
async def test_what_is_no_answer_is_told(program: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(OtherFailed, match=message):
        await run_other(checkout(tmp_path, program), Run(7, repeat=0), PHASES)


HANGS = """
import pathlib, signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
pathlib.Path("pid").write_text(str(child.pid))
try:
    time.sleep(60)
except KeyboardInterrupt:
    child.kill()
    child.wait()
    raise
"""


async def test_one_that_hangs_is_interrupted_and_stops_what_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(against, "BESIDE_S", 2.0)
    with pytest.raises(OtherFailed, match=r"longer than 2.3 s"):
        await run_other(checkout(tmp_path, HANGS), Run(1, repeat=0), PHASES)
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


async def test_it_ends_with_the_run_that_wanted_it(tmp_path: Path) -> None:
    running = asyncio.create_task(run_other(checkout(tmp_path, HANGS), Run(1, repeat=0), PHASES))
    pid, until_s = tmp_path / "pid", time.monotonic() + HANG_S
    while not (pid.exists() and pid.read_text()) and time.monotonic() < until_s:
        await asyncio.sleep(0.02)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not psutil.pid_exists(int(pid.read_text()))


async def test_one_that_does_not_heed_an_interrupt_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(against, "BESIDE_S", 2.0)
    monkeypatch.setattr(against, "STOP_S", 0.2)
    deaf = "import os, pathlib, signal, time; signal.signal(2, signal.SIG_IGN)\n"
    deaf += "pathlib.Path('pid').write_text(str(os.getpid())); time.sleep(60)"
    with pytest.raises(OtherFailed, match="longer than"):
        await run_other(checkout(tmp_path, deaf), Run(1, repeat=0), PHASES)
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


def test_a_folder_without_a_benchmark_is_no_checkout(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no checkout"):
        check_checkout(tmp_path)
    check_checkout(checkout(tmp_path, ""))


def test_its_own_interpreter_is_taken_where_it_has_one(tmp_path: Path) -> None:
    assert interpreter(tmp_path) == sys.executable
    own = tmp_path / ".venv" / "bin" / "python"
    own.parent.mkdir(parents=True)
    own.touch()
    assert interpreter(tmp_path) == str(own)


def test_its_code_comes_before_what_is_installed(tmp_path: Path) -> None:
    assert environment({}, tmp_path)["PYTHONPATH"] == str(tmp_path)
    assert environment({"PYTHONPATH": "/more", "A": "b"}, tmp_path) == {
        "PYTHONPATH": f"{tmp_path}{os.pathsep}/more", "A": "b"
    }  # fmt: skip
