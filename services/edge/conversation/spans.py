"""The edge's part of a turn's trace: its reply, from the end of the turn to the end of its playing."""

import time

from shared.observability.tracing import Attributes, begin_span, is_tracing, session_label
from shared.protocol.turn_record import TurnRecord


def trace_reply(parent: str, record: TurnRecord, spoken_ms: int) -> None:
    """Write the span of a reply that has ended now. `parent` is the turn's traceparent, `spoken_ms` the broker's clock at the end
    of speech, from which the marks are counted."""
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
        "parley.heard_ms": record.heard_ms,
        "parley.reply_ms": record.reply_ms,
        **{f"parley.mark.{name}_ms": mark_ms for name, mark_ms in record.marks.items()},
    }
    span = begin_span("reply", parent, attributes, at_ns(committed_ms))
    for name, mark_ms in sorted(record.marks.items(), key=lambda mark: mark[1]):
        if mark_ms >= committed_ms and name != "endpoint":  # what was prepared before is an attribute only
            span.add_event(name, timestamp=at_ns(mark_ms))
    span.end(max(now_ns, at_ns(committed_ms)))
