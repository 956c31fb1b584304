"""The edge: who is connected, who may connect, and how a connection lives and ends."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog
from fastapi import WebSocket
from fastapi.responses import JSONResponse
from structlog.contextvars import bind_contextvars

from services.edge.client.codec import Codec
from services.edge.gateway.admission import Monitor, Refusal
from services.edge.gateway.session import Session
from services.edge.gateway.socket import socket_of
from services.edge.gateway.voice_store import VoiceStore
from shared.bus.bus import Bus
from shared.observability import metrics
from shared.protocol.session import SessionSettings
from shared.settings import Settings
from shared.worker.lifecycle import Shutdown

log = structlog.get_logger()

KEEP_ALIVE_S = 20.0
FIRST_MESSAGE_S = 10.0
"""A client that has not begun its session by then is sent away."""

FAULTS = (1011, 1012)
"""Codes with which a session ends that nobody wished to end: a fault of ours, or the server or its broker goes away."""


class Edge:
    """All sessions of this process."""

    def __init__(self, settings: Settings, shutdown: Shutdown) -> None:
        self.settings, self.shutdown = settings, shutdown
        self.monitor = Monitor(settings)
        self.voices = VoiceStore(settings.data_dir.expanduser() / "voices")
        self.bus: Bus | None = None
        self.sessions: set[Session] = set()
        self._endings: set[asyncio.Future[tuple[int, str]]] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    def defaults(self) -> SessionSettings:
        """The settings of a session that asks for nothing."""
        return self.settings.session

    async def run(self, bus: Bus) -> None:
        """Serve on this bus until shutdown; when the bus goes, every session on it ends."""
        self.bus = bus
        try:
            await self.monitor.look(bus)
            async with asyncio.TaskGroup() as tasks:
                watch = tasks.create_task(self.monitor.watch(bus))
                sharing = tasks.create_task(self.voices.share(bus))
                await self.shutdown.stopping.wait()
                self._end_all(1012, "the server is going away")
                with suppress(TimeoutError):
                    async with asyncio.timeout(self.settings.drain_ms / 1000):
                        await self._empty.wait()
                watch.cancel()
                sharing.cancel()
        finally:
            self.bus = None
            self._end_all(1012, "the broker is gone")

    def _end_all(self, code: int, reason: str) -> None:
        for ending in tuple(self._endings):
            if not ending.done():
                ending.set_result((code, reason))

    def refusal(self) -> Refusal | None:
        """Why no session can be taken now, or None."""
        if self.shutdown.stopping.is_set():
            return Refusal("stopping", "the server is going away")
        if self.bus is None:
            return Refusal("broker", "the broker is not reachable")
        if len(self.sessions) >= self.settings.max_sessions:
            return Refusal("full", f"the limit of sessions in progress is reached: {self.settings.max_sessions}")
        return self.monitor.refusal()

    async def converse(
        self,
        websocket: WebSocket,
        codec: Codec,
        protocol: str,
        *,
        subprotocol: str | None = None,
        browser: bool = False,
    ) -> None:
        """Serve one client to its end, or refuse it at once.

        `browser`: the refusal is a close frame with its reason, since a page cannot read an HTTP answer.
        """
        if (refusal := self.refusal()) is not None:
            await self._refuse(websocket, refusal, browser=browser)
            return
        await websocket.accept(subprotocol=subprotocol)
        assert self.bus is not None  # noqa: S101 - `refusal` said so, and nothing was awaited but the accept
        ending: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()

        def close(code: int, why: str) -> None:
            if not ending.done():
                ending.set_result((code, why))

        socket = socket_of(websocket)
        hears = self.monitor.hears()
        session = Session(
            self.bus, codec, self.settings, self.monitor.voices(), socket.send_now, close,
            hears=hears, protocol=protocol, engine_of=self.monitor.engine,
        )  # fmt: skip
        bind_contextvars(session=session.id)
        log.info("session began", protocol=protocol)
        self.sessions.add(session)
        self._empty.clear()
        self._endings.add(ending)
        active = metrics.sessions_active.labels(protocol)
        active.inc()
        outcome = "failed"
        try:
            if codec.starts_at_once:
                session.start(self.defaults())
            socket.attach(session.receive)
            outcome = await self._live(websocket, session, ending)
        finally:
            self._endings.discard(ending)
            self.sessions.discard(session)
            if not self.sessions:
                self._empty.set()
            session.end(outcome)
            active.dec()
            metrics.sessions_total.labels(protocol, outcome).inc()
            log.info("session ended", protocol=protocol, outcome=outcome)

    async def _live(self, websocket: WebSocket, session: Session, ending: asyncio.Future[tuple[int, str]]) -> str:
        """Returns how the session ended."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        async with asyncio.TaskGroup() as tasks:
            gone = tasks.create_task(_disconnected(websocket))
            while not gone.done() and not ending.done():
                wait_s = KEEP_ALIVE_S if session.started else FIRST_MESSAGE_S
                either: list[asyncio.Future[Any]] = [gone, ending]
                await asyncio.wait(either, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
                if gone.done() or ending.done():
                    break
                session.keep_alive()
                if not session.started:
                    ending.set_result((1008, f"no session was begun within {FIRST_MESSAGE_S:g} s"))
                elif loop.time() - began_s > self.settings.max_session_s:
                    session.hang_up(1008, f"a session lasts {self.settings.max_session_s} s at most")
            gone.cancel()
        if not ending.done():
            metrics.closes.labels(session.protocol, "client").inc()
            return "left"
        code, reason = ending.result()
        if code in (1011, 1012, 1013):
            session.tell("closing", reason)
        with suppress(RuntimeError, OSError):  # the client may be gone by now
            await websocket.close(code, reason[:120])
        metrics.closes.labels(session.protocol, str(code)).inc()
        return "failed" if code in FAULTS else "closed"

    async def _refuse(self, websocket: WebSocket, refusal: Refusal, *, browser: bool) -> None:
        reason = refusal.message
        metrics.sessions_refused.labels(refusal.code).inc()
        log.warning("refused a session", reason=reason)
        if browser:
            await websocket.accept()
            await websocket.close(1013, reason[:120])
        else:
            body = {"error": {"type": "server_error", "code": "unavailable", "message": reason}}
            await websocket.send_denial_response(JSONResponse(body, 503, {"Retry-After": "1"}))


async def _disconnected(websocket: WebSocket) -> None:
    """Returns when the client is gone; its messages never come here once the socket is attached."""
    receive: Callable[[], asyncio.Future[dict[str, str]]] = websocket.receive  # type: ignore[assignment]
    while (await receive())["type"] != "websocket.disconnect":
        pass
