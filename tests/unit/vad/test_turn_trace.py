"""The span of a turn begins with its speech and ends when the turn is committed or discarded."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.vad.endpointing.engine import Decision, Pause
from services.vad.listener import Listener
from services.vad.turn_trace import TurnTrace
from shared.observability.otel import make_provider
from shared.observability.tracing import start_tracing, stop_tracing
from shared.protocol import frames as fr
from shared.protocol.session import ReplyOptions, SessionSettings


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    start_tracing(make_provider("test", "1", 1.0, SimpleSpanProcessor(exporter)))
    yield exporter
    stop_tracing()


def started(turn: int) -> fr.SpeechStarted:
    return fr.SpeechStarted("s", turn, 0, 0, 1600, "0-0", "en", True)


def committed(turn: int, revision: int = 0, *, spoken: bool = True) -> fr.TurnCommitted:
    return fr.TurnCommitted(turn, revision, 0, 16_000 * spoken, 24_000, 0, ReplyOptions())


def outcomes(spans: InMemorySpanExporter) -> list[tuple[object, ...]]:
    names = ("parley.turn", "parley.revision", "parley.outcome")
    return [tuple((span.attributes or {}).get(name) for name in names) for span in spans.get_finished_spans()]


def test_frames_carry_the_trace_of_their_own_turn_only(spans: InMemorySpanExporter) -> None:
    trace = TurnTrace("s")
    ready = fr.TurnAudioReady("s", 1, 1, "0-0", 0, 16_000, ReplyOptions())
    typed = fr.TranscriptFinal("s", 2, 0, "hello", ReplyOptions())
    start, _, again, _, sound, _, late = trace.follow(
        [
            started(1), fr.SpeechPaused(1, 0, 8000), fr.SpeechResumed(1, 1, 9000), fr.SpeechPaused(1, 1, 8000), ready,
            committed(1, 1), fr.TranscriptFinal("s", 9, 0, "of another turn", ReplyOptions()),
        ],
        0.5,
    )  # fmt: skip
    assert isinstance(start, fr.SpeechStarted)
    assert isinstance(sound, fr.TurnAudioReady)
    assert start.trace == sound.trace != ""
    assert again == fr.SpeechResumed(1, 1, 9000)
    assert late == fr.TranscriptFinal("s", 9, 0, "of another turn", ReplyOptions())
    _, own = trace.follow([committed(2, spoken=False), typed], 0)
    assert isinstance(own, fr.TranscriptFinal)
    assert own.trace not in ("", start.trace)
    assert outcomes(spans) == [(1, 1, "committed"), (2, 0, "committed")]
    turn = spans.get_finished_spans()[0]
    assert [event.name for event in turn.events] == ["pause", "speech resumed", "pause"]
    assert turn.end_time is not None
    assert turn.start_time is not None
    assert 0.5e9 <= turn.end_time - turn.start_time < 1.5e9


def test_a_span_ends_once_and_records_why_a_turn_was_discarded(spans: InMemorySpanExporter) -> None:
    trace = TurnTrace("s")
    trace.follow([started(1), fr.TurnDiscarded(1, 0, "client"), fr.TurnDiscarded(1, 0, fr.EMPTY)], 0)
    trace.follow([started(2), committed(2), committed(2)], 0)
    assert outcomes(spans) == [(1, 0, "discarded"), (2, 0, "committed")]
    assert (spans.get_finished_spans()[0].attributes or {})["parley.reason"] == "client"


def test_another_worker_continues_the_span_from_the_checkpoint(spans: InMemorySpanExporter) -> None:
    listener, first = Listener("s", SessionSettings()), TurnTrace("s")
    (start,) = first.follow([started(1)], 2.0)
    listener.trace = first.state()
    successor, second = Listener("s", SessionSettings()), TurnTrace("s")
    assert successor.restore(listener.checkpoint([0.5]), SessionSettings()) == [0.5]
    second.restore(successor.trace)
    ready = fr.TurnAudioReady("s", 1, 0, "0-0", 0, 16_000, ReplyOptions())
    found, _ = second.follow([ready, committed(1)], 0)
    assert isinstance(start, fr.SpeechStarted)
    assert isinstance(found, fr.TurnAudioReady)
    assert found.trace == start.trace
    assert outcomes(spans) == [(1, 0, "committed")]
    assert second.state() == ()


def test_an_empty_trace_does_not_change_the_checkpoint(spans: InMemorySpanExporter) -> None:
    plain, traced = Listener("s", SessionSettings()), Listener("s", SessionSettings())
    trace = TurnTrace("s")
    trace.follow([started(1), committed(1)], 0)
    traced.trace = trace.state()
    assert traced.checkpoint() == plain.checkpoint()


def test_a_span_says_what_decided_the_end_of_the_turn(spans: InMemorySpanExporter) -> None:
    trace = TurnTrace("s")
    trace.follow([started(1), fr.SpeechPaused(1, 0, 8000)], 0)
    trace.decided(Pause(1, 0), Decision(250, ("sounds complete: 97%", "words: question")))
    trace.follow([replace(committed(1), reasons=("words: question",))], 0)
    (span,) = spans.get_finished_spans()
    event = span.events[-1]
    assert (event.name, dict(event.attributes or {})) == (
        "endpoint decided",
        {"parley.revision": 0, "parley.wait_ms": 250, "parley.reasons": "sounds complete: 97%; words: question"},
    )
    assert (span.attributes or {})["parley.reasons"] == "words: question"
