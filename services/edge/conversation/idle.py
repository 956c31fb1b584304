"""The idle monitor: greets, asks after a long silence whether anyone is there, says goodbye. Pure.

It speaks by requesting a turn of the agent's own.
"""

from collections.abc import Iterator

from services.edge.client import events as ev
from services.edge.conversation.effects import CancelTimer, Close, Effect, Publish, StartTimer
from services.edge.conversation.inputs import Leave, Timer
from shared.protocol.frames import ReplyRequested
from shared.protocol.session import ReplyOptions, SessionSettings

GOODBYE_S = 20.0
"""The line is closed after this time, however long the goodbye takes."""


class IdleMonitor:
    """Measures for how long nobody has spoken in a session."""

    def __init__(self, began_s: float) -> None:
        """`began_s`: the session's first sample."""
        self._began_s = self._since_s = began_s
        self._prompts = 0
        self._leaving: Leave | None = None
        self._ended = False

    def greet(self, settings: SessionSettings, now_s: float) -> Iterator[Effect]:
        if settings.greeting:
            yield _say(settings.greeting)
        else:
            yield from self.fell_quiet(settings, now_s)

    def person_spoke(self) -> None:
        self._prompts = 0

    def fell_quiet(self, settings: SessionSettings, now_s: float) -> Iterator[Effect]:
        """Start to measure the silence: nobody speaks from now on."""
        if self._leaving is not None:
            yield Close(self._leaving.code, self._leaving.reason)
            return
        self._since_s = now_s
        yield _wait(settings)

    def waited(self, settings: SessionSettings, now_s: float, *, silent: bool) -> Iterator[Effect]:
        """The time of silence is over; `silent`: nobody has spoken in it, and nothing is about to be said."""
        if not settings.idle_ms or self._leaving is not None:
            return
        if not silent:
            yield from self.fell_quiet(settings, now_s)
            return
        since_ms, until_ms = (round(1000 * (at_s - self._began_s)) for at_s in (self._since_s, now_s))
        yield ev.IdlePassed(since_ms, until_ms)
        self._prompts += 1
        if settings.idle_limit and self._prompts > settings.idle_limit:
            yield from self.leave(settings, Leave(1000, "nobody is there"))
            return
        yield _say(settings.idle_prompt or None)
        yield _wait(settings)  # in case nothing comes of it

    def leave(self, settings: SessionSettings, leave: Leave) -> Iterator[Effect]:
        """Say goodbye, and close the line once that was heard."""
        if self._leaving is not None or self._ended:
            return
        self._leaving = leave
        yield CancelTimer(Timer.IDLE)
        if not settings.goodbye:
            yield Close(leave.code, leave.reason)
            return
        yield StartTimer(Timer.GOODBYE, GOODBYE_S)
        yield Publish(ReplyRequested(ReplyOptions(say=settings.goodbye, interruptible=False)))

    @property
    def is_leaving(self) -> bool:
        """The line is closed once nobody speaks."""
        return self._leaving is not None

    def close_when_quiet(self, leave: Leave) -> Iterator[Effect]:
        """Close the line once nobody speaks: what is said now is the goodbye."""
        if self._leaving is None and not self._ended:
            self._leaving = leave
            yield CancelTimer(Timer.IDLE)
            yield StartTimer(Timer.GOODBYE, GOODBYE_S)

    def goodbye_failed(self) -> Iterator[Effect]:
        if self._leaving is not None:
            yield Close(self._leaving.code, self._leaving.reason)

    def end(self) -> None:
        self._leaving, self._ended = None, True


def _say(text: str | None) -> Publish:
    return Publish(ReplyRequested(ReplyOptions(say=text), unless_spoken=True))


def _wait(settings: SessionSettings) -> Effect:
    return StartTimer(Timer.IDLE, settings.idle_ms / 1000) if settings.idle_ms else CancelTimer(Timer.IDLE)
