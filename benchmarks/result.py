"""A result: where, when and at which commit it was measured, and its file."""

import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
import psutil
import typer

HERE = Path(__file__).parent
RESULTS = HERE / "results"
USAGE_WRONG = 2
"""Exit code of a command whose options are wrong."""

Result = Mapping[str, Any]
Out = Annotated[Path, typer.Option(file_okay=False, help="Folder of the results.")]


def circumstances() -> dict[str, Any]:
    """Machine, versions, date and commit."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "cpu": cpu_model(),
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def commit() -> str:
    """Short hash of the commit, with `-dirty` where files differ from it; `unknown` outside a repository."""
    command = ("git", "-C", str(HERE), "describe", "--always", "--dirty", "--exclude=*")
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def cpu_model() -> str:
    """The system's name for its processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def result_path(folder: Path, kind: str, where: Result) -> Path:
    """`<kind>-<date>-<commit>.json` in `folder`."""
    return folder / f"{kind}-{where['date'][:10]}-{where['commit']}.json"


def write_result(result: Result, path: Path) -> None:
    """Write the file, and the folder if it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
    path.write_bytes(orjson.dumps(result, option=options))


def read_result(path: Path) -> Result:
    """Read a result's file.

    Raises:
        ValueError: it cannot be read, or is not a JSON object. The message does not name the file.
    """
    try:
        found = orjson.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(error.strerror) from error
    except orjson.JSONDecodeError as error:
        raise ValueError(f"not JSON, or cut off: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"not a result of a benchmark, but a JSON {type(found).__name__}")  # noqa: TRY004  it is data
    return found
