"""HTTP requests to a running Parley, for `parley top`, `parley turns` and `parley voices`."""

import sys
from collections.abc import Callable
from typing import Any

import httpx

from shared.settings import load_settings

TIMEOUT_S = 10.0
KEY_ASKED = "asks for a key: set PARLEY_KEY to a valid one (`parley keys create` makes one)"


def authorization() -> dict[str, str]:
    """The header with the key of `PARLEY_KEY`, if it is set. A key stands in no argument: others can see those."""
    key = load_settings().key
    return {} if key is None else {"Authorization": f"Bearer {key.get_secret_value()}"}


class RequestFailed(RuntimeError):
    """Parley does not answer, or refuses. The message says why and what to do."""


class NotFound(RequestFailed):
    """The monitor does not know the session."""


def send(method: str, url: str, path: str, **request: Any) -> httpx.Response:
    """Send a request to the Parley at `url`. `request` is for httpx.

    Raises:
        RequestFailed: no Parley answers, or it asks for another key.
    """
    request = {"timeout": TIMEOUT_S, **request, "headers": {**authorization(), **request.get("headers", {})}}
    try:
        response = httpx.request(method, f"{url.rstrip('/')}{path}", trust_env=False, **request)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        why = str(error) or type(error).__name__
        raise RequestFailed(
            f"no Parley answers at {url} ({why}): start it with `make run`, or name another with --url"
        ) from None
    if response.status_code == httpx.codes.UNAUTHORIZED:
        raise RequestFailed(f"{url} {KEY_ASKED}")
    return response


def fetch(url: str, path: str) -> dict[str, Any]:
    """Get `/monitor` + `path` from the Parley at `url`.

    Raises:
        NotFound: the monitor does not know the session.
        RequestFailed: no Parley answers, its monitor is off, or it reports an error.
    """
    response = send("GET", url, f"/monitor{path}")
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise RequestFailed(f"the server at {url} is not a Parley with a monitor (HTTP {response.status_code})")
    if response.is_success:
        return answer
    reported = answer.get("error")
    if isinstance(reported, dict) and "message" in reported:
        failure = NotFound if response.status_code == 404 else RequestFailed
        raise failure(str(reported["message"]))
    if response.status_code == 404:
        raise RequestFailed(
            f"the monitor of {url} is off, or open only to its own machine: PARLEY_MONITOR=on opens it, or an operator's key in "
            "PARLEY_KEY"
        )
    raise RequestFailed(f"{url} answers HTTP {response.status_code}")


def exit_code_of(url: str, show: Callable[[], None]) -> int:
    """Call `show`, and print the error if the Parley at `url` fails. Returns 0, or 1 after an error."""
    try:
        show()
    except RequestFailed as error:
        print(error, file=sys.stderr)
    except (KeyError, TypeError, ValueError, AttributeError):
        print(f"the server at {url} is not a Parley of this version", file=sys.stderr)
    else:
        return 0
    return 1
