"""The part of tracing that uses OpenTelemetry's SDK; imported only if tracing is on."""

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanContext

from shared.settings import Settings


class Ids(RandomIdGenerator):
    """Generates random ids, or reuses the ids of a span that another process began and this one continues."""

    def __init__(self) -> None:
        self.given: SpanContext | None = None

    def generate_trace_id(self) -> int:
        return self.given.trace_id if self.given else super().generate_trace_id()

    def generate_span_id(self) -> int:
        return self.given.span_id if self.given else super().generate_span_id()


def make_provider(role: str, version: str, share: float, processor: SpanProcessor) -> TracerProvider:
    """Create the tracer provider. `share` of the turns are traced; other processes' decisions about a turn are kept."""
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(share)),
        resource=Resource.create({"service.name": f"parley-{role}", "service.version": version}),
        id_generator=Ids(),
        shutdown_on_exit=False,  # it has no timeout
    )
    provider.add_span_processor(processor)
    return provider


def make_processor(settings: Settings) -> SpanProcessor:
    """Create the processor, which exports the spans in batches from a thread."""
    if settings.traces == "console":
        return BatchSpanProcessor(ConsoleSpanExporter(formatter=lambda span: span.to_json(indent=None) + "\n"))
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return BatchSpanProcessor(OTLPSpanExporter())
