"""One client's session: its actions become frames, the frames of its log become events.

It owns the session's beginning and end, its audio and the settings that the client asked for; what is said is its
`Conversation`. It knows no wire protocol (the codec does), no socket (it is given `send` and `close`) and no turn-taking
(the vad worker does). Everything in it runs on the event loop without waiting.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import structlog

from services.edge.client import actions as act
from services.edge.client import events as ev
from services.edge.client.codec import Codec
from services.edge.conversation.conversation import Conversation
from services.edge.conversation.observer import EngineOf, Observer
from services.edge.conversation.playout import Playout
from services.edge.gateway.abilities import Abilities, Unable
from services.edge.gateway.audio_input import AudioInput
from services.edge.gateway.limits import TokenBucket
from shared.bus.bus import Channel
from shared.bus.reader import Subscription
from shared.bus.records import SessionState
from shared.bus.session_store import SessionStore
from shared.observability import metrics
from shared.protocol import frames as fr
from shared.protocol.entry_id import milliseconds
from shared.protocol.frames import Frame
from shared.protocol.session import SessionSettings
from shared.protocol.streams import StreamKind
from shared.protocol.turns import WHOLE_SESSION
from shared.settings import Settings

log = structlog.get_logger()

ASKS_PER_S, ASKS_BURST = 4.0, 16.0
"""Typed turns, requested replies and changes of settings that one client may send: each is work for the workers. A person needs
one a second; more than that would only wait, and delay what others say."""
REFUSING_S = 2.0
"""The client is warned when the broker has taken nothing for this long."""
REFUSING_LONGEST_S = 30.0
"""The session is closed when the broker has taken nothing for this long."""

Send = Callable[[str | bytes], bool]
Close = Callable[[int, str], None]
TakePlace = Callable[[], str]


def end_session(bus: SessionStore, session: str, reason: str) -> None:
    """Tell the workers that a session has ended."""
    bus.channel("edge", session).publish(fr.SessionEnded(reason))
    bus.stop(session, WHOLE_SESSION, 0)
    bus.keep_alive(session)


class Session:
    """From the client's first message to its last."""

    def __init__(
        self,
        bus: SessionStore,
        codec: Codec,
        settings: Settings,
        abilities: Abilities,
        send: Send,
        close: Close,
        *,
        protocol: str = "stream",
        engine_of: EngineOf = str,
        take_place: TakePlace = str,
    ) -> None:
        """`abilities`: what its settings may ask for. `engine_of`: the engine that a stage runs on. `take_place`: called before
        the session starts; what it returns is the reason why it cannot, empty: it can."""
        self.id = secrets.token_hex(16)  # an argument of `parley turns`: it must not begin with a dash
        self.protocol = protocol
        self.started = False
        self.settings = SessionSettings()
        self._bus, self._codec, self._abilities = bus, codec, abilities
        self._send, self._close, self._take_place = send, close, take_place
        self._loop = asyncio.get_running_loop()
        self._began_s = self._asked_s = self._loop.time()
        self._asks = TokenBucket(ASKS_PER_S, ASKS_BURST, self._began_s)
        self._channel: Channel = bus.channel("edge", self.id)
        self._subscription: Subscription | None = None
        self._audio_input = AudioInput(bus, self._channel, codec, self.notify)
        self._counted_s = 0.0  # seconds of audio that the metrics know of
        self._opened = False
        self._warned_of_refusing = False
        self.conversation = Conversation(
            bus,
            self._channel,
            self.id,
            Observer(
                bus,
                self.id,
                protocol,
                lambda: codec.rate_hz,
                self._audio_input.age_s,
                engine_of,
                content=settings.log_content,
            ),
            # the rate is known only once there is audio
            lambda: Playout(codec.rate_hz, settings.reply_ahead_s, keeps=not codec.can_pause),
            self._emit,
            close,
            deadline_s=settings.turn_deadline_s,
            shows_failures=codec.shows_failures,
        )

    # -- the client's side ------------------------------------------------------------------------

    def open(self) -> None:
        """The client has connected. A session that needs no start message begins with the first message of any kind, unless the
        agent speaks first: a connection that says nothing costs the workers nothing."""
        if (settings := self._codec.starts_with) is None:
            return
        if settings.greeting or settings.idle_ms or self._report_missing(settings):
            self.start(settings)
        else:
            self._emit(ev.Ready(self.id, settings))

    @property
    def may_be_silent(self) -> bool:
        """The client need not send anything soon."""
        return self._codec.starts_with is not None

    def receive(self, message: str | bytes) -> None:
        if len(message) > self._codec.largest_message:
            self._close(1009, f"a message has at most {self._codec.largest_message} bytes")
            return
        try:
            if not self.started and self._codec.starts_with is not None:
                self.start(self._codec.starts_with, announced=True)
            for action in self._codec.decode(message):
                if type(action) is act.Audio:
                    if self.started:
                        self._audio_input.take(action.pcm)
                else:
                    self._act(action)
        except Exception:  # the rim: an error of ours with one client's message ends only that client's session
            log.exception("session failed", session=self.id)
            self._close(1011, "internal error")

    def start(self, settings: SessionSettings, *, announced: bool = False) -> None:
        """Begin: from now on a vad worker listens. `announced`: the client knows that it is ready."""
        if self.started:
            return
        if missing := self._report_missing(settings):
            self._close(1008, missing[0].reason)
            return
        if reason := self._take_place():
            self._close(1013, reason)
            return
        self.started, self._asked_s = True, self._loop.time()
        self.settings = settings
        self._bus.save_settings(self.id, settings)
        started = fr.SessionStarted(self.id, settings)
        self._bus.request_listener(started)
        self._channel.publish(started)
        self._bus.keep_alive(self.id)
        self._subscription = self._bus.follow(StreamKind.OUT, self.id, "0-0", self.deliver)
        if not announced:
            self._emit(ev.Ready(self.id, settings))
        self.conversation.begin(settings)

    def keep_alive(self) -> None:
        """Prolong the life of the session's keys, and check that the broker has them. Called regularly."""
        if self.started:
            self._bus.check_alive(self.id, self._on_state)
            self._check_refusing()
            self._count_audio()

    def _on_state(self, state: SessionState) -> None:
        if not self.started:
            return
        if state is SessionState.LOST:
            self._close(1012, "the broker lost the session's data")
        elif state is SessionState.UNHEARD:
            log.warning("session without a vad worker", session=self.id)
            self._bus.request_listener(fr.SessionStarted(self.id, self.settings))

    def _check_refusing(self) -> None:
        """Warn the client once, when nothing that it says reaches the workers; close the session when that lasts."""
        refusing_s = self._bus.refusing_s
        if refusing_s > REFUSING_LONGEST_S:
            self._close(1012, "the broker is full")
        elif refusing_s > REFUSING_S and not self._warned_of_refusing:
            self.notify("broker_full", "the broker takes no data at the moment: what you say is lost")
        self._warned_of_refusing = refusing_s > REFUSING_S

    def _count_audio(self) -> None:
        counted_s, self._counted_s = self._counted_s, self._audio_input.received_s
        metrics.audio_seconds.labels("in", self.protocol).inc(self._counted_s - counted_s)

    def end(self, reason: str) -> None:
        """End the session: the client has disconnected, or is disconnected now."""
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None
        self.conversation.end(reason)
        if self.started:
            end_session(self._bus, self.id, reason)
            self._count_audio()
            self.started = False

    def hang_up(self, code: int, reason: str) -> None:
        """Say goodbye, where the session has one, and close."""
        self.conversation.leave(code, reason)

    def say_goodbye(self, code: int, reason: str) -> None:
        """Say goodbye and close; a session without a goodbye goes on."""
        if self.settings.goodbye:
            self.conversation.leave(code, reason)

    def end_when_silent(self, code: int, reason: str) -> None:
        """Close if nobody speaks and nothing is due to be said."""
        if not self.started or self.conversation.state.is_silent:
            self._close(code, reason)

    @property
    def reconnects(self) -> bool:
        """The client goes on by itself when its line is lost."""
        return self._codec.reconnects

    def notify(self, code: str, message: str) -> None:
        self._emit(ev.Failed(code, message))

    def _act(self, action: act.Action) -> None:
        match action:
            case act.Start(settings):
                self.start(settings)
            case act.Say() | act.RequestReply() | act.Configure() if self.started and not self._asks.take(
                1, self._loop.time()
            ):
                metrics.dropped.labels("too_many").inc()
                self.notify(
                    "too_many", f"more than {ASKS_PER_S:g} turns, requests and changes a second: this one is dropped"
                )
            case act.Configure(settings):
                self._configure(settings)
            case act.GetStats():
                self._emit(ev.Stats(self.stats()))
            case act.HangUp():
                self.hang_up(1000, "goodbye")
            case act.Send(messages):
                self._send_all(messages)
            case act.Close(code, reason):
                self._close(code, reason)
            case act.Commit() | act.RequestReply() | act.SetHistory() if not self.started:
                pass  # nothing was said that could be a turn, or be replied to; or the start was refused
            case _:
                self.conversation.do(action)

    def _configure(self, settings: SessionSettings) -> None:
        missing = {unable.key for unable in self._report_missing(settings)}
        if missing - {"route"}:
            return
        if missing:
            settings = replace(settings, route=self.settings.route)
        self.settings = settings
        self.conversation.do(act.Configure(settings))
        if self.started:
            self._bus.save_settings(self.id, settings)
            self._channel.publish(fr.SettingsChanged(settings))

    def _report_missing(self, settings: SessionSettings) -> list[Unable]:
        """Tell the client what of these settings the workers cannot do, and return it."""
        missing = list(self._abilities.missing(settings))
        for unable in missing:
            self.notify(unable.code, unable.message)
        return missing

    # -- the log's side ---------------------------------------------------------------------------

    def deliver(self, entry_id: str, fence: int, frames: Sequence[Frame]) -> None:
        """The next entry of the session's log; the reader calls this."""
        if not self._opened:  # our own first entry, read back: the way to the broker is open in both directions
            self._opened = True
            metrics.session_setup.labels(self.protocol).observe(self._loop.time() - self._asked_s)
        try:
            self.conversation.deliver(frames, milliseconds(entry_id), fence)
        except Exception:  # the rim, as above
            log.exception("session failed", session=self.id)
            self._close(1011, "internal error")

    # -- out --------------------------------------------------------------------------------------

    def _emit(self, event: ev.Event) -> None:
        self._send_all(self._codec.encode(event))

    def _send_all(self, messages: Sequence[str | bytes]) -> None:
        for message in messages:
            if not self._send(message):
                metrics.dropped.labels("slow_reader").inc()
                self._close(1013, "too much is unread")
                return

    def stats(self) -> dict[str, Any]:
        state = self.conversation.state
        return {
            "session_id": self.id,
            "seconds": round(self._loop.time() - self._began_s, 3),
            "audio_seconds_in": round(self._audio_input.received_s, 3),
            "dropped_samples": self._audio_input.dropped,
            "turn": state.newest_turn,
            "turns": state.accepted_turns,
            "interrupted": state.interrupted_replies,
            "stale": state.stale_frames,
        }
