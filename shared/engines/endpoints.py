"""A server that speaks OpenAI's protocol, somebody's own or a hosted one: its client, and what its failures mean."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Literal, cast
from urllib.parse import urlsplit

import httpx
from pydantic import SecretStr

from shared.distribution import not_installed
from shared.engines.registry import UnknownEngine
from shared.observability import metrics

HOSTED = (".openai.com", ".openai.azure.com")
"""Hosts of OpenAI's own models."""
NO_KEY = "none"
"""Servers of one's own want no key, the client wants one."""
PAUSE_S, LONGEST_PAUSE_S = 0.1, 1.0
"""Before an endpoint is asked again: as it is, and the most that its Retry-After can make of it."""
KEEP_S = 60.0
"""An idle connection is kept so long: the client's own 5 s are less than many a turn, and a new one costs a handshake."""
LONGEST_REASON = 300

BAD_REQUEST = (400, 413, 422)
"""HTTP statuses with which the request is at fault, and not the server."""
NO_ROUTE = (404, 405, 501)
TOO_LATE, TOO_MANY = (408, 504), 429
OUTCOMES = ("done", "cancelled", "timeout", "limited", "refused", "failed")

Place = Literal["first", "fallback"]
"""Which one of a stage's endpoints; metrics say no more of it, as a URL may hold a key."""


class EndpointFailed(RuntimeError):
    """An endpoint did not answer as it should; the message names it. `status` is its HTTP status, 0 without one."""

    def __init__(self, message: str, status: int = 0, pause_s: float = PAUSE_S, *, late: bool = False) -> None:
        """`late`: it was not waited for any longer."""
        super().__init__(message)
        self.status, self._late = status, late
        self.pause_s = pause_s
        """How long to wait before it is asked again."""

    @property
    def passing(self) -> bool:
        """It may be over soon; else asking the same endpoint again is in vain."""
        return self.status in (0, 408, TOO_MANY) or self.status >= 500

    @property
    def outcome(self) -> str:
        """One of `OUTCOMES`."""
        if self._late or self.status in TOO_LATE:
            return "timeout"
        if self.status == TOO_MANY:
            return "limited"
        return "refused" if 400 <= self.status < 500 else "failed"


class Endpoint:
    """The client of one server. To be made off the event loop: the import takes most of a second."""

    def __init__(
        self,
        url: str,
        key: SecretStr | None,
        key_names: str,
        longest_wait_s: float,
        *,
        stage: str,
        place: Place = "first",
    ) -> None:
        """An empty `url` is OpenAI's own; without a key it is the one that the environment has.

        Raises:
            UnknownEngine: the client is not installed, that is no URL, or a key is missing.
        """
        try:
            import openai
        except ImportError as error:
            raise UnknownEngine(not_installed("The client library for endpoints", "openai", error.name)) from error

        if url and not _is_url(url):
            raise UnknownEngine(f"{url!r} is no URL of an endpoint: one is http:// or https://, a host, and mostly /v1")

        def connect(key: str | None) -> openai.AsyncOpenAI:
            # Attributes are all that is read of it, so that the limits of httpx do for its successor too.
            limits = cast("Any", httpx.Limits(max_connections=1000, keepalive_expiry=KEEP_S))
            transport = openai.DefaultAsyncHttpxClient(limits=limits)
            # The time is a backstop: each wait has its own, shorter one. Trying again is the engine's business.
            return openai.AsyncOpenAI(
                base_url=url or None, api_key=key, timeout=2 * longest_wait_s, max_retries=0, http_client=transport
            )

        try:
            client = connect(key.get_secret_value() if key else None)
        except openai.OpenAIError as error:
            if not url:
                raise UnknownEngine(f"OpenAI's own endpoint needs a key: set {key_names}") from error
            client = connect(NO_KEY)
        # What the client would import at its first use is imported here.
        _ = (client.chat.completions, client.audio.speech)
        self.client: Any = client
        self.url = str(client.base_url.copy_with(userinfo=b"")).rstrip("/")
        self.hosted = f".{client.base_url.host}".endswith(HOSTED)
        self._outcomes = {one: metrics.endpoint_requests.labels(stage, place, one) for one in OUTCOMES}

    @contextmanager
    def counted(self) -> Iterator[None]:
        """For one request, from its beginning to the end of its answer: it is counted by how it ended."""
        outcome = "cancelled"  # whoever leaves in another way does not want the answer any more
        try:
            yield
            outcome = "done"
        except EndpointFailed as error:
            outcome = error.outcome
            raise
        finally:
            self._outcomes[outcome].inc()

    @asynccontextmanager
    async def until(self, deadline: float) -> AsyncIterator[None]:
        """For one wait for the server: what goes wrong in it, or takes longer than the loop's clock says, is an `EndpointFailed`."""
        try:
            async with asyncio.timeout_at(deadline):
                yield
        except TimeoutError as error:
            raise EndpointFailed(f"{self.url}: no answer in time", late=True) from error
        except Exception as error:  # the client's own errors, its HTTP library's, and those of bytes that are no JSON
            headers = getattr(getattr(error, "response", None), "headers", {})
            status, pause_s = getattr(error, "status_code", 0), _pause_s(headers.get("retry-after", ""))
            raise EndpointFailed(f"{self.url}: {_reason(error)}", status, pause_s) from error

    async def close(self) -> None:
        await self.client.close()


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _reason(error: Exception) -> str:
    """What the server said, else what happened to the connection."""
    status, body = getattr(error, "status_code", ""), getattr(error, "body", None)
    said: Any = None
    if isinstance(body, dict):
        said = body.get("message") or body.get("detail") or body.get("error")
    elif status:
        said = body
    cause = f" ({error.__cause__})" if error.__cause__ and not said else ""
    return f"{status} {said or str(error) or type(error).__name__}{cause}".strip()[:LONGEST_REASON]


def _pause_s(retry_after: str) -> float:
    if not retry_after:
        return PAUSE_S
    try:
        return min(max(PAUSE_S, float(retry_after)), LONGEST_PAUSE_S)
    except ValueError:  # a date
        return LONGEST_PAUSE_S
