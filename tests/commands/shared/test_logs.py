"""A process's log lines: JSON with role and context in production, text in a terminal."""

import json
import os
import subprocess
import sys
from typing import Any

from tests.support.waiting import HANG_S

CODE = """
import contextvars, logging, sys, threading, warnings
import structlog
from shared.observability.logs import configure_logging
from shared.settings import load_settings

early = logging.getLogger("early")
configure_logging(load_settings(), "llm")
log = structlog.get_logger()
"""


def lines(code: str, **env: str) -> list[str]:
    """Run the code in a process and return the lines of its stderr."""
    environ = {**os.environ, **{f"PARLEY_{name}": value for name, value in env.items()}}
    argv = (sys.executable, "-W", "default", "-c", CODE + code)
    return subprocess.run(
        argv, check=False, capture_output=True, text=True, timeout=HANG_S, env=environ
    ).stderr.splitlines()


def records(code: str, **env: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines(code, **env)]


def test_every_log_line_is_json() -> None:
    found = records(
        """
log.info("ours", turn=3)
early.error("bad %s", {"a": 1})
library = logging.getLogger("library")
library.addHandler(logging.StreamHandler())
library.propagate = False
logging.getLogger("library.part").warning("from below\\nin two lines")
logging.getLogger("library.part").info("too little")
warnings.warn("old")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
try:
    secret = "what was said"
    raise ValueError("wrong")
except ValueError:
    log.exception("failed")
log.info("odd", what={1}, bytes=b"x")
raise LookupError("the end")
"""
    )
    assert [(one["event"].partition(" /")[0].split("<string>")[0], one["level"]) for one in found] == [
        ("ours", "info"),
        ("bad {'a': 1}", "error"),
        ("from below\nin two lines", "warning"),
        ("", "warning"),
        ("uncaught exception", "critical"),
        ("failed", "error"),
        ("odd", "info"),
        ("uncaught exception", "critical"),
    ]
    assert all(one["role"] == "llm" and one["timestamp"] for one in found)
    assert found[2]["logger"] == "library.part"
    assert "UserWarning: old" in found[3]["event"]
    assert "ZeroDivisionError" in found[4]["exception"]
    assert "ValueError: wrong" in found[5]["exception"]
    assert "what was said" not in found[5]["exception"]
    assert "LookupError: the end" in found[7]["exception"]


def test_bound_context_is_on_our_lines_and_on_those_of_libraries() -> None:
    found = records(
        """
def work(turn):
    structlog.contextvars.bind_contextvars(session="s", turn=turn)
    log.info("ours")
    early.error("theirs")
for turn in (1, 2):
    contextvars.copy_context().run(work, turn)
log.info("nobody's")
"""
    )
    assert [one.get("turn") for one in found] == [1, 1, 2, 2, None]


def test_a_terminal_gets_text_without_local_variables() -> None:
    found = "\n".join(
        lines(
            """
try:
    secret = "what " + "was said"
    1 / 0
except ZeroDivisionError:
    log.exception("failed", turn=2)
early.error("theirs")
""",
            LOG_FORMAT="text",
        )
    )
    assert "failed" in found
    assert "turn=2" in found
    assert "ZeroDivisionError" in found
    assert "theirs" in found
    assert "what was said" not in found
    assert '{"' not in found


def test_the_level_applies_to_libraries_too() -> None:
    code = 'log.warning("ours"); early.warning("theirs"); log.error("ours too"); early.error("and theirs")'
    assert [one["event"] for one in records(code, LOG_LEVEL="error")] == ["ours too", "and theirs"]
    chatty = 'log.debug("ours"); early.debug("what was said"); early.info("what was said")'
    assert [one["event"] for one in records(chatty, LOG_LEVEL="debug")] == ["ours"]
