"""`python -m benchmarks load`, in a short form: each kind of burden beside a caller who is answered."""

from pathlib import Path

import orjson
from typer.testing import CliRunner

from benchmarks.__main__ import app


def load(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["load", *arguments])
    return done.exit_code, done.output


def test_burdens_leave_the_other_caller_its_session(tmp_path: Path) -> None:
    code, output = load("--only", "typed,items,long-headers", "--seconds", "2", "--out", str(tmp_path))
    assert code == 0, output
    (path,) = tmp_path.iterdir()
    rows = {row["burden"]: row for row in orjson.loads(path.read_bytes())["burdens"]}
    assert set(rows) == {"typed", "items", "long-headers"}
    assert all(row["ping max"] < 3000 for row in rows.values())  # `make load` has the figures; this machine may be busy


def test_an_unknown_burden_is_named(tmp_path: Path) -> None:
    code, output = load("--only", "rain", "--out", str(tmp_path))
    assert code == 2
    assert "rain" in output
