"""The figures over the commits: their order, their lines, and the results that cannot be read."""

import io
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.history import commit_time, machines_of, print_history, read_points
from benchmarks.result import HERE

PNG = b"\x89PNG"


def pipeline(commit: str, date: str, percent: float = 1.0, **more: Any) -> dict[str, Any]:
    return {
        "date": date, "commit": commit, "cpu": "a processor", "cores": 2,
        "figures": [{"sessions": 50, "overhead_ms": {"n": 9, "p50": 9.0, "p99": 20.0}, "barge_ms": {"n": 9, "p50": 105.0},
                     "cpu_percent_total": percent, "mib_idle": {"vad": 60.0, "edge": 80.0},
                     "mib_per_session": {"vad": 0.1, "edge": 0.3}}],
    } | more  # fmt: skip


def engines(batch: int = 1) -> dict[str, Any]:
    entries = [
        {"stage": stage, "batch": batch, "figures": {name: {"n": 3, "p50": 40.0}}}
        for stage, name in (("asr", "final_ms"), ("chain", "total_ms"))
    ]
    failed = {"stage": "llm", "batch": batch, "figures": {}}
    device = {"name": "a GPU", "dtype": "bfloat16"}
    return {"date": "2026-11-21T10:00:00+00:00", "commit": "a1", "device": device, "size": "real",
            "entries": [*entries, failed]}  # fmt: skip


def put(folder: Path, name: str, result: Any) -> None:
    (folder / name).write_text(result if isinstance(result, str) else json.dumps(result))


def shown(*argv: str) -> tuple[int, str]:
    found = CliRunner().invoke(app, ["history", *argv])
    assert found.exception is None or isinstance(found.exception, SystemExit), found.exception
    return found.exit_code, found.output


def test_commits_stand_in_their_own_order_and_unknown_ones_at_their_result(tmp_path: Path) -> None:
    log = subprocess.run(
        ("git", "-C", str(HERE), "log", "-50", "--format=%ct %h"), capture_output=True, text=True, check=False
    )
    by_time = dict(line.split() for line in log.stdout.splitlines())  # several may be of one second
    if len(by_time) < 2:
        pytest.skip("no history of commits here")
    older, newer = (by_time[time] for time in sorted(by_time)[-2:])
    put(tmp_path, "pipeline-1.json", pipeline(newer, "2026-01-01T00:00:00+00:00", 1.25))  # measured in another order
    put(tmp_path, "pipeline-2.json", pipeline(f"{older}-dirty", "2026-02-01T00:00:00+00:00", 1.5))
    put(tmp_path, "pipeline-3.json", pipeline("unknown", "2001-01-01T00:00:00+02:00", 1.75))
    code, output = shown("--results", str(tmp_path))
    assert code == 0, output
    places = [output.index(text) for text in ("unknown", f"{older}-dirty", newer)]
    assert places == sorted(places)
    assert [output.index(text) for text in ("1.75", "1.5 ", "1.25")] == sorted(
        output.index(text) for text in ("1.75", "1.5 ", "1.25")
    )
    assert "2000-12-31 22:00" in output
    assert (tmp_path / "history-pipeline.png").read_bytes().startswith(PNG)


def test_each_machine_is_a_line_of_its_own(tmp_path: Path) -> None:
    put(tmp_path, "pipeline-1.json", pipeline("a", "2026-01-01T00:00:00+00:00"))
    put(tmp_path, "pipeline-2.json", pipeline("b", "2026-01-02T00:00:00+00:00", cores=64))
    put(tmp_path, "pipeline-3.json", pipeline("c", "2026-01-03T00:00:00+00:00", cpu="another"))
    points = list(read_points("pipeline", 50, tmp_path, lambda commit: None))
    assert machines_of(points) == ["2 cores of a processor", "64 cores of a processor", "2 cores of another"]
    output = io.StringIO()
    print_history("pipeline", 50, points, Console(file=output, width=140))
    assert output.getvalue().count("overhead p50, ms") == 3


def test_engines_have_the_figures_of_their_stages(tmp_path: Path) -> None:
    put(tmp_path, "engines-1.json", engines())
    put(tmp_path, "engines-2.json", engines(batch=4))
    path = tmp_path / "plots" / "x.png"
    code, output = shown("engines", "--results", str(tmp_path), "--out", str(path))
    assert code == 0, output
    assert "transcript p50, ms" in output
    assert "whole chain p50, ms" in output
    assert "first token" not in output
    assert "a GPU, bfloat16, real models" in output
    assert path.read_bytes().startswith(PNG)


@pytest.mark.parametrize(
    ("bad", "message"),
    [("", "not JSON"), ("[]", "JSON list"), ({}, "not of today's layout: KeyError"),
     (pipeline("a", "yesterday"), "Invalid isoformat"), (pipeline("a", "2026-01-01", figures=None), "TypeError")],
)  # fmt: skip
def test_what_cannot_be_read_is_named_and_left_out(
    bad: Any, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, "pipeline-bad.json", bad)
    put(tmp_path, "pipeline-good.json", pipeline("a", "2026-01-01T00:00:00+00:00"))
    put(tmp_path, "speculation-1.json", {})
    assert [point.commit for point in read_points("pipeline", 50, tmp_path, lambda commit: None)] == ["a"]
    printed = capsys.readouterr().err
    assert f"left out: {tmp_path / 'pipeline-bad.json'}: " in printed
    assert message in printed
    assert "speculation" not in printed


@pytest.mark.parametrize("commit", ["", "unknown", "--help", "HEAD; ls", "0" * 40])
def test_what_is_no_commit_has_no_time(commit: str) -> None:
    assert commit_time(commit) is None
