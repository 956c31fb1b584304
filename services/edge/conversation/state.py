"""The state of the core of a conversation, and the list of effects that its functions write to. Pure."""

import math
from collections import deque
from collections.abc import Callable, Iterable

from services.edge.client import actions as act
from services.edge.client import events as ev
from services.edge.conversation.apologies import FindRecording
from services.edge.conversation.effects import Effect, Publish, StopWorkers
from services.edge.conversation.idle import IdleMonitor
from services.edge.conversation.playout import Playout
from services.edge.conversation.record import Record
from services.edge.conversation.reply import Reply
from services.edge.conversation.reply_queue import ReplyQueue
from services.edge.conversation.turn_machine import UserTurn
from shared.protocol.frames import Frame
from shared.protocol.session import SessionSettings


class State:
    def __init__(
        self,
        session: str,
        new_playout: Callable[[], Playout],
        began_s: float,
        *,
        deadline_s: float,
        shows_failures: bool,
        reply_deadline_s: float = math.inf,
        find_recording: FindRecording = lambda settings, text: None,
    ) -> None:
        """`new_playout` makes the playout of the next reply, `began_s` is the time of the session's first sample.
        `deadline_s`, `reply_deadline_s`: see `deadline`; `shows_failures`: see `Codec`; `find_recording`: see `apologies`."""
        self.session, self.deadline_s, self.shows_failures = session, deadline_s, shows_failures
        self.reply_deadline_s, self.find_recording = reply_deadline_s, find_recording
        self.settings = SessionSettings()
        self.effects: list[Effect] = []

        self.turns: dict[int, UserTurn] = {}
        """Turns that are not answered, or whose words may still come."""
        self.newest_over = 0
        """The newest turn that is over, accepted or not."""
        self.newest_turn = 0
        """The newest turn that was accepted."""
        self.accepted_turns = 0
        self.failed_turns = 0
        """Turns that have failed since one was answered."""
        self.open_commits = 0
        """Commits of the client that the log has not answered yet."""
        self.asked_s: deque[float] = deque()
        """When the client typed or requested what is not a turn yet."""
        self.waiting_request: act.RequestReply | None = None
        """The newest request for a reply; it waits until what was said before is understood."""

        self.queue = ReplyQueue(new_playout)
        self.reply: Reply | None = None
        """The one reply that plays, or is paused."""
        self.past_reply: Reply | None = None
        """The reply before it."""
        self.paused_by_turn = 0
        """The turn whose speech keeps the agent silent; 0: none. No reply plays or begins meanwhile."""
        self.interrupted_replies = 0
        self.received_turn = 0
        """After a reconnection: the newest turn of whose reply the client had received something."""
        self.stale_frames = 0

        self.record = Record()
        self.idle = IdleMonitor(began_s)

    def emit(self, event: ev.Event) -> None:
        self.effects.append(event)

    def publish(self, frame: Frame, *, urgent: bool = True) -> None:
        self.effects.append(Publish(frame, urgent))

    def stop_workers(self, turn: int, revision: int, *, only: bool = False) -> None:
        self.effects.append(StopWorkers(turn, revision, only))

    def do(self, effects: Iterable[Effect]) -> None:
        self.effects.extend(effects)

    @property
    def speaks_failures(self) -> bool:
        """The agent says so when a turn has failed."""
        wanted = self.settings.speak_failures
        return wanted == "always" or (wanted == "auto" and not self.shows_failures)

    @property
    def fails_too_often(self) -> bool:
        """The turn that fails now is one too many for a client that does not show failures."""
        limit = self.settings.failure_limit
        return not self.shows_failures and 0 < limit <= self.failed_turns + 1

    def is_spoken(self, number: int) -> bool:
        """The reply to this turn is spoken, and not only shown."""
        turn = self.turns.get(number)
        wish = turn.committed.options.spoken if turn is not None and turn.committed is not None else None
        return self.settings.spoken if wish is None else wish

    @property
    def has_reply(self) -> bool:
        """Whether a reply is due, plays, or is paused."""
        return self.reply is not None or self.queue.is_waiting

    @property
    def has_open_turn(self) -> bool:
        """Whether someone speaks, or what they said is still being understood."""
        return any(turn.is_open for turn in self.turns.values())

    @property
    def is_silent(self) -> bool:
        """Whether nobody speaks and no reply is due."""
        return not self.has_reply and not self.has_open_turn

    @property
    def is_at_rest(self) -> bool:
        """Whether it is silent and no request of the client waits: the conversation can be resumed from here."""
        return self.is_silent and not self.open_commits and self.waiting_request is None

    @property
    def interruptible(self) -> bool:
        """Whether a turn may interrupt what plays."""
        return self.reply is None or self.reply.interruptible
