"""An HTTP client of a running Parley's monitor, for `parley top` and `parley turns`."""

import sys
from collections.abc import Callable
from typing import Any

import httpx

TIMEOUT_S = 10.0


class MonitorFailed(RuntimeError):
    """The monitor gave no figures. The message says why and what to do."""


class NotFound(MonitorFailed):
    """The monitor does not know the session."""


def fetch(url: str, path: str) -> dict[str, Any]:
    """Get `/monitor` + `path` from the Parley at `url`.

    Raises:
        NotFound: the monitor does not know the session.
        MonitorFailed: no Parley answers, its monitor is off, or it reports an error.
    """
    try:
        response = httpx.get(f"{url.rstrip('/')}/monitor{path}", timeout=TIMEOUT_S, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        why = str(error) or type(error).__name__
        raise MonitorFailed(
            f"no Parley answers at {url} ({why}): start it with `make run`, or name another with --url"
        ) from None
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise MonitorFailed(f"the server at {url} is not a Parley with a monitor (HTTP {response.status_code})")
    if response.is_success:
        return answer
    reported = answer.get("error")
    if isinstance(reported, dict) and "message" in reported:
        failure = NotFound if response.status_code == 404 else MonitorFailed
        raise failure(str(reported["message"]))
    if response.status_code == 404:
        raise MonitorFailed(f"the monitor of {url} is off, or open only to its own machine: PARLEY_MONITOR=on opens it")
    raise MonitorFailed(f"{url} answers HTTP {response.status_code}")


def exit_code_of(url: str, show: Callable[[], None]) -> int:
    """Call `show`, and print the error if the monitor at `url` gives no figures. Returns 0, or 1 after an error."""
    try:
        show()
    except MonitorFailed as error:
        print(error, file=sys.stderr)
    except (KeyError, TypeError, ValueError, AttributeError):
        print(f"the server at {url} is not a Parley of this version", file=sys.stderr)
    else:
        return 0
    return 1
