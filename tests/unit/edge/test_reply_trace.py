"""The edge's part of a turn's trace: one span for each reply that was heard."""

import asyncio
from dataclasses import replace

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.edge.client import actions as act
from services.edge.conversation.report import TurnReport
from shared.protocol import frames as fr
from shared.protocol.session import ReplyOptions
from tests.support.line import SECOND, Line, on_a_line

ROOT = f"00-{1:032x}-{2:016x}-01"
BELOW = f"00-{1:032x}-{3:016x}-01"


def begin(line: Line, text: str) -> None:
    """Someone says that, and pauses."""
    line.log(fr.SpeechStarted(line.id, 1, 0, SECOND, SECOND, "0-0", "en", True, trace=ROOT))
    line.log(fr.SpeechPaused(1, 0, SECOND + SECOND // 2, True))
    line.log(fr.TranscriptFinal(line.id, 1, 0, text, ReplyOptions(), BELOW))


def test_the_reply_hangs_below_the_turn_with_all_its_marks(spans: InMemorySpanExporter) -> None:
    async def talk() -> None:
        line = Line()
        begin(line, "hello")
        await asyncio.sleep(0.5)
        line.reply(1, "Good morning.", seconds=2)
        line.commit(1)
        await asyncio.sleep(3)
        assert line.bus.turns[0].trace == f"{1:032x}"

    on_a_line(talk)()
    (span,) = spans.get_finished_spans()
    assert span.parent is not None
    assert (span.name, span.parent.trace_id, span.parent.span_id) == ("reply", 1, 2)
    about = dict(span.attributes or {})
    own = {"parley.outcome": "completed", "parley.heard_ms": 2000, "parley.protocol": "stream", "parley.turn": 1}
    assert own.items() <= about.items()
    marks = {name for name in about if name.startswith("parley.mark.")}
    assert {"parley.mark.transcript_ms", "parley.mark.endpoint_ms", "parley.mark.first_audio_ms"} <= marks
    assert [event.name for event in span.events][-1] == "first_audio"
    assert "morning" not in span.to_json()


def test_a_reply_that_is_cut_says_so(spans: InMemorySpanExporter) -> None:
    async def talk() -> None:
        line = Line()
        begin(line, "hello")
        line.reply(1, "Good morning.", seconds=5)
        line.commit(1)
        await asyncio.sleep(1)
        line.do(act.CancelReply())

    on_a_line(talk)()
    (span,) = spans.get_finished_spans()
    assert dict(span.attributes or {})["parley.outcome"] == "cancelled"
    assert dict(span.attributes or {})["parley.heard_ms"] == 1000


def test_a_typed_turn_is_followed_from_its_transcript_on(spans: InMemorySpanExporter) -> None:
    async def talk() -> None:
        line = Line()
        line.log(fr.TurnCommitted(1, 0, 0, 0, 0, 1_000_000, ReplyOptions()))
        line.log(fr.TranscriptFinal(line.id, 1, 0, "hello", ReplyOptions(), ROOT))
        line.reply(1, "Good morning.")
        await asyncio.sleep(3)

    on_a_line(talk)()
    assert [span.parent and span.parent.span_id for span in spans.get_finished_spans()] == [2]


def test_what_is_made_anew_stays_in_the_trace(spans: InMemorySpanExporter) -> None:
    async def talk() -> None:
        line = Line()
        begin(line, "is it raining")
        line.reply(1, "I do not know.")
        line.do(act.SetHistory("tool", "system", "Result of weather: rain"))
        line.commit(1)
        assert line.jobs[-1] == fr.TranscriptFinal(line.id, 1, 1, "is it raining", ReplyOptions(), ROOT)

    on_a_line(talk)()


@pytest.mark.parametrize("trace", ["", "nonsense", ROOT[:-2] + "00"])
def test_a_turn_that_is_not_traced_has_no_span(spans: InMemorySpanExporter, trace: str) -> None:
    async def talk() -> None:
        line = Line()
        started = fr.SpeechStarted(line.id, 1, 0, SECOND, SECOND, "0-0", "en", True)
        line.log(replace(started, trace=trace))
        line.pause(1, "hello")
        line.reply(1, "Good morning.")
        line.commit(1)
        await asyncio.sleep(3)
        assert line.bus.turns[0].outcome == "completed"

    on_a_line(talk)()
    assert not spans.get_finished_spans()


def test_the_first_trace_of_a_turn_counts() -> None:
    report = TurnReport()
    for trace in ("", ROOT, BELOW, ""):
        report.follow(trace)
    assert report.trace == ROOT
