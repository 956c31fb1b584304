"""The span of each whole turn, from the first sample of speech until it is over, or none."""

import time
from collections.abc import Sequence
from dataclasses import replace

from opentelemetry.trace import INVALID_SPAN, Span

from shared.observability.tracing import Attributes, begin_turn, session_label, traceparent
from shared.protocol.frames import (
    Frame,
    SpeechPaused,
    SpeechResumed,
    SpeechStarted,
    TranscriptFinal,
    TurnAudioReady,
    TurnCommitted,
    TurnDiscarded,
)


class TurnTrace:
    """One session's turns. A worker that goes on for another ends the span that the other had begun."""

    def __init__(self, session: str) -> None:
        self._session = session_label(session)
        self._turn = self._began_ns = 0
        self._span: Span = INVALID_SPAN
        self._trace = ""

    def follow(self, facts: Sequence[Frame], ago_s: float) -> list[Frame]:
        """The next facts, with where their turns' spans belong. `ago_s`: since the speech that begins with them, if some
        does, was spoken."""
        return [self._follow(fact, ago_s) for fact in facts]

    def _follow(self, fact: Frame, ago_s: float) -> Frame:
        match fact:
            case SpeechStarted():
                self._begin(fact.turn, time.time_ns() - int(ago_s * 1e9))
                return replace(fact, trace=self._trace)
            case SpeechPaused():
                self._span.add_event("pause", {"parley.revision": fact.revision})
            case SpeechResumed():
                self._span.add_event("speech again", {"parley.revision": fact.revision})
            case TurnCommitted():
                if fact.end == fact.start:  # it was not spoken
                    self._begin(fact.turn, time.time_ns())
                self._end(fact, "committed")
            case TurnDiscarded():
                self._span.set_attribute("parley.reason", fact.reason)
                self._end(fact, "discarded")
            case TranscriptFinal() | TurnAudioReady() if fact.turn == self._turn:
                return replace(fact, trace=self._trace)
            case _:
                pass
        return fact

    def _begin(self, turn: int, began_ns: int, resumed: str = "") -> None:
        self._turn, self._began_ns = turn, began_ns
        attributes: Attributes = {"parley.session": self._session, "parley.turn": turn, "parley.stage": "vad"}
        self._span = begin_turn(attributes, began_ns, resumed)
        self._trace = traceparent(self._span)

    def _end(self, fact: TurnCommitted | TurnDiscarded, outcome: str) -> None:
        self._span.set_attribute("parley.revision", fact.revision)
        self._span.set_attribute("parley.outcome", outcome)
        self._span.end()
        self._span = INVALID_SPAN

    def state(self) -> Sequence[str | int]:
        """Of the turn that is being spoken, for a successor; empty where none is, or it is not traced."""
        return (self._trace, self._turn, self._began_ns) if self._span is not INVALID_SPAN and self._trace else ()

    def restore(self, state: Sequence[str | int]) -> None:
        """Go on with a predecessor's."""
        if state:
            trace, turn, began_ns = state
            self._begin(int(turn), int(began_ns), str(trace))
