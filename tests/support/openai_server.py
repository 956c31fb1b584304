"""An HTTP server of OpenAI's protocol that answers by a script and keeps the requests."""

import asyncio
import json
import re
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse


class Cut(Exception):
    """Cuts an answer off in the middle, without HTTP's end of the body."""


@dataclass
class Answer:
    """The answer to one request.

    The steps of a stream: a text is a delta of a reply, a dict a whole delta, bytes go out as they are, a number
    is a pause in seconds, and `Cut` breaks the connection.
    """

    steps: tuple[str | dict[str, Any] | bytes | float | type[Cut], ...] = ()
    finish: str | None = "stop"
    """The finish_reason of a reply; None for none, as with speech."""
    status: int = 200
    usage: dict[str, Any] = field(default_factory=dict)
    """Sent after the last chunk of a reply."""
    body: Any = None
    """Sent as JSON instead of a stream."""
    headers: dict[str, str] = field(default_factory=dict)


def error(status: int, message: str = "it went wrong", **headers: str) -> Answer:
    return Answer(status=status, body={"error": {"message": message, "type": "test"}}, headers=headers)


def heard(*deltas: str | float, done: str | None = None) -> Answer:
    """A streamed transcript; its last event has the whole text, or `done`."""
    text = "".join(delta for delta in deltas if isinstance(delta, str))
    events = [_event("delta", delta=delta) if isinstance(delta, str) else delta for delta in deltas]
    last = _event("done", text=text if done is None else done)
    return Answer((*events, last), None, headers={"content-type": "text/event-stream"})


def _event(kind: str, **fields: str) -> bytes:
    return b"data: " + json.dumps({"type": f"transcript.text.{kind}", **fields}).encode() + b"\n\n"


def said(*deltas: str | dict[str, Any] | bytes | float | type[Cut]) -> Answer:
    return Answer(deltas)


@dataclass
class Asked:
    """One request as received."""

    path: str
    headers: dict[str, str]
    body: Any
    """The parsed JSON; of a form, its fields as text and its file as bytes."""


class OpenAIServer:
    """Answers are used in order; the last one is repeated."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[Asked] = []
        self.models: Any = {"object": "list", "data": [{"id": "tiny", "object": "model"}]}
        """JSON, an `Answer`, or None for 404."""
        self.voices: Any = None
        self.warm_up: Any = {"choices": [{"message": {"content": "Yes."}, "finish_reason": "stop"}]}
        """The answer to the request for a word, which is not kept: JSON, an `Answer`, or None for 404."""
        self.warm_ups: list[Any] = []
        self.replies: deque[Answer] = deque([said("Hello", " there.")])
        self.refuse: Callable[[dict[str, Any]], Answer | None] = lambda body: None
        """Answers a request for a reply instead of `replies`, if it wants to."""
        self.speeches: deque[Answer] = deque([Answer((bytes(4800),), finish=None)])
        self.transcripts: deque[Answer] = deque([heard("hello", " there")])
        self.transcribe: Callable[[dict[str, Any]], Answer] | None = None
        """Answers a form, instead of `transcripts`. Runs in a thread."""
        self.left = asyncio.Event()
        """Set when a client disconnected in the middle of an answer."""

    def requests(self, path: str) -> list[Any]:
        return [asked.body for asked in self.asked if asked.path == path]

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.api_route("/{path:path}", methods=["GET", "POST"])
        async def answer(path: str, request: Request) -> Response:
            raw = await request.body()
            kind = request.headers.get("content-type", "")
            body: Any = form_fields(raw, kind) if kind.startswith("multipart/") else json.loads(raw) if raw else None
            if path == "v1/chat/completions" and not body.get("stream"):
                self.warm_ups.append(body)
                return self._plain(self.warm_up)
            self.asked.append(Asked(f"/{path}", dict(request.headers), body))
            match f"/{path}":
                case "/v1/models":
                    return self._plain(self.models)
                case "/v1/audio/voices":
                    return self._plain(self.voices)
                case "/v1/chat/completions":
                    return self._stream(self.refuse(body) or _next(self.replies), "text/event-stream")
                case "/v1/audio/speech":
                    return self._stream(_next(self.speeches), "audio/pcm")
                case "/v1/audio/transcriptions":
                    if self.transcribe is not None:
                        return self._stream(await asyncio.to_thread(self.transcribe, body), "application/json")
                    return self._stream(_next(self.transcripts), "application/json")
            return JSONResponse({"detail": "Not Found"}, 404)

        return app

    def _plain(self, content: Any) -> Response:
        if content is None:
            return JSONResponse({"detail": "Not Found"}, 404)
        if isinstance(content, Answer):
            return self._stream(content, "application/json")
        return JSONResponse(content)

    def _stream(self, answer: Answer, kind: str) -> Response:
        if answer.body is not None:
            return JSONResponse(answer.body, answer.status, answer.headers)
        headers = {"content-type": kind, **answer.headers}
        return StreamingResponse(self._steps(answer, kind), answer.status, headers)

    async def _steps(self, answer: Answer, kind: str) -> AsyncIterator[bytes]:
        try:
            for step in answer.steps:
                if isinstance(step, float | int):
                    await asyncio.sleep(step)
                elif isinstance(step, type):
                    raise step
                elif isinstance(step, bytes):
                    yield step
                else:
                    yield chunk({"content": step} if isinstance(step, str) else step)
                await asyncio.sleep(0)
            if kind == "text/event-stream" and answer.finish is not None:
                yield chunk({}, answer.finish)
                last = {"id": "1", "object": "chat.completion.chunk", "choices": [], "usage": answer.usage}
                yield b"data: " + json.dumps(last).encode() + b"\n\n"
                yield b"data: [DONE]\n\n"
        except asyncio.CancelledError:
            self.left.set()
            raise


def form_fields(raw: bytes, content_type: str) -> dict[str, Any]:
    """Return the fields of a form; a file is bytes."""
    boundary = content_type.partition("boundary=")[2].encode()
    fields: dict[str, Any] = {}
    for part in raw.split(b"--" + boundary)[1:-1]:
        head, _, body = part.partition(b"\r\n\r\n")
        name = re.search(rb'name="([^"]+)"', head)
        assert name is not None
        fields[name[1].decode()] = body[:-2] if b"filename=" in head else body[:-2].decode()
    return fields


def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    event = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "tiny", "choices": [choice]}
    return b"data: " + json.dumps(event).encode() + b"\n\n"


def call(index: int, arguments: str, name: str | None = None, id_: str | None = None) -> dict[str, Any]:
    """A delta with a fragment of a tool call."""
    fragment = {"index": index, "id": id_, "function": {"name": name, "arguments": arguments}}
    return {"tool_calls": [fragment]}


def _next(answers: deque[Answer]) -> Answer:
    return answers.popleft() if len(answers) > 1 else answers[0]


@asynccontextmanager
async def openai_server(port: int = 0) -> AsyncIterator[OpenAIServer]:
    """A running server, in this loop. Port 0: any free one."""
    scripted = OpenAIServer()
    # With the protocol given; otherwise asyncio leaves out TCP_NODELAY, and each answer takes 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    scripted.url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    config = uvicorn.Config(scripted.app(), log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup(
        [listener]
    )  # not `serve`: it replaces the process's signal handlers, and stops only every 0.1 s
    try:
        yield scripted
    finally:
        await server.shutdown([listener])


def free_port_url() -> str:
    """A URL on which no server listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
