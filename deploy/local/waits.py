"""What the stages wait for before they are ready, such as a model server that still loads: read from /health, and reported."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from deploy.local.supervised import Reporter
from shared.bus.leases import Wait

LOOK_S = 0.5
FIRST_REMINDER_S = 30.0
"""A wait is reported at once, after this time, and whenever it has doubled."""


def read_waits(stages: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """What each stage that waits waits for, in words. `stages` are those of /health."""
    return {
        name: describe_wait(Wait.of(facts["waiting"]))
        for name, facts in stages.items()
        if facts.get("waiting") and not facts.get("ready")
    }


def describe_wait(wait: Wait) -> str:
    """For example: `http://127.0.0.1:11434/v1: connection refused (12 s)`."""
    return f"{wait.awaited}: {wait.reason}" + (f" ({wait.seconds} s)" if wait.seconds else "")


async def report_waits(waits: Mapping[str, str], reporter: Reporter) -> None:
    """Report what begins and ends in `waits`, which changes, until cancelled."""
    began_s: dict[str, float] = {}
    reminder_s: dict[str, float] = {}
    while True:
        now_s = time.monotonic()
        for name, text in waits.items():
            if name not in began_s:
                began_s[name], reminder_s[name] = now_s, FIRST_REMINDER_S
                reporter.say(f"{name} waits for {text}")
            elif now_s - began_s[name] >= reminder_s[name]:
                reminder_s[name] *= 2
                reporter.say(f"{name} still waits for {text}")
        for name in began_s.keys() - waits.keys():
            del began_s[name]
            reporter.say(f"{name} waits no longer")
        await asyncio.sleep(LOOK_S)
