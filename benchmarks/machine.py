"""Where and when a figure was measured: without that it says nothing."""

import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).parent
RESULTS = HERE / "results"


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
    """The name that the system has for its processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def result_path(folder: Path, kind: str, where: dict[str, Any]) -> Path:
    """`<kind>-<date>-<commit>.json` in `folder`, which is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{kind}-{where['date'][:10]}-{where['commit']}.json"
