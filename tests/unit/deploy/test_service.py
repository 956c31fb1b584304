"""How a service starts: what its process imports decides how soon a successor is there."""

import subprocess
import sys

import pytest

from tests.support.waiting import HANG_S

SLOW = {"redis", "rich", "typer", "httpx"}
"""Libraries that take a tenth of a worker's start or more, and that it does not need."""
PROGRAM = """
import sys
from deploy.local.service import main
import shared.worker.service
shared.worker.service.run_service = lambda role, serve: 7
sys.argv = ["service", {stage!r}]
code = main()
import gc
print(code, gc.isenabled(), *sys.modules)
"""


@pytest.mark.parametrize("stage", ["vad", "asr", "llm", "tts"])
def test_a_worker_imports_nothing_slow_that_it_does_not_need(stage: str) -> None:
    argv = (sys.executable, "-c", PROGRAM.format(stage=stage))
    code, collects, *modules = subprocess.run(
        argv, check=True, capture_output=True, text=True, timeout=HANG_S
    ).stdout.split()
    assert (code, collects) == ("7", "True")
    assert SLOW.isdisjoint(modules)
