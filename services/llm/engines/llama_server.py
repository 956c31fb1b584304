"""A llama.cpp server in this process, by the package xllamacpp: its start, its tokenizer, and streamed replies.

Replies are asked for by a direct call, which takes a thread for as long as the reply lasts. The server's tokenizer and
chat template can only be reached by HTTP; its port listens on this machine only and asks for a random key.
"""

import asyncio
import json
import os
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

from services.llm.engines.gguf import ControlToken
from shared.distribution import not_installed
from shared.engines.registry import EngineLost, UnknownEngine, first_line

CHUNKS = 64
"""How many chunks of a reply may wait for the event loop. A full queue holds up the thread of that reply."""
HTTP_S = 10.0
"""Longest wait for the tokenizer and the chat template."""
HTTP_THREADS = 4
"""Threads of the server. An open connection occupies one, so no connection is kept."""
CHECK_S = 1.0
"""How often a reply that waits for a chunk checks whether the server works."""
STALLED_S = 60.0
"""Without a chunk of any reply for this time the server is considered dead."""
NO_REASONING = {"chat_template_kwargs": {"enable_thinking": False}}
"""Part of a request: a model that can reason shall not, as it would delay the first word."""
_FATAL = ("compute error", "alloc", "out of memory")
"""Parts of the server's messages, in lower case, after which it does not work again."""
QUIET, ERRORS = 0, 1
"""The library's levels of logging. It writes to stderr, so it is quiet."""


class ServerFailed(RuntimeError):
    """The server could not generate a reply. The message is the server's own."""


def load_library() -> Any:
    """Import xllamacpp.

    Raises:
        UnknownEngine: it is not installed, or it lacks a library of the system.
    """
    # OpenMP's threads must sleep while they wait for each other. By default they spin, and with other processes on the
    # same cores a step of a small model then takes seconds instead of 0.1 s. OpenMP reads this once, when it is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # GNU's OpenMP may spin for some microseconds first: the next layer often begins before a thread is asleep.
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    try:
        import xllamacpp
    except ModuleNotFoundError as error:
        raise UnknownEngine(not_installed("The llama-cpp engine", "light", error.name)) from error
    except ImportError as error:
        raise UnknownEngine(f"xllamacpp cannot be loaded: {error}. Debian has libgomp.so.1 in libgomp1.") from error
    return xllamacpp


class LlamaServer:
    """A loaded model and its server. Its methods block: call them in a thread, all but `chat`."""

    def __init__(self, library: Any, params: Any) -> None:
        """`params`: the library's `CommonParams`.

        Raises:
            ServerFailed: the model cannot be loaded; the message is the library's own.
        """
        key = secrets.token_urlsafe()
        params.api_keys, params.ui = [key], False
        params.n_threads_http, params.verbosity = HTTP_THREADS, QUIET
        try:
            self._server: Any = library.Server(params)
        except RuntimeError as error:
            raise ServerFailed(_reason(library, params) or first_line(error)) from error
        self._address = urlsplit(self._server.listening_address).netloc
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._streams: list[ReplyStream] = []
        self.active_s = 0.0
        """When any reply got its last chunk, by the monotonic clock."""

    def tokens(self, text: str) -> list[int]:
        """Return the ids of a text's tokens. Control tokens in it count as such."""
        found: list[int] = self._ask("POST", "/tokenize", content=text, add_special=False, parse_special=True)["tokens"]
        return found

    def render(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None) -> str:
        """Return the prompt that the model's chat template makes. Raises `ValueError` if the template rejects them."""
        offered = {"tools": tools} if tools else {}
        text: str = self._ask("POST", "/apply-template", messages=messages, **NO_REASONING, **offered)["prompt"]
        return text

    def busy_slots(self) -> list[int]:
        """Return the numbers of the slots that the server is working on."""
        return [slot["id"] for slot in self._ask("GET", "/slots") if slot["is_processing"]]

    def _ask(self, method: str, path: str, **fields: Any) -> Any:
        connection = HTTPConnection(self._address, timeout=HTTP_S)
        try:
            connection.request(method, path, json.dumps(fields) if fields else None, self._headers)
            answer = connection.getresponse()
            parsed = json.loads(answer.read())
        except (OSError, HTTPException) as error:
            raise ServerFailed(f"{path}: {first_line(error)}") from error
        finally:
            connection.close()
        if answer.status != HTTPStatus.OK:
            raise ValueError(parsed["error"]["message"])
        return parsed

    def chat(self, request: Mapping[str, Any], ended: Callable[[], None]) -> "ReplyStream":
        """Start a reply. Call this on the event loop.

        Args:
            request: The body of a request for a chat completion.
            ended: Called on the event loop when the server has stopped working for this reply. That can be later than
                `ReplyStream.close`: by one token, or one batch of the prompt.
        """
        self.active_s = time.monotonic()
        self._streams = [stream for stream in self._streams if stream.thread.is_alive()]
        stream = ReplyStream(self, json.dumps({**request, "stream": True}).encode(), ended)
        self._streams.append(stream)
        stream.thread.start()
        return stream

    def run_chat(self, request: bytes, take: Callable[[bytes], bool]) -> None:
        """Generate a reply, and pass each chunk to `take` until that returns True. Blocks until the reply has ended."""
        self._server.handle_chat_completions(request, take)

    def close(self, timeout_s: float) -> None:
        """Stop all replies, then the server.

        A server with a reply that does not stop in time is left alone: stopping it would wait for the reply.
        """
        for stream in self._streams:
            stream.close()
        for stream in self._streams:
            stream.thread.join(timeout_s)
        if not any(stream.thread.is_alive() for stream in self._streams):
            self._server = None


class ReplyStream:
    """The chunks of one reply, as OpenAI's protocol has them, from the reply's thread to the event loop."""

    def __init__(self, server: LlamaServer, request: bytes, ended: Callable[[], None]) -> None:
        self._server, self._request, self._ended = server, request, ended
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self._room = threading.Semaphore(CHUNKS)  # bounds the queue
        self._closed = threading.Event()
        # A daemon: a call that hangs must not keep the process alive.
        self.thread = threading.Thread(target=self._run, name="llama.cpp reply", daemon=True)

    def __aiter__(self) -> "ReplyStream":
        return self

    async def __anext__(self) -> SimpleNamespace:
        """Return the next chunk.

        Raises:
            ValueError: the server rejects the request.
            ServerFailed: the server gave this reply up.
            EngineLost: the server cannot work again, or does not work on any reply.
        """
        chunk = await self._next()
        if chunk is None:
            raise StopAsyncIteration
        if isinstance(chunk, Exception):
            raise chunk
        self._room.release()
        parsed: SimpleNamespace = json.loads(chunk, object_hook=lambda fields: SimpleNamespace(**fields))
        if (error := getattr(parsed, "error", None)) is not None:
            raise _failure(error.code, error.message)
        return parsed

    async def _next(self) -> bytes | Exception | None:
        while True:
            try:
                async with asyncio.timeout(CHECK_S):
                    return await self._queue.get()
            except TimeoutError:
                if time.monotonic() - self._server.active_s > STALLED_S:
                    raise EngineLost(f"llama.cpp has generated nothing for {STALLED_S:g} s") from None

    def close(self) -> None:
        """Stop the reply, if it has not ended."""
        self._closed.set()
        self._room.release()

    # The methods below run in the reply's thread.

    def _run(self) -> None:
        failure: Exception | None = None
        try:
            self._server.run_chat(self._request, self._take)
        except Exception as error:  # noqa: BLE001 - it is raised again on the event loop
            failure = error
        self._loop.call_soon_threadsafe(self._end, failure)

    def _take(self, chunk: bytes) -> bool:
        self._server.active_s = time.monotonic()
        self._room.acquire()
        if not self._closed.is_set():
            self._loop.call_soon_threadsafe(self._queue.put_nowait, chunk)
        return self._closed.is_set()

    def _end(self, failure: Exception | None) -> None:
        self._queue.put_nowait(failure)
        self._ended()


class LlamaTokenizer:
    """The model's tokenizer and chat template, with what `ChatTemplate` uses of a transformers tokenizer."""

    is_fast = True

    def __init__(self, server: LlamaServer, chat_template: str, controls: Mapping[int, ControlToken]) -> None:
        self._server = server
        self.chat_template, self.added_tokens_decoder = chat_template, controls
        self.all_special_tokens = [token.content for token in controls.values() if token.special]

    def __call__(self, text: str, *, add_special_tokens: bool) -> dict[str, list[int]]:
        return {"input_ids": self._server.tokens(text)}

    def apply_chat_template(
        self, messages: Sequence[Mapping[str, Any]], *, tools: Sequence[Mapping[str, Any]] | None = None, **_: Any
    ) -> str:
        """Raises `ValueError` if the template rejects the conversation."""
        return self._server.render(messages, tools)


def _failure(code: int, message: str) -> Exception:
    """Return what to raise for an error of the server."""
    if code == HTTPStatus.BAD_REQUEST:
        return ValueError(message)
    if any(mark in message.lower() for mark in _FATAL):
        return EngineLost(f"llama.cpp has failed: {message}")
    return ServerFailed(message)


def _reason(library: Any, params: Any) -> str:
    """Load a model again that could not be loaded, and return the first error that the library logs; empty if none.

    It logs to stderr only, so stderr is a file meanwhile. This is why the first attempt is made without it.
    """
    params.verbosity = ERRORS
    own = os.dup(2)
    try:
        with tempfile.TemporaryFile("w+", errors="replace") as file:
            os.dup2(file.fileno(), 2)
            try:
                library.Server(params)
            except RuntimeError:
                pass
            finally:
                os.dup2(own, 2)
            file.seek(0)
            errors = [line.strip().partition(": ")[2] for line in file if " E " in line]
    finally:
        os.close(own)
    return errors[0].removeprefix("error loading model: ") if errors else ""
