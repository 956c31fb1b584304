"""Tracing: no-op when off, tolerant of invalid traceparents, and with a limited wait at the end of the process."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import INVALID_SPAN

from shared.observability import tracing
from shared.observability.otel import make_provider
from shared.settings import BadSettings, Settings
from tests.support.waiting import HANG_S

PARENT = f"00-{0xABC:032x}-{0xDEF:016x}-01"


def test_without_tracing_spans_are_no_ops_and_the_sdk_is_not_imported() -> None:
    code = (
        "import sys; from shared.observability import tracing; import shared.worker.service; from shared.settings import Settings;"
        "tracing.configure_tracing(Settings(), 'llm');"
        "assert tracing.begin_turn({}, 0) is tracing.begin_span('llm', sys.argv[1], {}) is tracing.INVALID_SPAN;"
        "tracing.stop_tracing();"
        "sys.exit([name for name in sys.modules if name.startswith(('opentelemetry.sdk.trace', 'opentelemetry.exporter'))] or 0)"
    )
    subprocess.run((sys.executable, "-c", code, PARENT), check=True, timeout=HANG_S)


@pytest.mark.parametrize("where", ["otlp", "console"])
def test_a_missing_sdk_says_what_to_install(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    monkeypatch.delitem(sys.modules, "shared.observability.otel", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(BadSettings, match=rf"PARLEY_TRACES='{where}'.* make install EXTRAS=otel$"):
        tracing.configure_tracing(Settings(traces=where), "llm")
    assert not tracing.is_tracing()


def test_a_wrong_setting_of_the_sdk_is_bad_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "-1")
    with pytest.raises(BadSettings, match=r"OTEL_.* wrong: schedule_delay_millis must be positive"):
        tracing.configure_tracing(Settings(traces="otlp"), "llm")


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "-",
        "traceparent",
        PARENT[:-4],  # truncated
        PARENT + PARENT,  # doubled
        PARENT.upper().replace("0", "x"),
        f"ff-{1:032x}-{2:016x}-01",
        f"00-{0:032x}-{2:016x}-01",
        f"00-{1:032x}-{0:016x}-01",
        f"00-{1:032x}-{2:016x}-00",  # not sampled by the process that began it
        "\0\ud800",
        "9" * 1_000_000,
    ],
)
def test_an_invalid_traceparent_is_ignored(spans: InMemorySpanExporter, parent: str) -> None:
    span = tracing.begin_span("llm", parent, {"parley.turn": 1})
    assert tracing.traceparent(span) == ""
    tracing.fail(span, ValueError())
    span.end()
    assert not spans.get_finished_spans()


def test_a_span_is_a_child_of_the_frames_traceparent(spans: InMemorySpanExporter) -> None:
    span = tracing.begin_span("llm", PARENT, {"parley.turn": 1}, 5)
    below = tracing.begin_span("tts", tracing.traceparent(span), {})
    assert tracing.trace_id(tracing.traceparent(below)) == f"{0xABC:032x}"
    below.end()
    span.end()
    inner, outer = spans.get_finished_spans()
    assert outer.parent is not None
    assert inner.parent is not None
    assert (outer.parent.trace_id, outer.parent.span_id, outer.start_time) == (0xABC, 0xDEF, 5)
    assert inner.parent.span_id == span.get_span_context().span_id
    assert outer.resource.attributes["service.name"] == "parley-test"


def test_a_resumed_turn_keeps_its_ids_and_the_next_turn_gets_new_ones(spans: InMemorySpanExporter) -> None:
    for resumed in (PARENT, "", "no traceparent", PARENT):
        tracing.begin_turn({}, 7, resumed).end()
    tracing.begin_span("llm", PARENT, {}).end()
    first, *others, _, below = spans.get_finished_spans()
    assert below.parent is not None
    assert below.context is not None
    assert below.context.span_id != below.parent.span_id == 0xDEF
    assert first.context is not None
    assert (first.context.trace_id, first.context.span_id, first.parent) == (0xABC, 0xDEF, None)
    assert len({one.context.trace_id for one in (first, *others) if one.context}) == 3


def test_only_the_configured_share_is_traced() -> None:
    exporter = InMemorySpanExporter()
    tracing.start_tracing(make_provider("test", "1", 0.25, SimpleSpanProcessor(exporter)))
    try:
        begun = [tracing.begin_turn({}, 0) for _ in range(400)]
        traced = sum(bool(tracing.traceparent(span)) for span in begun)
        assert 50 < traced < 150
        tracing.begin_span("llm", PARENT, {}).end()  # the process that began the trace has decided
        assert len(exporter.get_finished_spans()) == 1
    finally:
        tracing.stop_tracing()


class Stuck(SpanExporter):
    """An exporter that never returns."""

    def __init__(self) -> None:
        self.over = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.over.wait()
        return SpanExportResult.SUCCESS


def test_the_wait_for_a_stuck_collector_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "FLUSH_S", 0.2)
    exporter = Stuck()
    tracing.start_tracing(make_provider("test", "1", 1.0, BatchSpanProcessor(exporter)))
    tracing.begin_turn({}, 0).end()
    tracing.stop_tracing()  # hangs where it waits for the collector
    assert tracing.begin_turn({}, 0) is INVALID_SPAN
    exporter.over.set()


def test_a_missing_collector_is_only_logged() -> None:
    code = (
        "from shared.observability import logs, tracing; from shared.settings import Settings;"
        "settings = Settings(traces='otlp', log_format='json'); logs.configure_logging(settings, 'llm');"
        "tracing.configure_tracing(settings, 'llm'); tracing.begin_turn({}, 0).end(); tracing.stop_tracing()"
    )
    env = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    done = subprocess.run(
        (sys.executable, "-c", code), check=True, timeout=HANG_S, capture_output=True, text=True, env=env
    )
    assert all(json.loads(line)["role"] == "llm" for line in done.stderr.splitlines())
    assert "export" in done.stderr


def test_a_session_label_does_not_reveal_the_id() -> None:
    label = tracing.session_label("an-unguessable-id")
    assert len(label) == 12
    assert label == tracing.session_label("an-unguessable-id") != tracing.session_label("another")
