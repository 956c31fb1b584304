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
from services.edge.conversation.inputs import Restore
from services.edge.conversation.observer import EngineOf, Observer
from services.edge.conversation.playout import Playout
from services.edge.gateway.abilities import Abilities, Unable
from services.edge.gateway.apology_voice import ApologyVoice
from services.edge.gateway.audio_input import AudioInput
from services.edge.gateway.journal import NOT_NUMBERED, Journal
from services.edge.gateway.limits import TokenBucket
from services.edge.gateway.resume import POINTS_KEPT, START, SavedSession, new_token, token_hash
from shared.bus.channel import Channel
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

ResumeCallback = Callable[[act.Resume], None]
Send = Callable[[str | bytes], bool]
Close = Callable[[int, str], None]
TakePlace = Callable[[bool], str]
"""Takes whether the session goes on from another connection."""


def end_session(bus: SessionStore, session: str, reason: str) -> None:
    """Tell the workers that a session has ended."""
    bus.channel("edge", session).publish(fr.SessionEnded(reason))
    bus.stop(session, WHOLE_SESSION, 0)
    bus.expire_soon(session)


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
        take_place: TakePlace = lambda resumed: "",
        on_resume: ResumeCallback = lambda wish: None,
        apology_voice: ApologyVoice | None = None,
    ) -> None:
        """`abilities`: what its settings may ask for. `engine_of`: the engine that a stage runs on. `take_place`: called before
        the session starts; what it returns is the reason why it cannot, empty: it can. `on_resume`: the client wants to go on with
        another session; `resume` or `begin_anew` must follow. `apology_voice`: the recordings of this edge."""
        self.protocol = protocol
        self.line = secrets.token_hex(8)
        """Name of this connection."""
        self.started = False
        self.settings = SessionSettings()
        self._bus, self._codec, self._abilities = bus, codec, abilities
        self._send, self._close, self._take_place, self._on_resume = send, close, take_place, on_resume
        self._settings, self._engine_of = settings, engine_of
        self._apology_voice = apology_voice or ApologyVoice()
        self._loop = asyncio.get_running_loop()
        self.began_s = self._asked_s = self._loop.time()
        """When the session began, by the event loop's clock; perhaps on another connection."""
        self._began_ms = bus.clock.now_ms()
        self._asks = TokenBucket(ASKS_PER_S, ASKS_BURST, self.began_s)
        self._subscription: Subscription | None = None
        self._counted_s = 0.0  # seconds of audio that the metrics know of
        self._opened = False
        self._warned_of_refusing = False
        self._taken = False  # by another connection
        self._token = ""
        self._points: list[fr.ResumePoint] = []
        self._identify(secrets.token_hex(16))  # an argument of `parley turns`: it must not begin with a dash

    def _identify(self, id_: str) -> None:
        """This is the session from now on."""
        bus, codec, settings, protocol, engine_of = (
            self._bus,
            self._codec,
            self._settings,
            self.protocol,
            self._engine_of,
        )
        self.id = id_
        self._channel: Channel = bus.channel("edge", id_)
        self._journal = Journal(self._channel) if self.is_resumable else None
        self._audio_input = AudioInput(bus, self._channel, codec, self.notify, self._close)
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
            self._close,
            deadline_s=settings.turn_deadline_s,
            shows_failures=codec.shows_failures,
            reply_deadline_s=settings.reply_deadline_s,
            find_recording=self._apology_voice.find,
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
                        self._audio_input.take(action.pcm, held=not self.settings.detect_turns)
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
        if reason := self._take_place(False):
            self._close(1013, reason)
            return
        self.started, self._asked_s = True, self._loop.time()
        self.settings = settings
        self._bus.save_settings(self.id, settings)
        if self.is_resumable:
            self._token = new_token(self.id)
            self._bus.open_line(self.id, self.line, token_hash(self._token))
            self._save_point(START)
        started = fr.SessionStarted(self.id, settings)
        self._bus.request_listener(started)
        self._channel.publish(started)
        self._bus.keep_alive(self.id)
        self._subscription = self._bus.follow(StreamKind.OUT, self.id, START, self.deliver)
        if not announced:
            self._emit(self._ready(resumed=False))
        self.conversation.begin(settings)
        self._prepare_apology()

    def resume(self, saved: SavedSession, wish: act.Resume) -> None:
        """Go on with a session that began on another connection. What the client has not received comes again.

        Raises:
            TypeError: a frame does not belong into a log.
        """
        assert self._codec.resumable is not None  # noqa: S101 - its client has asked for it
        if reason := self._take_place(True):
            self._close(1013, reason)
            return
        self._identify(saved.id)
        assert self._journal is not None  # noqa: S101 - as above
        self.started, self._opened, self.settings = True, True, saved.settings
        self._token, self._points = saved.token, list(saved.points)
        point = self._points[-1]
        self._began_ms = point.began_ms
        self.began_s = self._loop.time() - (self._bus.clock.now_ms() - point.began_ms) / 1000
        self._codec.resumable.resume(saved.settings)
        self._audio_input.go_on_from(saved.input_samples)
        self._journal.restore(saved.sent, point.events, wish.number)
        self._bus.keep_alive(self.id)
        restore = Restore(saved.settings, point, saved.history, wish.turn, wish.samples)
        events = self.conversation.rebuild(restore, saved.entries)
        self._emit(self._ready(resumed=True))
        for event in events:
            messages = self._codec.encode(event)  # also of a known one: the codec follows the events
            if messages and (unknown := self._journal.unknown(event)) is not None:
                self._send_all(self._numbered(unknown, messages if unknown is event else self._codec.encode(unknown)))
        self._subscription = self._bus.follow(StreamKind.OUT, self.id, saved.cursor, self.deliver)
        self.conversation.go_on(whole=saved.whole)
        self._prepare_apology()

    def begin_anew(self, wish: act.Resume) -> None:
        """The session that the client wants to resume is gone: do what it wants otherwise."""
        for action in wish.otherwise:
            self._act(action)

    def _prepare_apology(self) -> None:
        if self.started and self.settings.spoken and self.conversation.state.speaks_failures:
            self._apology_voice.prepare(self.settings)

    @property
    def rate_hz(self) -> int:
        """The client's rate."""
        return self._codec.rate_hz

    @property
    def is_resumable(self) -> bool:
        return self._codec.resumable is not None and self._settings.resume_s > 0

    @property
    def is_worth_resuming(self) -> bool:
        """The client can resume the session, and somebody has said something. Any other costs a vad worker a slot for nothing."""
        state = self.conversation.state
        said = bool(state.newest_turn or state.turns or state.asked_s)
        return self.started and self.is_resumable and said

    def suspend(self) -> None:
        """The client has lost its connection: the session goes on without it, until `end_line`."""
        self._unsubscribe()
        self.conversation.suspend()
        self._bus.keep_alive(self.id)
        self._count_audio()
        self.started = False

    def _ready(self, *, resumed: bool) -> ev.Ready:
        return ev.Ready(self.id, self.settings, self._token, self._settings.resume_s, resumed)

    def _save_point(self, cursor: str) -> None:
        """The session can be resumed from this entry of the log on."""
        state, number = self.conversation.state, self._journal.number if self._journal is not None else 0
        point = fr.ResumePoint(
            cursor, number, state.newest_over, state.newest_turn, state.accepted_turns, state.interrupted_replies,
            *state.queue.gate.floor, self._audio_input.samples, self._began_ms, self.protocol, self._codec.rate_hz,
        )  # fmt: skip
        self._points = [*self._points, point][-POINTS_KEPT:]
        self._bus.save_resume_points(self.id, self._points)

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
        self._unsubscribe()
        if self._taken:  # what is said in the session, and who works for it, is the other connection's
            self.conversation.suspend()
            self.started = False
            return
        self.conversation.end(reason)
        if self.started:
            end_session(self._bus, self.id, reason)
            self._count_audio()
            self.started = False

    def _unsubscribe(self) -> None:
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None

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
            case act.Resume():
                self._on_resume(action)
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
                if isinstance(action, act.Commit | act.Clear):
                    self._audio_input.begin_turn()
                self.conversation.do(action)

    def _configure(self, settings: SessionSettings) -> None:
        missing = {unable.key for unable in self._report_missing(settings)}
        if missing - {"route"}:
            return
        if missing:
            settings = replace(settings, route=self.settings.route)
        if settings.detect_turns != self.settings.detect_turns:
            self._audio_input.begin_turn()
        self.settings = settings
        self.conversation.do(act.Configure(settings))
        self._prepare_apology()
        if self.started:
            self._bus.save_settings(self.id, settings)
            self._channel.publish(fr.SettingsChanged(settings))

    def _report_missing(self, settings: SessionSettings) -> list[Unable]:
        """Tell the client which of these settings the workers cannot serve, and return them."""
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
            if self._journal is not None:
                self._look_after_line(entry_id, frames)
        except Exception:  # the rim, as above
            log.exception("session failed", session=self.id)
            self._close(1011, "internal error")

    def _look_after_line(self, entry_id: str, frames: Sequence[Frame]) -> None:
        """Let go of a session that another connection has taken; note where this one can be resumed."""
        if any(type(frame) is fr.SessionResumed and frame.line != self.line for frame in frames):
            self._taken = True
            self._close(1008, "another connection has resumed this session")
        state = self.conversation.state
        if state.newest_over != self._points[-1].newest_over and state.is_at_rest:
            self._save_point(entry_id)

    # -- out --------------------------------------------------------------------------------------

    def _emit(self, event: ev.Event) -> None:
        self._send_all(self._numbered(event, self._codec.encode(event)))

    def _numbered(self, event: ev.Event, messages: Sequence[str | bytes]) -> Sequence[str | bytes]:
        """The event is sent now: note that, if its session can be resumed."""
        journal, resumable = self._journal, self._codec.resumable
        if journal is None or resumable is None or not messages or not self.started or isinstance(event, NOT_NUMBERED):
            return messages
        return [*messages[:-1], resumable.numbered(messages[-1], journal.note(event))]

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
            "seconds": round(self._loop.time() - self.began_s, 3),
            "audio_seconds_in": round(self._audio_input.received_s, 3),
            "dropped_samples": self._audio_input.dropped,
            "turn": state.newest_turn,
            "turns": state.accepted_turns,
            "interrupted": state.interrupted_replies,
            "stale": state.stale_frames,
        }
