"""Asks the monitor of a running Parley, for the commands that show it in a terminal."""

import sys
from collections.abc import Callable
from typing import Any

import httpx

TIMEOUT_S = 10.0


class MonitorFailed(RuntimeError):
    """It gave no figures; the message is for the person at the terminal."""


class NotKnown(MonitorFailed):
    """There is a monitor, and it knows nothing of what it was asked for."""


def ask(url: str, path: str) -> dict[str, Any]:
    """What the monitor at `url` says under `/monitor` and `path`.

    Raises:
        NotKnown: it says so.
        MonitorFailed: nobody answers, it is switched off, or it says that it cannot.
    """
    try:
        response = httpx.get(f"{url.rstrip('/')}/monitor{path}", timeout=TIMEOUT_S, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        why = str(error) or type(error).__name__
        raise MonitorFailed(f"no Parley answers at {url} ({why}): make run, or name another with --url") from None
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise MonitorFailed(f"what answers at {url} is no Parley that has a monitor (HTTP {response.status_code})")
    if response.is_success:
        return answer
    told_why = answer.get("error")
    if isinstance(told_why, dict) and "message" in told_why:
        failed = NotKnown if response.status_code == 404 else MonitorFailed
        raise failed(str(told_why["message"]))
    if response.status_code == 404:
        raise MonitorFailed(
            f"the monitor of {url} is switched off, or open only to its own machine: PARLEY_MONITOR=on opens it"
        )
    raise MonitorFailed(f"{url} answers HTTP {response.status_code}")


def told(url: str, work: Callable[[], None]) -> int:
    """Do what shows figures of `url`. Returns the exit code: 1 if there are none."""
    try:
        work()
    except MonitorFailed as error:
        print(error, file=sys.stderr)
    except (KeyError, TypeError, ValueError, AttributeError):
        print(f"what answers at {url} is no Parley of this version", file=sys.stderr)
    else:
        return 0
    return 1
