"""Tracing: one span for each turn, from its first sample of speech until it is committed or discarded."""

import time
from collections.abc import Sequence
from dataclasses import replace

from opentelemetry.trace import INVALID_SPAN, Span

from services.vad.endpointing.engine import Decision, Pause
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
    """The spans of one session's turns. After a takeover, the new worker ends the span that the old one began."""

    def __init__(self, session: str) -> None:
        self._session = session_label(session)
        self._turn = self._began_ns = 0
        self._span: Span = INVALID_SPAN
        self._trace = ""

    def follow(self, facts: Sequence[Frame], ago_s: float) -> list[Frame]:
        """Update the spans from these facts. Returns the facts with their `trace` set.

        `ago_s`: seconds since the onset was spoken, if the facts contain a `SpeechStarted`.
        """
        return [self._follow(fact, ago_s) for fact in facts]

    def _follow(self, fact: Frame, ago_s: float) -> Frame:
        match fact:
            case SpeechStarted():
                self._begin(fact.turn, time.time_ns() - int(ago_s * 1e9))
                return replace(fact, trace=self._trace)
            case SpeechPaused():
                self._span.add_event("pause", {"parley.revision": fact.revision})
            case SpeechResumed():
                self._span.add_event("speech resumed", {"parley.revision": fact.revision})
            case TurnCommitted():
                if fact.end == fact.start:  # typed or requested: its span has not begun yet
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

    def decided(self, pause: Pause, decision: Decision) -> None:
        """The endpointing engine has decided how long this pause may last."""
        attributes: Attributes = {
            "parley.revision": pause.revision,
            "parley.wait_ms": decision.wait_ms,
            "parley.reasons": "; ".join(decision.reasons),
        }
        self._span.add_event("endpoint decided", attributes)

    def _begin(self, turn: int, began_ns: int, resumed: str = "") -> None:
        self._turn, self._began_ns = turn, began_ns
        attributes: Attributes = {"parley.session": self._session, "parley.turn": turn, "parley.stage": "vad"}
        self._span = begin_turn(attributes, began_ns, resumed)
        self._trace = traceparent(self._span)

    def _end(self, fact: TurnCommitted | TurnDiscarded, outcome: str) -> None:
        self._span.set_attribute("parley.revision", fact.revision)
        self._span.set_attribute("parley.outcome", outcome)
        if isinstance(fact, TurnCommitted) and fact.reasons:
            self._span.set_attribute("parley.reasons", "; ".join(fact.reasons))
        self._span.end()
        self._span = INVALID_SPAN

    def state(self) -> Sequence[str | int]:
        """Return the span in progress as plain values, for a checkpoint; empty: there is no traced turn."""
        return (self._trace, self._turn, self._began_ns) if self._span is not INVALID_SPAN and self._trace else ()

    def restore(self, state: Sequence[str | int]) -> None:
        if state:
            trace, turn, began_ns = state
            self._begin(int(turn), int(began_ns), str(trace))
