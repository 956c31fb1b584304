"""OpenTelemetry traces, one per turn across all processes; off by default.

Frames carry the parent span as a W3C traceparent, empty if the turn is not traced. Only `configure_tracing` uses the
SDK. Until it is called, all spans are no-ops of the API.
"""

import threading
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, Status, StatusCode, Tracer, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.distribution import not_installed, version
from shared.settings import BadSettings, Settings

FLUSH_S = 2.0
"""How long an ending process waits for the export of its spans."""

Attributes = Mapping[str, str | int | float | bool]


class _Tracing:
    provider: Any = None
    tracer: Tracer | None = None


_now = _Tracing()
_propagator = TraceContextTextMapPropagator()


def configure_tracing(settings: Settings, role: str) -> None:
    """Start tracing if the settings ask for it.

    Raises:
        BadSettings: the SDK or its exporter is not installed, or one of its own settings (`OTEL_…`) is wrong.
    """
    if settings.traces == "off":
        return
    try:
        from shared.observability.otel import make_processor, make_provider

        processor = make_processor(settings)
    except ImportError as error:
        raise BadSettings(
            f"PARLEY_TRACES={settings.traces!r}: {not_installed('The SDK of OpenTelemetry', 'otel', error.name)}"
        ) from None
    except ValueError as error:
        raise BadSettings(f"PARLEY_TRACES={settings.traces!r}: a setting OTEL_… is wrong: {error}") from None
    start_tracing(make_provider(role, version(), settings.traces_share, processor))


def start_tracing(provider: Any) -> None:
    """Start tracing with a provider made by `shared.observability.otel.make_provider`."""
    _now.provider, _now.tracer = provider, provider.get_tracer("parley")


def stop_tracing() -> None:
    """Stop tracing. Waits up to `FLUSH_S` for the export of the remaining spans."""
    provider, _now.provider, _now.tracer = _now.provider, None, None
    if provider is not None:
        ending = threading.Thread(target=provider.shutdown, name="last spans", daemon=True)
        ending.start()
        ending.join(FLUSH_S)


def is_tracing() -> bool:
    return _now.tracer is not None


def begin_turn(attributes: Attributes, began_ns: int, resumed: str = "") -> Span:
    """Begin the root span of a turn, at a time in ns since 1970.

    `resumed`: the traceparent of a span that another process began and does not end; this process continues it.
    """
    if _now.tracer is None:
        return INVALID_SPAN
    ids, context = _now.provider.id_generator, _context_of(resumed)
    ids.given = context and get_current_span(context).get_span_context()
    try:
        return _now.tracer.start_span("turn", Context(), attributes=attributes, start_time=began_ns)
    finally:
        ids.given = None


def begin_span(name: str, parent: str, attributes: Attributes, began_ns: int | None = None) -> Span:
    """Begin a child span of a traceparent; a no-op span if the traceparent is empty or invalid."""
    if _now.tracer is None or (context := _context_of(parent)) is None:
        return INVALID_SPAN
    return _now.tracer.start_span(name, context, attributes=attributes, start_time=began_ns)


def traceparent(span: Span) -> str:
    """Return the traceparent for frames; empty if the span is not recorded."""
    if not span.is_recording():
        return ""
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-01"


def trace_id(parent: str) -> str:
    """Return the trace id, in hex, of a traceparent (`version-trace-parent-flags`); empty if it is not sampled."""
    parts = parent.split("-")
    return parts[1] if len(parts) == 4 and parts[3] == "01" else ""


def stage_attributes(stage: str, engine: str, settings: Settings) -> Attributes:
    """Return the common attributes of a stage's spans. The chat model's follow OpenTelemetry's GenAI conventions."""
    own = {"parley.stage": stage, "parley.engine": engine}
    if stage != "llm":
        return own
    return {
        **own,
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": engine,
        "gen_ai.request.model": settings.llm_model or engine,
        "gen_ai.request.max_tokens": settings.reply_tokens,
        "gen_ai.request.temperature": settings.temperature,
        "gen_ai.output.type": "text",
    }


def fail(span: Span, error: BaseException) -> None:
    """Mark the span as failed. The error's message is left out: it may contain what was said."""
    span.set_attribute("error.type", type(error).__name__)
    span.set_status(Status(StatusCode.ERROR, type(error).__name__))


def session_label(session: str) -> str:
    """Return a hash of a session's id for use in traces: with the id itself, a reader could join the session."""
    return sha256(session.encode()).hexdigest()[:12]


def _context_of(parent: str) -> Context | None:
    """Return the context of a traceparent; None if it is empty or invalid."""
    if not parent:
        return None
    context = _propagator.extract({"traceparent": parent}, Context())
    return context if get_current_span(context).get_span_context().is_valid else None
