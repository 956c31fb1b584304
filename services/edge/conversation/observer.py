"""Passes what happens in a conversation on to the metrics, the traces and the record of turns."""

import time
from collections.abc import Callable
from dataclasses import asdict

from services.edge.client.events import ReplyAudio
from services.edge.conversation import effects as fx
from shared.bus.session_store import SessionStore
from shared.observability import metrics
from shared.observability.tracing import Attributes, begin_span, is_tracing, session_label, trace_id
from shared.protocol.turn_record import TurnRecord, segments

LONGEST_TEXT = 2_000
"""Characters of a text that the record of a turn keeps."""

EngineOf = Callable[[str], str]
"""Takes a stage; gives the name of the engine that it runs on."""


class Observer:
    """Applies the observations of one session."""

    def __init__(
        self,
        bus: SessionStore,
        session: str,
        protocol: str,
        rate_hz: Callable[[], int],
        age_s: Callable[[int], float],
        engine_of: EngineOf,
        *,
        content: bool = False,
    ) -> None:
        """`rate_hz`: of the client's audio. `age_s`: how long ago the client's microphone recorded this sample. `content`:
        the record of a turn may contain what was said."""
        self._bus, self._session, self._protocol = bus, session, protocol
        self._rate_hz, self._age_s, self._engine_of = rate_hz, age_s, engine_of
        self._content = content
        self._audio_seconds = metrics.audio_seconds.labels("out", protocol)

    def observe(self, what: fx.Observation) -> None:
        match what:
            case fx.Count(tally):
                self._count(tally)
            case fx.FirstAudio(marks, trace):
                exemplar = _exemplar(trace)
                latency = metrics.turn_latency.labels(self._protocol)
                latency.observe(max(0.0, marks["first_audio"] / 1000), exemplar)
                for part in segments(marks):
                    segment = metrics.turn_segment.labels(part.name, part.stage, self._engine_of(part.stage))
                    segment.observe(part.seconds, exemplar)
            case fx.FirstPlayed(latency_s, trace):
                metrics.turn_heard_latency.labels(self._protocol).observe(latency_s, _exemplar(trace))
            case fx.Silenced(onset):
                metrics.barge_in.labels(self._protocol).observe(self._age_s(onset))
            case fx.TurnEnded():
                self._turn_ended(what)

    def audio_sent(self, audio: ReplyAudio) -> None:
        """Count sent audio. Nearly all events are of this kind."""
        self._audio_seconds.inc(len(audio.pcm) / 2 / self._rate_hz())

    def _count(self, tally: fx.Tally) -> None:
        match tally:
            case fx.Tally.STALE | fx.Tally.DUPLICATE:
                metrics.dropped.labels(tally.value).inc()
            case fx.Tally.SPECULATION_BEGUN:
                metrics.speculations_begun.inc()
            case fx.Tally.SPECULATION_REUSED | fx.Tally.SPECULATION_REDONE | fx.Tally.SPECULATION_WASTED:
                metrics.speculations.labels(tally.value).inc()
            case fx.Tally.RESUMED:
                metrics.resumes.inc()
            case fx.Tally.APOLOGY | fx.Tally.TONE:
                metrics.apologies.labels(tally.value).inc()
            case fx.Tally.UNDERRUN:
                metrics.underruns.labels(self._protocol).inc()

    def _turn_ended(self, turn: fx.TurnEnded) -> None:
        metrics.turns_total.labels(turn.outcome).inc()
        if turn.reason:
            metrics.turn_reasons.labels(turn.outcome, turn.reason).inc()
        fields = asdict(turn)
        trace, speech_end_ms = fields.pop("trace"), fields.pop("speech_end_ms")
        for name in ("said", "reply"):
            fields[name] = fields[name][:LONGEST_TEXT] if self._content else ""
        record = TurnRecord(session=self._session, protocol=self._protocol, trace=trace_id(trace), **fields)
        self._bus.keep_turn(record)
        if speech_end_ms:  # else it is not known when the span begins
            _trace_reply(trace, record, speech_end_ms)


def _exemplar(trace: str) -> dict[str, str] | None:
    found = trace_id(trace)
    return {"trace_id": found} if found else None


def _trace_reply(parent: str, record: TurnRecord, spoken_ms: int) -> None:
    """Write the span of a reply that has ended now, from the end of the turn to the end of its playing.

    `parent`: the turn's traceparent. `spoken_ms`: the broker's clock at the end of speech, from which the marks count.
    """
    if not parent or not is_tracing():
        return
    now_ns = time.time_ns()

    def at_ns(mark_ms: float) -> int:
        return now_ns - int((record.at_ms - spoken_ms - mark_ms) * 1e6)

    committed_ms = record.marks.get("endpoint", 0.0)
    attributes: Attributes = {
        "parley.session": session_label(record.session),
        "parley.turn": record.turn,
        "parley.revision": record.revision,
        "parley.stage": "edge",
        "parley.protocol": record.protocol,
        "parley.route": record.route,
        "parley.outcome": record.outcome,
        **({"parley.reason": record.reason} if record.reason else {}),
        "parley.heard_ms": record.heard_ms,
        "parley.reply_ms": record.reply_ms,
        **{f"parley.mark.{name}_ms": mark_ms for name, mark_ms in record.marks.items()},
    }
    span = begin_span("reply", parent, attributes, at_ns(committed_ms))
    for name, mark_ms in sorted(record.marks.items(), key=lambda mark: mark[1]):
        if mark_ms >= committed_ms and name != "endpoint":  # what was prepared before is an attribute only
            span.add_event(name, timestamp=at_ns(mark_ms))
    span.end(max(now_ns, at_ns(committed_ms)))
