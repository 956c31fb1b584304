"""Whether anyone is there: greets, asks after a long silence, says goodbye. It speaks by asking for a turn of the agent's own."""

import asyncio
from collections.abc import Callable

from services.edge.client import events as ev
from shared.protocol.frames import Frame, ReplyRequested
from shared.protocol.session import ReplyOptions, SessionSettings

GOODBYE_S = 20.0
"""However long the goodbye takes, the line is closed after this."""


class Presence:
    """The courtesies of one session."""

    def __init__(
        self,
        settings: Callable[[], SessionSettings],
        silent: Callable[[], bool],
        publish: Callable[[Frame], None],
        emit: Callable[[ev.Event], None],
        close: Callable[[int, str], None],
    ) -> None:
        """`silent` says whether nobody speaks and nothing is due to be said."""
        self._settings, self._silent = settings, silent
        self._publish, self._emit, self._close = publish, emit, close
        self._loop = asyncio.get_running_loop()
        self._began_s = self._since_s = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._prompts = 0
        self._leaving: tuple[int, str] | None = None

    def greet(self) -> None:
        """The session begins."""
        if greeting := self._settings().greeting:
            self._say(ReplyOptions(say=greeting))
        else:
            self.quiet()

    def heard(self) -> None:
        """The person is there."""
        self._prompts = 0

    def quiet(self) -> None:
        """Nobody speaks from now on."""
        if self._leaving is not None:
            self._close(*self._leaving)
            return
        self._cancel()
        self._since_s = self._loop.time()
        if self._settings().idle_ms:
            self._timer = self._loop.call_later(self._settings().idle_ms / 1000, self._idle)

    def _idle(self) -> None:
        settings = self._settings()
        if not settings.idle_ms or self._leaving is not None:
            return
        if not self._silent():
            self.quiet()
            return
        since_ms, until_ms = (round(1000 * (at_s - self._began_s)) for at_s in (self._since_s, self._loop.time()))
        self._emit(ev.IdlePassed(since_ms, until_ms))
        self._prompts += 1
        if settings.idle_limit and self._prompts > settings.idle_limit:
            self.leave(1000, "nobody is there")
            return
        self._say(ReplyOptions(say=settings.idle_prompt or None))
        self._timer = self._loop.call_later(settings.idle_ms / 1000, self._idle)  # should nothing come of it

    def leave(self, code: int, reason: str) -> None:
        """Say goodbye, and close the line once that was heard."""
        if self._leaving is not None:
            return
        self._cancel()
        self._leaving = (code, reason)
        if not (goodbye := self._settings().goodbye):
            self._close(code, reason)
            return
        self._timer = self._loop.call_later(GOODBYE_S, self._close, code, reason)
        self._publish(ReplyRequested(ReplyOptions(say=goodbye, interruptible=False)))

    def _say(self, options: ReplyOptions) -> None:
        self._publish(ReplyRequested(options, unless_spoken=True))

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def end(self) -> None:
        """The session is over."""
        self._cancel()
        self._leaving = None
