"""Series that exist before their first event."""

import pytest
from prometheus_client import REGISTRY

from shared.observability import metrics


@pytest.mark.parametrize("protocol", metrics.PROTOCOLS)
def test_an_edge_begins_with_the_series_of_each_protocol(protocol: str) -> None:
    metrics.start_at_zero("edge")
    for name in ("sessions_active", "turn_latency_seconds_count", "playback_underruns_total"):
        assert REGISTRY.get_sample_value(f"parley_{name}", {"protocol": protocol}) is not None
    for outcome in ("left", "closed", "failed"):
        labels = {"protocol": protocol, "outcome": outcome}
        assert REGISTRY.get_sample_value("parley_sessions_total", labels) is not None


def test_an_edge_begins_with_the_reasons_of_refusals_and_drops() -> None:
    metrics.start_at_zero("edge")
    assert REGISTRY.get_sample_value("parley_sessions_refused_total", {"reason": "busy"}) is not None
    assert REGISTRY.get_sample_value("parley_dropped_total", {"reason": "too_many"}) is not None
