"""The other checkout as a foreign program: what it is asked for, and what it may do instead of answering."""

import asyncio
import os
import sys
import time
from pathlib import Path

import psutil
import pytest

from benchmarks.pipeline import against
from benchmarks.pipeline.against import OtherFailed, check_checkout, environment, interpreter, run_other
from benchmarks.pipeline.figures import Run
from benchmarks.pipeline.run import Options
from tests.support.waiting import HANG_S

pytestmark = pytest.mark.timeout(300)  # they start processes

OPTIONS = Options(seconds=0.1, barge=0.2, speculations=1)

WRITES = """
import json, os, pathlib, sys
given = dict(word[2:].split("=", 1) for word in sys.argv[1:])
result = {"commit": "abc", "runs": [{"sessions": int(given["sessions"]), "repeat": 0, "given": given,
          "cwd": os.getcwd(), "paths": sys.path}]}
pathlib.Path(given["out"], "pipeline-2026-11-21-abc.json").write_text(json.dumps(result))
"""


def checkout(folder: Path, program: str, name: str = "pipeline/__main__.py") -> Path:
    path = folder / "benchmarks" / name
    path.parent.mkdir(parents=True)
    path.write_text(program)
    for package in {path.parent, folder / "benchmarks"}:
        (package / "__init__.py").touch()
    return folder


@pytest.mark.parametrize("name", ["pipeline/__main__.py", "pipeline.py"])
async def test_it_is_asked_for_the_same_run_and_runs_its_own_code(name: str, tmp_path: Path) -> None:
    check_checkout(checkout(tmp_path, WRITES, name))
    found = await run_other(tmp_path, Run(7, repeat=3), OPTIONS)
    assert (found["sessions"], found["repeat"], found["commit"]) == (7, 3, "abc")
    assert found["cwd"] == str(tmp_path)
    assert str(tmp_path) in found["paths"]
    out = Path(found["given"].pop("out"))
    assert found["given"] == {"sessions": "7", "seconds": "0.1", "barge": "0.2", "repeat": "1", "speculations": "1"}
    assert not out.exists()


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("", "wrote no result"),
        ("import sys; print('no broker', file=sys.stderr); sys.exit(3)", "exit code 3:\nno broker"),
        ("import sys; sys.stderr.write('x' * 1_000_000 + '\\nlast'); sys.exit(1)", "exit code 1:(?s:.*)\nlast"),
        (WRITES.replace("json.dumps(result)", "json.dumps(result)[:50]"), "cut off"),
        (WRITES.replace('"runs": [', '"ran": ['), "KeyError"),
        (WRITES.replace('"runs": [', '"runs": [{}, '), "too many"),
    ],
)
async def test_what_is_not_an_answer_is_reported(program: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(OtherFailed, match=message):
        await run_other(checkout(tmp_path, program), Run(7, repeat=0), OPTIONS)


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


async def test_it_ends_with_the_run_that_wanted_it_and_stops_what_it_started(tmp_path: Path) -> None:
    running = asyncio.create_task(run_other(checkout(tmp_path, HANGS), Run(1, repeat=0), OPTIONS))
    pid, until_s = tmp_path / "pid", time.monotonic() + HANG_S
    while not (pid.exists() and pid.read_text()) and time.monotonic() < until_s:
        await asyncio.sleep(0.02)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not psutil.pid_exists(int(pid.read_text()))


async def test_one_that_hangs_and_ignores_an_interrupt_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(against, "BESIDE_S", 2.0)
    monkeypatch.setattr(against, "STOP_S", 0.2)
    deaf = "import os, pathlib, signal, time; signal.signal(2, signal.SIG_IGN)\n"
    deaf += "pathlib.Path('pid').write_text(str(os.getpid())); time.sleep(60)"
    with pytest.raises(OtherFailed, match=r"longer than 2.3 s"):
        await run_other(checkout(tmp_path, deaf), Run(1, repeat=0), OPTIONS)
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


def test_its_own_interpreter_and_its_own_code_come_first(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a checkout"):
        check_checkout(tmp_path)
    assert interpreter(tmp_path) == sys.executable
    own = tmp_path / ".venv" / "bin" / "python"
    own.parent.mkdir(parents=True)
    own.touch()
    assert interpreter(tmp_path) == str(own)
    found = environment({"PYTHONPATH": "/more", "A": "b"}, tmp_path)
    assert found == {"PYTHONPATH": f"{tmp_path}{os.pathsep}/more", "A": "b"}
