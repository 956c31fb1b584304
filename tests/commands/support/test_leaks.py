"""A test that leaves something behind fails, and the report says what and where it was made."""

import re
import subprocess
import sys
from pathlib import Path

from tests.support.waiting import HANG_S

PLANTED = """
import asyncio, threading, time
import pytest
from tests.support import leaks

leaks.JOIN_S = 0.1

async def lasting():
    await asyncio.sleep(3600)

async def test_task():
    asyncio.create_task(lasting(), name="forgotten")

@pytest.mark.asyncio(loop_scope="module")
async def test_task_of_a_shared_loop():
    asyncio.create_task(lasting(), name="shared")

def test_task_of_a_loop_of_the_test():
    async def main():
        asyncio.create_task(lasting(), name="own")
    asyncio.run(main())

async def test_error_that_nobody_saw():
    async def failing():
        raise ValueError("lost")
    asyncio.create_task(failing())
    await asyncio.sleep(0)
    await asyncio.sleep(0)

async def test_debug_mode():
    assert asyncio.get_running_loop().get_debug()

async def test_cancelled_task_may_end():
    asyncio.create_task(lasting()).cancel()

@pytest.fixture(scope="module")
def threaded():
    over = threading.Event()
    thread = threading.Thread(target=over.wait, name="of the fixture")
    thread.start()
    yield
    over.set()

def test_uses_a_thread(threaded):
    pass

def test_thread():
    threading.Thread(target=time.sleep, args=(20,), name="forgotten thread", daemon=True).start()
"""


def test_what_is_left_behind_fails_its_test(tmp_path: Path) -> None:
    folder = tmp_path / "unit"
    folder.mkdir()
    (folder / "test_planted.py").write_text(PLANTED)
    plugins = ("-p", "tests.support.leaks", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto")
    argv = (sys.executable, "-m", "pytest", "-q", "--import-mode=importlib", *plugins, "--rootdir", str(tmp_path), str(folder))  # fmt: skip
    report = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=HANG_S).stdout
    failed = set(re.findall(r"^ERROR .*::(\w+)", report, re.MULTILINE))
    assert failed == {
        "test_task",
        "test_task_of_a_shared_loop",
        "test_task_of_a_loop_of_the_test",
        "test_error_that_nobody_saw",
        "test_thread",
    }
    for left in ("task 'forgotten' still runs: lasting", "'shared'", "'own'", "ValueError: lost", "'forgotten thread'"):
        assert left in report
    assert "made at" in report
