"""The gateway: accepts or refuses clients, runs their sessions, and ends them when the edge stops or loses its broker."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from functools import partial

import structlog
from fastapi import WebSocket
from structlog.contextvars import bind_contextvars

from services.edge.access.access import Access
from services.edge.access.caller import Caller
from services.edge.client import actions as act
from services.edge.client.codec import Codec
from services.edge.gateway.abilities import Abilities
from services.edge.gateway.admission import NO_BROKER, RETRY_AFTER_S, Admission, Refusal, stages_of
from services.edge.gateway.apology_voice import ApologyVoice
from services.edge.gateway.connections import STOPPING, Connections, Ending, end
from services.edge.gateway.errors import error_response
from services.edge.gateway.lifetime import until_closed
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

REVOKED_EVERY_S = 1.0
"""Interval at which the edge looks for sessions whose key was revoked."""
BROKER_S = 1.0
"""Time that a new connection waits for the broker. Clients of a dead edge come back before its successor has reached it."""
SUBPROTOCOL = "realtime"
"""The one that is accepted; a browser offers it beside the one that holds its key."""


class Gateway:
    def __init__(self, settings: Settings, shutdown: Shutdown) -> None:
        """Raises `BadAgents` if a file of an agent is wrong, `BadSettings` if they leave open who may use the edge."""
        self.settings, self.shutdown = settings, shutdown
        self.access = Access(settings, lambda: self.bus)
        self.agents = load_agents(settings)
        self.admission = Admission(settings, self._stages_ready)
        self.apology_voice = ApologyVoice()
        self.voices = VoiceStore(settings.data_dir.expanduser() / "voices")
        self.bus: Bus | None = None
        self._has_bus = asyncio.Event()
        self.connections = Connections(settings)
        self._lost = LostSessions(settings.resume_s)

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
            self._has_bus.set()
            async with asyncio.TaskGroup() as tasks:
                watch = tasks.create_task(self.admission.watch(bus))
                sharing = tasks.create_task(self.voices.share(bus))
                recording = tasks.create_task(Recordings(self.settings, self.connections.sessions).run(bus))
                revoking = tasks.create_task(self._end_revoked())
                apologising = tasks.create_task(self.apology_voice.run(bus))
                await self.shutdown.stopping.wait()
                await self.connections.drain(self.settings.drain_ms / 1000)
                watch.cancel()
                sharing.cancel()
                recording.cancel()
                revoking.cancel()
                apologising.cancel()
        finally:
            self.bus = None
            self._has_bus.clear()
            self._lost.lose_bus()
            self.connections.end_all(1012, "the server lost its broker")

    def _stages_ready(self, abilities: Abilities) -> None:
        """Check the agents, and have those that answer the phone speak their apologies: the first call needs its voice for itself.

        Raises:
            BadAgents: an agent asks for what the workers cannot do.
        """
        self._check_agents(abilities)
        answers_phone = self.settings.twilio_auth_token is not None
        for agent in self.agents.by_id.values():
            if agent.settings.speak_failures != "never" and (answers_phone or agent.numbers):
                self.apology_voice.prepare(agent.settings)

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
            self.connections.end_revoked(self.access.keys.valid())

    def refusal(self, settings: SessionSettings | None = None, *, load: bool = True) -> Refusal | None:
        """Return why no session with these settings can be accepted now; None if one can. Without settings: those of the default agent."""
        if self.shutdown.stopping.is_set():
            return Refusal("stopping", STOPPING)
        if self.bus is None:
            return NO_BROKER
        sessions = len(self.connections.sessions)
        if sessions >= self.settings.max_sessions:
            return Refusal("full", f"the server is full: it accepts {self.settings.max_sessions} sessions")
        needed = stages_of(settings or self.agents.default.settings)
        return self.admission.refusal(needed, sessions, load=load)

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
        self.connections.check(caller)
        if not self.shutdown.stopping.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(BROKER_S):
                    await self._has_bus.wait()
        # Where the first message may go on with a session, that message decides whether the load counts.
        if (
            refusal := self.refusal(settings, load=codec.resumable is None or codec.starts_with is not None)
        ) is not None:
            await self._refuse(websocket, refusal, browser=browser)
            return
        with self.connections.opened(caller) as ending:  # before the accept: handshakes at the same moment count, too
            await websocket.accept(subprotocol=chosen_subprotocol(websocket))
            if self.bus is None:  # lost during the accept
                await websocket.close(1013, NO_BROKER.message)
            else:
                await self._serve(self.bus, websocket, codec, protocol, caller, settings, ending)

    async def _serve(
        self,
        bus: Bus,
        websocket: WebSocket,
        codec: Codec,
        protocol: str,
        caller: Caller,
        settings: SessionSettings,
        ending: Ending,
    ) -> None:
        """Run an accepted client's session until it ends, or until `ending` says why it has to."""
        resuming: asyncio.Future[act.Resume] = asyncio.get_running_loop().create_future()

        def ask_to_resume(wish: act.Resume) -> None:
            if not resuming.done():
                resuming.set_result(wish)

        socket, close = socket_of(websocket), partial(end, ending)

        def take_place(resumed: bool) -> str:
            if (refusal := self.refusal(settings, load=not resumed)) is not None:
                if not ending.done():
                    metrics.sessions_refused.labels(refusal.code).inc()
                return refusal.message
            self.connections.start(session)
            active.inc()
            log.info("session began", session=session.id, protocol=protocol, caller=caller.id)
            return ""

        session = Session(
            bus, codec, self.settings, self.admission.abilities(), socket.send_now, close,
            protocol=protocol, engine_of=self.admission.engine, take_place=take_place, on_resume=ask_to_resume,
            apology_voice=self.apology_voice,
        )  # fmt: skip
        bind_contextvars(session=session.id)
        self.connections.let_wait(session, close)
        active = metrics.sessions_active.labels(protocol)
        outcome = "failed"
        try:
            session.open()
            # a character has up to 4 bytes; the session knows the rest of the limit
            socket.attach(session.receive, min(4 * codec.largest_message, LARGEST_MESSAGE_BYTES))
            outcome = await until_closed(websocket, session, ending, resuming, bus, self.settings.max_session_s)
        finally:
            had_place = self.connections.leave(session)
            if outcome == "suspended":
                session.suspend()
                if not self.shutdown.stopping.is_set():  # else it expires
                    self._lost.add(session)
            else:
                if session.started and bus is not self.bus:
                    self._lost.add_ended(session)
                session.end(outcome)
            if had_place:
                active.dec()
                metrics.sessions_total.labels(protocol, outcome).inc()
                log.info("session ended", protocol=protocol, outcome=outcome)

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
