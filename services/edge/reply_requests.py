"""Replies that the client asks for: made to the conversation as it stands, once what was said in it is understood."""

from collections.abc import Callable
from dataclasses import replace

from services.edge.client import actions as act
from shared.protocol.frames import Frame, ReplyRequested


class ReplyRequests:
    """The newest that has to wait; an older one is forgotten."""

    def __init__(self, understood: Callable[[], bool], publish: Callable[[Frame], None]) -> None:
        """`understood`: what was said in the turns that are over."""
        self._understood, self._publish = understood, publish
        self._committing = 0  # the client's commits that were not answered yet
        self._waiting: act.RequestReply | None = None

    def committing(self) -> None:
        """The client has said that what was spoken is a turn: the log will answer."""
        self._committing += 1

    def committed(self) -> None:
        """The log has answered."""
        self._committing = max(0, self._committing - 1)

    def ask(self, action: act.RequestReply) -> None:
        """Reply as soon as all is understood."""
        if self._committing or not self._understood():
            self._waiting = action
        else:
            self._publish(ReplyRequested(replace(action.options, wants_reply=True)))

    def ask_again(self) -> None:
        """Something was understood."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self.ask(waiting)

    def drop(self) -> None:
        """Nothing is asked for any more."""
        self._waiting = None
