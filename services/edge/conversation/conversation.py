"""The shell of a conversation: it applies what the core decides, and owns the timers.

Everything here runs on the event loop without waiting, so that silence is a few calls away from the fact that causes it.
"""

import asyncio
from collections.abc import Callable, Sequence

from services.edge.client import actions as act
from services.edge.client import events as ev
from services.edge.conversation import effects as fx
from services.edge.conversation.apologies import FindRecording
from services.edge.conversation.core import Core
from services.edge.conversation.inputs import Begin, End, GoOn, Leave, Restore, Stamp, Timer, TimerFired
from services.edge.conversation.observer import Observer
from services.edge.conversation.playout import Playout
from services.edge.conversation.rebuild import Entry, Rebuild
from services.edge.conversation.state import State
from shared.bus.channel import Channel
from shared.bus.session_store import SessionStore
from shared.protocol.frames import Frame
from shared.protocol.session import SessionSettings


class Conversation:
    """What is said between one client and the agent."""

    def __init__(
        self,
        bus: SessionStore,
        channel: Channel,
        session: str,
        observer: Observer,
        new_playout: Callable[[], Playout],
        emit: Callable[[ev.Event], None],
        close: Callable[[int, str], None],
        *,
        deadline_s: float,
        shows_failures: bool,
        reply_deadline_s: float,
        find_recording: FindRecording,
    ) -> None:
        """`new_playout` and what follows `close`: see `State`."""
        self._bus, self._channel, self._session, self._observer = bus, channel, session, observer
        self._emit, self._close = emit, close
        self._loop = asyncio.get_running_loop()
        self._timers: dict[tuple[Timer, int], asyncio.TimerHandle] = {}
        self._core = Core(
            State(
                session,
                new_playout,
                self._loop.time(),
                deadline_s=deadline_s,
                shows_failures=shows_failures,
                reply_deadline_s=reply_deadline_s,
                find_recording=find_recording,
            )
        )
        self._begun = False

    def begin(self, settings: SessionSettings) -> None:
        """Start the session: from now on frames are published."""
        self._begun = True
        self._apply(self._core.on(Begin(settings), self._now()))

    def rebuild(self, restore: Restore, entries: Sequence[Entry]) -> list[tuple[int, ev.Event]]:
        """Go on with a session that another edge, or this one, has served: from a resume point, with the entries since.

        Returns all events since the resume point, each with its time; see `Rebuild.events`. `go_on` must follow.

        Raises:
            TypeError: a frame does not belong into a log.
        """
        self._begun = True
        now = self._now()
        past = Rebuild(self._core, now)
        past.run(restore, entries)
        for frame in past.unwritten():
            self._channel.publish(frame)
        for outcome in past.outcomes():
            self._observer.observe(outcome)
        for (timer, turn), due_s in past.timers.items():
            self._start(timer, due_s - now.now_s, turn)
        return past.events

    def go_on(self, *, whole: bool) -> None:
        """Continue with the client, which has connected. `whole`: the entries since the resume point were complete."""
        self._apply(self._core.on(GoOn(whole), self._now()))
        state = self._core.state
        self._bus.stop(self._session, *state.queue.gate.floor)
        self._apply([state.record.save()])

    def suspend(self) -> None:
        """Stop: the log goes on without this edge."""
        self._begun = False
        self._cancel_all()

    def do(self, action: act.Action) -> None:
        self._apply(self._core.on(action, self._now()))

    def deliver(self, frames: Sequence[Frame], logged_ms: int, fence: int) -> None:
        """Take the next entry of the session's log; `logged_ms` is the broker's clock when it was written.

        Raises:
            TypeError: a frame does not belong into a log.
        """
        at = Stamp(self._loop.time(), self._bus.clock.now_ms(), logged_ms, fence)
        for frame in frames:
            self._apply(self._core.on(frame, at))

    def leave(self, code: int, reason: str) -> None:
        """Say goodbye, then close."""
        self._apply(self._core.on(Leave(code, reason), self._now()))

    def end(self, reason: str) -> None:
        self._apply(self._core.on(End(reason), self._now()))
        self._cancel_all()
        self._begun = False

    def _now(self) -> Stamp:
        return Stamp(self._loop.time(), self._bus.clock.now_ms())

    def _apply(self, effects: Sequence[fx.Effect]) -> None:
        for effect in effects:
            match effect:
                case ev.ReplyAudio():  # nearly all effects are this one
                    self._emit(effect)
                    self._observer.audio_sent(effect)
                case fx.Publish(frame, urgent):
                    if self._begun:
                        self._channel.publish(frame, urgent=urgent)
                case fx.StopWorkers(turn, revision, only):
                    self._bus.stop(self._session, turn, revision, only=only)
                case fx.SaveHistory(messages, keys):
                    self._bus.save_history(self._session, messages, keys)
                case fx.StartTimer(timer, delay_s, turn):
                    self._start(timer, delay_s, turn)
                case fx.CancelTimer(timer, turn):
                    self._cancel(timer, turn)
                case fx.Close(code, reason):
                    self._close(code, reason)
                case fx.Count() | fx.Silenced() | fx.FirstAudio() | fx.FirstPlayed() | fx.TurnEnded():
                    self._observer.observe(effect)
                case _:
                    self._emit(effect)

    def _start(self, timer: Timer, delay_s: float, turn: int) -> None:
        self._cancel(timer, turn)
        self._timers[timer, turn] = self._loop.call_later(delay_s, self._fire, timer, turn)

    def _cancel_all(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _cancel(self, timer: Timer, turn: int) -> None:
        if (handle := self._timers.pop((timer, turn), None)) is not None:
            handle.cancel()

    def _fire(self, timer: Timer, turn: int) -> None:
        del self._timers[timer, turn]
        self._apply(self._core.on(TimerFired(timer, turn), self._now()))

    @property
    def state(self) -> State:
        """The state of the core, for reading only."""
        return self._core.state
