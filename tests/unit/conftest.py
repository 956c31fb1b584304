"""Fixtures of several packages of unit tests."""

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shared.observability.otel import make_provider
from shared.observability.tracing import start_tracing, stop_tracing
from shared.settings import TABLE, load_settings


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """The spans that end during the test."""
    exporter = InMemorySpanExporter()
    start_tracing(make_provider("test", "1", 1.0, SimpleSpanProcessor(exporter)))
    yield exporter
    stop_tracing()


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No variable `PARLEY_…` is set, and the settings are read again."""
    for row in TABLE.values():
        monkeypatch.delenv(row.variable, raising=False)
    load_settings.cache_clear()
    yield
    load_settings.cache_clear()
