"""The client of a server with OpenAI's API, hosted or self-hosted, and the meaning of its errors."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Literal, cast
from urllib.parse import urlsplit

import httpx
from pydantic import SecretStr

from shared.engines.registry import EngineNotReady, UnknownEngine
from shared.observability import metrics

HOSTED = (".openai.com", ".openai.azure.com")
"""Hosts of OpenAI's own models."""
NO_KEY = "none"
"""Self-hosted servers need no key, but the client requires one."""
PAUSE_S, LONGEST_PAUSE_S = 0.1, 1.0
"""Back-off before a retry: the default, and the limit for a Retry-After header."""
KEEP_S = 60.0
"""How long an idle connection is kept. Turns last longer than the client's 5 s, and a new one costs a handshake."""
LONGEST_REASON = 300

BAD_REQUEST = (400, 413, 422)
"""HTTP statuses of an invalid request."""
NO_ROUTE = (404, 405, 501)
REFUSED = (401, 403)
TOO_LATE, TOO_MANY = (408, 504), 429
OUTCOMES = ("done", "cancelled", "timeout", "limited", "refused", "failed")

Place = Literal["first", "fallback"]
"""Which of a stage's endpoints. Metrics do not contain the URL, as it may contain a key."""


class EndpointFailed(RuntimeError):
    """A request to an endpoint failed; the message names it.

    `status` is the HTTP status, 0 without an answer; `details` is the JSON object of the server's error, if it has sent one.
    """

    def __init__(
        self,
        url: str,
        reason: str,
        status: int = 0,
        pause_s: float = PAUSE_S,
        *,
        late: bool = False,
        lasting: bool = False,
        details: Any = None,
    ) -> None:
        """`late`: the request timed out. `lasting`: every retry will fail, although no HTTP status says so."""
        super().__init__(f"{url}: {reason}")
        self.url, self.reason, self.status = url, reason, status
        self._late, self._lasting = late, lasting
        self.details: dict[str, Any] = details if isinstance(details, dict) else {}
        self.pause_s = pause_s
        """Back-off before a retry."""

    @property
    def code(self) -> str:
        """The server's word for the error; empty: it has none."""
        return str(self.details.get("code") or "")

    @property
    def transient(self) -> bool:
        """Whether a retry of the same endpoint may succeed."""
        return not self._lasting and (self.status in (0, 408, TOO_MANY) or self.status >= 500)

    @property
    def outcome(self) -> str:
        """One of `OUTCOMES`."""
        if self._late or self.status in TOO_LATE:
            return "timeout"
        if self.status == TOO_MANY:
            return "limited"
        return "refused" if 400 <= self.status < 500 else "failed"


class Endpoint:
    """The client of one server. Create it off the event loop: the import takes most of a second."""

    def __init__(
        self,
        url: str,
        key: SecretStr | None,
        longest_wait_s: float,
        *,
        stage: str,
        place: Place = "first",
    ) -> None:
        """An empty `url` means OpenAI's own endpoint; without `key` the client reads the key from the environment.

        Raises:
            UnknownEngine: the URL is invalid, or a key is missing.
        """
        import openai

        self._variable = f"PARLEY_{stage.upper()}" + ("_FALLBACK" if place == "fallback" else "")
        if url and not _is_url(url):
            raise UnknownEngine(f"{url!r} is not a valid URL: use http(s)://HOST[:PORT]/v1 or the like")

        def connect(key: str | None) -> openai.AsyncOpenAI:
            # The client only reads attributes, so httpx's limits also work with the successor that it may use.
            limits = cast("Any", httpx.Limits(max_connections=1000, keepalive_expiry=KEEP_S))
            transport = openai.DefaultAsyncHttpxClient(limits=limits)
            # The timeout is a backstop: each wait has its own, shorter one. The engine decides about retries.
            return openai.AsyncOpenAI(
                base_url=url or None, api_key=key, timeout=2 * longest_wait_s, max_retries=0, http_client=transport
            )

        try:
            client = connect(key.get_secret_value() if key else None)
        except openai.OpenAIError as error:
            if not url:
                names = f"{self._variable}_KEY or OPENAI_API_KEY"
                raise UnknownEngine(f"OpenAI's own endpoint needs a key: set {names}") from error
            client = connect(NO_KEY)
        # Trigger the client's lazy imports now.
        _ = (client.chat.completions, client.audio.speech, client.audio.transcriptions)
        self.client: Any = client
        # Without user, password and query, which may hold a key: clients of Parley see the URL that is waited for.
        self.url = str(client.base_url.copy_with(userinfo=b"", query=None)).rstrip("/")
        self.hosted = f".{client.base_url.host}".endswith(HOSTED)
        self._outcomes = {one: metrics.endpoint_requests.labels(stage, place, one) for one in OUTCOMES}

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count one request, from its beginning to the end of its response, by its outcome."""
        outcome = "cancelled"  # left by a cancellation
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
        """Limit one wait for the server to `deadline`, a time of the event loop's clock.

        Raises:
            EndpointFailed: the deadline has passed, or the request failed in any other way.
        """
        try:
            async with asyncio.timeout_at(deadline):
                yield
        except TimeoutError as error:
            raise EndpointFailed(self.url, "no answer in time", late=True) from error
        except Exception as error:  # from the client, its HTTP library and its JSON parser
            headers = getattr(getattr(error, "response", None), "headers", {})
            status, pause_s = getattr(error, "status_code", 0), _pause_s(headers.get("retry-after", ""))
            lasting = any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error))
            details = getattr(error, "body", None)
            raise EndpointFailed(self.url, _reason(error), status, pause_s, lasting=lasting, details=details) from error

    async def listed_models(self, deadline: float) -> list[dict[str, Any]] | None:
        """Return the entries of the server's list of models, each with an `id`; None if it has no list.

        Raises:
            UnknownEngine: another kind of server answers.
            EndpointFailed: the server does not answer, or refuses the key.
        """
        try:
            async with self.until(deadline):
                answer = await self.client.get("/models", cast_to=object)
        except EndpointFailed as error:
            if error.status in NO_ROUTE:
                return None
            raise
        if isinstance(answer, str):
            raise UnknownEngine(f"{self.url}/models answers with text, not JSON. {self._is_complete}")
        listed = answer.get("data") if isinstance(answer, dict) else answer
        entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
        return [entry for entry in entries if entry.get("id") and isinstance(entry["id"], str)]

    def load_error(self, error: EndpointFailed) -> UnknownEngine:
        """Return what `load` raises when a request has failed: waiting helps, or what to change in the settings."""
        if error.transient:
            return EngineNotReady(self.url, error.reason)
        if error.status in REFUSED:
            return UnknownEngine(f"{error}. Set {self._variable}_KEY to a key that this server accepts.")
        if error.status in NO_ROUTE:
            return UnknownEngine(f"{error}. {self._is_complete} Does the server have {self._variable}_MODEL?")
        return UnknownEngine(str(error))

    @property
    def _is_complete(self) -> str:
        return f"Is {self._variable}_URL complete (http://HOST:PORT/v1)?"

    async def close(self) -> None:
        await self.client.close()


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _reason(error: Exception) -> str:
    """Return the server's error message, or else the connection error."""
    status, body = getattr(error, "status_code", ""), getattr(error, "body", None)
    said: Any = None
    if isinstance(body, dict):
        said = body.get("message") or body.get("detail") or body.get("error")
    elif status:
        said = body
    if said is None and (problem := _connection_problem(error)):
        return problem
    cause = f" ({error.__cause__})" if error.__cause__ and not said else ""
    return f"{status} {said or str(error) or type(error).__name__}{cause}".strip()[:LONGEST_REASON]


def _connection_problem(error: Exception) -> str:
    """Return why there is no connection, in plain words; empty for another problem."""
    for cause in _causes(error):
        if isinstance(cause, ConnectionRefusedError):
            return "connection refused"
        if isinstance(cause, socket.gaierror):
            return "no connection: the host name is not known"
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"no connection: its certificate is not valid ({cause.verify_message})"
    return ""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error, and what caused it, in turn."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _pause_s(retry_after: str) -> float:
    if not retry_after:
        return PAUSE_S
    try:
        return min(max(PAUSE_S, float(retry_after)), LONGEST_PAUSE_S)
    except ValueError:  # a date
        return LONGEST_PAUSE_S
