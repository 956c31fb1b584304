"""Traces: one for each turn, through all processes; OpenTelemetry's, and off unless the settings say otherwise.

Where a span belongs travels on the frames, as W3C traceparent; empty: the turn is not traced. Nothing is asked of the SDK
but by `configure_tracing`: with the API alone every span is one that does nothing.
"""

import threading
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN,
    Span,
    Status,
    StatusCode,
    Tracer,
    get_current_span,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.distribution import not_installed, version
from shared.settings import BadSettings, Settings

FLUSH_S = 2.0
"""A process that ends waits no longer than this for its spans to be taken."""

Attributes = Mapping[str, str | int | float | bool]


class _Tracing:
    """Of this process."""

    provider: Any = None
    tracer: Tracer | None = None


_now = _Tracing()
_propagator = TraceContextTextMapPropagator()


def configure_tracing(settings: Settings, role: str) -> None:
    """Trace from now on, if the settings say so.

    Raises:
        BadSettings: traces are asked for, and the SDK or its exporter is not installed, or one of its own settings
            (`OTEL_…`) is wrong.
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
        raise BadSettings(f"PARLEY_TRACES={settings.traces!r}: one of OTEL_… is wrong: {error}") from None
    start_tracing(make_provider(role, version(), settings.traces_share, processor))


def start_tracing(provider: Any) -> None:
    """Trace with this provider of the SDK, made by `shared.observability.otel.make_provider`."""
    _now.provider, _now.tracer = provider, provider.get_tracer("parley")


def stop_tracing() -> None:
    """Trace no more. Waits up to `FLUSH_S` for what was traced to be taken."""
    provider, _now.provider, _now.tracer = _now.provider, None, None
    if provider is not None:
        ending = threading.Thread(target=provider.shutdown, name="last spans", daemon=True)
        ending.start()
        ending.join(FLUSH_S)


def is_tracing() -> bool:
    """Whether any turn is traced."""
    return _now.tracer is not None


def begin_turn(attributes: Attributes, began_ns: int, resumed: str = "") -> Span:
    """The span of a whole turn, from this time (since 1970) on. `resumed`: its traceparent, where another process began
    it and will not end it."""
    if _now.tracer is None:
        return INVALID_SPAN
    ids, context = _now.provider.id_generator, _context_of(resumed)
    ids.given = context and get_current_span(context).get_span_context()
    try:
        return _now.tracer.start_span("turn", Context(), attributes=attributes, start_time=began_ns)
    finally:
        ids.given = None


def begin_span(name: str, parent: str, attributes: Attributes, began_ns: int | None = None) -> Span:
    """A span below the one whose traceparent this is; one that does nothing where that is empty or none."""
    if _now.tracer is None or (context := _context_of(parent)) is None:
        return INVALID_SPAN
    return _now.tracer.start_span(name, context, attributes=attributes, start_time=began_ns)


def traceparent(span: Span) -> str:
    """What goes on the frames; empty for a span that is not recorded."""
    if not span.is_recording():
        return ""
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-01"


def trace_id(parent: str) -> str:
    """The trace's id in hex, out of a traceparent (`version-trace-parent-flags`); empty where there is none, or nothing is
    recorded of it."""
    parts = parent.split("-")
    return parts[1] if len(parts) == 4 and parts[3] == "01" else ""


def stage_attributes(stage: str, engine: str, settings: Settings) -> Attributes:
    """What is the same for all spans of a stage. The chat model's follow OpenTelemetry's conventions for generative AI."""
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
    """The span ends in this error. Its message is left out: it may hold what was said."""
    span.set_attribute("error.type", type(error).__name__)
    span.set_status(Status(StatusCode.ERROR, type(error).__name__))


def session_label(session: str) -> str:
    """What traces know a session by: who has its id could listen in."""
    return sha256(session.encode()).hexdigest()[:12]


def _context_of(parent: str) -> Context | None:
    """None where this is no traceparent: what came with a frame is no error of ours."""
    if not parent:
        return None
    context = _propagator.extract({"traceparent": parent}, Context())
    return context if get_current_span(context).get_span_context().is_valid else None
