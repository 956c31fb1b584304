"""Fuzz Parley: `python -m tests.fuzz --seconds 60`, or `make fuzz`.

Each target of `tests/fuzz/targets.py` runs in a process of its own under atheris, which is guided by what code an input
reaches. Then the streams of a broker are fuzzed while people talk (`tests/fuzz/broker.py`). Exit code: 0 nothing was found.
"""

import argparse
import asyncio
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.broker import strike
from tests.fuzz.targets import TARGETS, seeds

HANG_S = 10
"""One input that takes longer is a hang."""
MEMORY_MB = 2048
SLACK_S = 120
UNCAUGHT = "=== Uncaught Python exception"


def fuzz(name: str, seconds: int) -> tuple[int, int, str]:
    """Fuzz one target. Returns its exit code, the number of inputs, and what was found."""
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder)
        for number, seed in enumerate(seeds(name)):
            (corpus / f"seed-{number}").write_bytes(seed)
        limits = (f"-max_total_time={seconds}", f"-timeout={HANG_S}", f"-rss_limit_mb={MEMORY_MB}", "-max_len=8192")
        done = subprocess.run(
            (sys.executable, "-m", "tests.fuzz.one", name, *limits, f"-artifact_prefix={corpus}/", str(corpus)),
            capture_output=True, text=True, timeout=seconds + SLACK_S, check=False,
        )  # fmt: skip
    output = done.stdout + done.stderr
    inputs = max((int(count) for count in re.findall(r"^(?:#|Done )(\d+)", output, re.MULTILINE)), default=0)
    cause = output[max(0, output.find(UNCAUGHT)) :]  # libFuzzer's own lines, with the input in base64, come after it
    return done.returncode, inputs, cause[-4000:] if done.returncode else ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--seed", type=int, default=1, help="of what is written to the broker")
    parser.add_argument("targets", nargs="*", help=f"{', '.join(TARGETS)}, broker; default: all")
    options = parser.parse_args()
    chosen = options.targets or [*TARGETS, "broker"]
    faults = 0
    for name in chosen:
        if name == "broker":
            report = asyncio.run(strike(options.seed, seconds=options.seconds))
            found, inputs = "\n".join(report.faults), report.entries
            code = int(bool(found))
        else:
            code, inputs, found = fuzz(name, options.seconds)
        faults += code != 0
        print(f"{name:12}{inputs:10} inputs  {'FOUND:' if code else 'nothing found'}", found, flush=True)
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
