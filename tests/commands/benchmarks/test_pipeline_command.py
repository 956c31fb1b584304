"""The pipeline's command from its options to its exit code: what is refused, and a whole run that is compared."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.pipeline.figures import MIB
from benchmarks.pipeline.run import ENDPOINT_MS
from benchmarks.result import circumstances
from tests.support.waiting import HANG_S

pytestmark = pytest.mark.timeout(300)  # they start processes


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PARLEY_")]:
        monkeypatch.delenv(name)


def bench(*argv: str) -> tuple[int, str]:
    found = CliRunner().invoke(app, ["pipeline", *argv])
    assert found.exception is None or isinstance(found.exception, SystemExit), found.exception
    return found.exit_code, found.output


CHEAP: dict[str, Any] = {
    "sessions": 2,
    "repeat": 0,
    "window_s": 4.0,
    "cpu_s": dict.fromkeys(("broker", "vad", "asr", "llm", "tts", "edge", "callers"), 0.001),
    "busy_bytes": dict.fromkeys(("broker", "vad", "asr", "llm", "tts", "edge"), MIB),
    "overhead_ms": {"n": 9, "p50": 0.01, "p95": 0.01, "p99": 0.01, "max": 0.01},
    "barge_ms": {"n": 9, "p50": 100.0, "p95": 110.0, "p99": 120.0, "max": 130.0},
    "counts": {},
    "errors": {},
}
"""No real system is so fast and so small."""


def baseline(path: Path, **change: Any) -> Path:
    result = circumstances() | {"endpoint_ms": ENDPOINT_MS, "settings": {}, "figures": [], "runs": [CHEAP]}
    path.write_text(json.dumps(result | {"broker": "another 1.0"} | change))
    return path


@pytest.mark.parametrize("sessions", ["", "0", "1;2", "many"])
def test_numbers_of_sessions_are_numbers(sessions: str) -> None:
    code, output = bench(f"--sessions={sessions}")
    assert code == 2
    assert "positive numbers with commas" in output


@pytest.mark.parametrize(
    ("change", "message"),
    [({"cpu": "another"}, "its processor is"), ({"settings": {"PARLEY_GATHER_MS": "4"}}, "its set of settings is"),
     ({"runs": [{}]}, "older layout"), ({"runs": [CHEAP | {"window_s": 0}]}, "older layout"),
     ({"runs": [CHEAP | {"sessions": 9}]}, "no run of 2 sessions in it, but 9 sessions")],
)  # fmt: skip
def test_a_baseline_that_does_not_fit_is_refused_before_anything_is_measured(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = baseline(tmp_path / "baseline.json", **change)
    code, output = bench("--sessions", "2", "--out", str(tmp_path / "out"), "--compare", str(path))
    assert code == 2
    assert output.startswith(f"--compare {path}: ")
    assert message in output


WRITES = f"""
import json, pathlib, sys
given = dict(word[2:].split("=", 1) for word in sys.argv[1:])
result = {{"commit": "c0ffee", "runs": [{CHEAP!r}]}}
pathlib.Path(given["out"], "pipeline-2026-11-21-c0ffee.json").write_text(json.dumps(result))
"""


def test_a_run_is_shown_written_and_compared(tmp_path: Path) -> None:
    other = tmp_path / "other" / "benchmarks" / "pipeline.py"  # as checkouts had it before it became a package
    other.parent.mkdir(parents=True)
    other.write_text(WRITES)
    (other.parent / "__init__.py").touch()
    out = tmp_path / "out"
    code, output = bench(
        *("--sessions", "2", "--seconds", "3", "--barge", "0", "--repeat", "1", "--out", str(out)),
        *("--compare", str(baseline(tmp_path / "baseline.json")), "--against", str(tmp_path / "other")),
    )
    assert code == 1, output
    assert "CPU per session, % of one core" in output
    assert "the baseline had another broker: another 1.0, now " in output
    assert "against c0ffee, in turn" in output
    assert output.count(" regressed of ") == 2
    assert "2 sessions: memory of edge, MiB × " in output
    assert "not in this run: 2 sessions: barge-in p50, ms" in output
    (path,) = out.glob("pipeline-*.json")
    result = json.loads(path.read_bytes())
    assert result["others"] == [CHEAP | {"commit": "c0ffee"}]
    assert result["runs"][0]["overhead_ms"]["n"] >= 1
    assert not result["runs"][0]["errors"]


def test_a_misspelt_setting_ends_a_benchmark_without_showing_its_value() -> None:
    env = {**os.environ, "PARLEY_LLM_KEYY": "sekret123"}
    for command in ("pipeline", "turn-taking", "turn-ends"):
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks", command],
            env=env,
            capture_output=True,
            text=True,
            timeout=HANG_S,
            check=False,
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert "did you mean PARLEY_LLM_KEY?" in done.stderr
        assert done.stderr.count("\n") == 1
        assert "sekret" not in done.stderr
