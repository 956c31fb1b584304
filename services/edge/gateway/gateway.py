"""The gateway: accepts or refuses clients, runs their sessions, and ends them when the edge stops or loses its broker."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import structlog
from fastapi import WebSocket
from structlog.contextvars import bind_contextvars

from services.edge.access.access import Access
from services.edge.access.caller import Caller
from services.edge.access.denied import Denied
from services.edge.client import actions as act
from services.edge.client.codec import Codec
from services.edge.gateway.abilities import Abilities
from services.edge.gateway.admission import NO_BROKER, RETRY_AFTER_S, Admission, Refusal, stages_of
from services.edge.gateway.errors import error_response
from services.edge.gateway.lifetime import until_closed
from services.edge.gateway.limits import ConnectRates
from services.edge.gateway.lost_sessions import LostSessions
from services.edge.gateway.recorder import Recordings
from services.edge.gateway.session import Session
from services.edge.gateway.socket import LARGEST_MESSAGE_BYTES, socket_of
from services.edge.gateway.voice_store import VoiceStore
from shared.agents.folder import BadAgents, load_agents, where
from shared.bus.bus import Bus
from shared.bus.connection import BrokerGone
from shared.observability import metrics
from shared.protocol.session import SessionSettings
from shared.settings import Settings
from shared.worker.lifecycle import Shutdown

log = structlog.get_logger()

DRAIN_CHECK_S = 0.05
"""While the edge drains, it looks this often for calls that may be moved."""
GOODBYE_LEAD_S = 4.0
"""An agent says goodbye this long before the end of the drain, or half of its time before, if that is later."""
CLOSING_S = 1.0
"""At the end of the drain, clients have this long to answer the close frame."""
REVOKED_EVERY_S = 1.0
"""How often it looks for sessions whose key was revoked."""
SUBPROTOCOL = "realtime"
"""The one that is accepted; a browser offers it beside the one that holds its key."""
STOPPING = "the server is shutting down"
MOVED = f"{STOPPING}: connect again with the resume token"


class Gateway:
    def __init__(self, settings: Settings, shutdown: Shutdown) -> None:
        """Raises `BadAgents` if a file of an agent is wrong, `BadSettings` if they leave open who may use the edge."""
        self.settings, self.shutdown = settings, shutdown
        self.access = Access(settings, lambda: self.bus)
        self.agents = load_agents(settings)
        self.admission = Admission(settings, self._check_agents)
        self.voices = VoiceStore(settings.data_dir.expanduser() / "voices")
        self.bus: Bus | None = None
        self.sessions: set[Session] = set()
        self._lost = LostSessions(settings.resume_s)
        self._silent: dict[Session, Callable[[int, str], None]] = {}
        """Connections whose session has not started, the oldest first, and how each is closed."""
        self._connects = ConnectRates(settings.caller_connects)
        self._endings: dict[asyncio.Future[tuple[int, str]], Caller] = {}
        self._empty = asyncio.Event()
        self._empty.set()

    async def run(self, bus: Bus) -> None:
        """Serve on this bus until shutdown. When the broker is lost, all sessions end.

        Raises:
            BrokerGone: the connection to the broker was lost.
            BadAgents: an agent asks for what the workers cannot do.
        """
        self.bus = bus
        self._lost.use(bus)
        try:
            await self.admission.refresh(bus)
            async with asyncio.TaskGroup() as tasks:
                watch = tasks.create_task(self.admission.watch(bus))
                sharing = tasks.create_task(self.voices.share(bus))
                recording = tasks.create_task(Recordings(self.settings, self.sessions).run(bus))
                revoking = tasks.create_task(self._end_revoked())
                await self.shutdown.stopping.wait()
                await self._drain()
                watch.cancel()
                sharing.cancel()
                recording.cancel()
                revoking.cancel()
        finally:
            self.bus = None
            self._lost.lose_bus()
            self._end_all(1012, "the server lost its broker")

    async def _drain(self) -> None:
        """Let every call go on to the end of its reply, or of the drain time, then end it; no new one is accepted.

        A client that cannot reconnect by itself keeps its call until the time is nearly over. Then it hears the goodbye of
        its agent, if there is one.
        """
        loop = asyncio.get_running_loop()
        drain_s = self.settings.drain_ms / 1000
        end_s = loop.time() + drain_s
        goodbye_s = end_s - min(GOODBYE_LEAD_S, drain_s / 2)
        if self.sessions:
            log.info("the edge drains", sessions=len(self.sessions), drain_s=drain_s)
        while self.sessions and loop.time() < end_s:
            for session in self.sessions:
                if session.line is not None or not session.started:
                    session.end_when_silent(1012, MOVED)
                elif loop.time() >= goodbye_s:
                    session.say_goodbye(1012, STOPPING)
            with suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_CHECK_S):
                    await self._empty.wait()
        self._end_all(1012, MOVED)
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSING_S):
                await self._empty.wait()

    def _check_agents(self, abilities: Abilities) -> None:
        """Raises `BadAgents` if an agent asks for what the workers cannot do."""
        if self.admission.clones_voices():
            abilities = replace(abilities, voices=(*abilities.voices, *self.voices.names()))
        wrong = {
            f"{where(agent, unable.key, self.settings)}: {unable.message}"
            for agent in self.agents.by_id.values()
            for unable in abilities.missing(agent.settings)
        }
        if wrong:
            raise BadAgents("\n".join(sorted(wrong)))

    async def _end_revoked(self) -> None:
        """Keep ending the sessions whose key is no longer valid, until cancelled."""
        while True:
            await asyncio.sleep(REVOKED_EVERY_S)
            valid = self.access.keys.valid()
            for ending, caller in tuple(self._endings.items()):
                if caller.key is not None and caller.key.id not in valid and not ending.done():
                    ending.set_result((1008, "the key of this session was revoked, or has expired"))

    def _end_all(self, code: int, reason: str) -> None:
        for ending in tuple(self._endings):
            if not ending.done():
                ending.set_result((code, reason))

    def _check_limit(self, caller: Caller) -> None:
        """Raises `Denied` if the caller connects too often, or has all the sessions that it may have at the same time.

        Without a key, callers on this machine have no limits.
        """
        limit = None if caller.key is None else caller.key.sessions
        if limit is None and caller.local:
            return
        if not self._connects.take(caller.id, asyncio.get_running_loop().time()):
            message = f"more than {self.settings.caller_connects} connections a minute (PARLEY_CALLER_CONNECTS)"
            raise Denied(429, "too_many_connections", message)
        limit = self.settings.caller_sessions if limit is None else limit
        if sum(other.id == caller.id for other in self._endings.values()) >= limit:
            who = "this address" if caller.key is None else "this key"
            raise Denied(429, "too_many_sessions", f"{who} may have {limit} sessions at the same time, and has them")

    def refusal(self, settings: SessionSettings | None = None, *, load: bool = True) -> Refusal | None:
        """Why no session with these settings can be accepted now; None if one can. Without settings: those of the default agent."""
        if self.shutdown.stopping.is_set():
            return Refusal("stopping", STOPPING)
        if self.bus is None:
            return NO_BROKER
        if len(self.sessions) >= self.settings.max_sessions:
            return Refusal("full", f"the server is full: it accepts {self.settings.max_sessions} sessions")
        needed = stages_of(settings or self.agents.default.settings)
        return self.admission.refusal(needed, len(self.sessions), load=load)

    async def fresh_refusal(self) -> Refusal | None:
        """As `refusal`, after a new reading of the stages."""
        try:
            if self.bus is not None:
                await self.admission.refresh(self.bus)
        except BrokerGone:  # `run` will notice it, too
            return NO_BROKER
        return self.refusal()

    async def serve(
        self,
        websocket: WebSocket,
        codec: Codec,
        protocol: str,
        caller: Caller,
        settings: SessionSettings,
        *,
        browser: bool = False,
    ) -> None:
        """Run one client's session until it ends, or refuse it. `settings`: those that it has if the client changes none.

        `browser`: refuse with a close frame instead of an HTTP error, because a page cannot read the HTTP answer of a
        WebSocket handshake.

        Raises:
            Denied: the caller has too many sessions.
        """
        self._check_limit(caller)
        # Where the first message may go on with a session, that message decides whether the load counts.
        if (
            refusal := self.refusal(settings, load=codec.resumable is None or codec.starts_with is not None)
        ) is not None:
            await self._refuse(websocket, refusal, browser=browser)
            return
        ending: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self._endings[ending] = caller  # before the accept: handshakes at the same moment count, too
        try:
            await websocket.accept(subprotocol=chosen_subprotocol(websocket))
            if self.bus is None:  # lost during the accept
                await websocket.close(1013, NO_BROKER.message)
            else:
                await self._serve(self.bus, websocket, codec, protocol, caller, settings, ending)
        finally:
            del self._endings[ending]

    async def _serve(
        self,
        bus: Bus,
        websocket: WebSocket,
        codec: Codec,
        protocol: str,
        caller: Caller,
        settings: SessionSettings,
        ending: asyncio.Future[tuple[int, str]],
    ) -> None:
        """Run an accepted client's session until it ends, or until `ending` says why it has to."""
        resuming: asyncio.Future[act.Resume] = asyncio.get_running_loop().create_future()

        def close(code: int, reason: str) -> None:
            if not ending.done():
                ending.set_result((code, reason))

        def ask_to_resume(wish: act.Resume) -> None:
            if not resuming.done():
                resuming.set_result(wish)

        socket = socket_of(websocket)

        def take_place(resumed: bool) -> str:
            if (refusal := self.refusal(settings, load=not resumed)) is not None:
                if not ending.done():
                    metrics.sessions_refused.labels(refusal.code).inc()
                return refusal.message
            self._silent.pop(session, None)
            self.sessions.add(session)
            self._empty.clear()
            active.inc()
            log.info("session began", session=session.id, protocol=protocol, caller=caller.id)
            return ""

        session = Session(
            bus, codec, self.settings, self.admission.abilities(), socket.send_now, close,
            protocol=protocol, engine_of=self.admission.engine, take_place=take_place, on_resume=ask_to_resume,
        )  # fmt: skip
        bind_contextvars(session=session.id)
        self._let_wait(session, close)
        active = metrics.sessions_active.labels(protocol)
        outcome = "failed"
        try:
            session.open()
            # a character has up to 4 bytes; the session knows the rest of the limit
            socket.attach(session.receive, min(4 * codec.largest_message, LARGEST_MESSAGE_BYTES))
            outcome = await until_closed(websocket, session, ending, resuming, bus, self.settings.max_session_s)
        finally:
            self._silent.pop(session, None)
            if outcome == "suspended":
                session.suspend()
                if not self.shutdown.stopping.is_set():  # else it expires
                    self._lost.add(session)
            else:
                if session.started and bus is not self.bus:
                    self._lost.add_ended(session)
                session.end(outcome)
            if session in self.sessions:
                self.sessions.discard(session)
                if not self.sessions:
                    self._empty.set()
                active.dec()
                metrics.sessions_total.labels(protocol, outcome).inc()
                log.info("session ended", protocol=protocol, outcome=outcome)

    def _let_wait(self, session: Session, close: Callable[[int, str], None]) -> None:
        """This connection has no session yet. If there are too many, the one that has been silent for longest is closed."""
        if len(self._silent) >= self.settings.max_silent:
            oldest = next(iter(self._silent))
            self._silent.pop(oldest)(1013, "nothing was said, and others are waiting")
        self._silent[session] = close

    async def _refuse(self, websocket: WebSocket, refusal: Refusal, *, browser: bool) -> None:
        reason = refusal.message
        metrics.sessions_refused.labels(refusal.code).inc()
        log.warning("session refused", reason=reason)
        if browser:
            await websocket.accept(subprotocol=chosen_subprotocol(websocket))
            await websocket.close(1013, reason[:120])
        else:
            response = error_response(503, "unavailable", reason, {"Retry-After": str(RETRY_AFTER_S)})
            await websocket.send_denial_response(response)


def chosen_subprotocol(websocket: WebSocket) -> str | None:
    """The subprotocol to accept. A browser that has offered some closes a connection that accepts none."""
    return SUBPROTOCOL if SUBPROTOCOL in websocket.scope.get("subprotocols", ()) else None
