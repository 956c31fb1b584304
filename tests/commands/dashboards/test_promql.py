"""Expressions and their values; a renamed metric or a missing label fails the build."""

import json
import subprocess
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from dashboards import chosen, promql, stages
from shared.observability import metrics
from tests.conftest import need
from tests.support.waiting import HANG_S

_ALONE = CollectorRegistry()
EVENTS = Counter("tested_events_total", "Events.", ["outcome"], registry=_ALONE)
LEVEL = Gauge("tested_level", "A level.", ["stage"], registry=_ALONE)
TIMES = Histogram("tested_seconds", "Times.", ["protocol"], buckets=(0.1, 0.8, 2), registry=_ALONE)


def test_expressions() -> None:
    assert promql.rate(EVENTS, "5m") == "sum(rate(tested_events_total[5m]))"
    assert promql.increase(EVENTS, "1h", ("outcome",)) == "sum by (outcome) (increase(tested_events_total[1h]))"
    assert promql.observed(TIMES, "5m") == "sum(rate(tested_seconds_count[5m]))"
    assert promql.mean(TIMES, "5m") == "sum(rate(tested_seconds_sum[5m])) / sum(rate(tested_seconds_count[5m]))"
    assert promql.quantile(0.95, TIMES, "5m", ("protocol",)) == (
        "histogram_quantile(0.95, sum by (le, protocol) (rate(tested_seconds_bucket[5m])))"
    )
    assert promql.share_within(TIMES, 0.8, "5m") == (
        'sum(rate(tested_seconds_bucket{le="0.8"}[5m])) / sum(rate(tested_seconds_count[5m]))'
    )
    assert promql.gauge(LEVEL, "max", ("stage",)) == "max by (stage) (tested_level)"
    assert promql.share("a", "b") == "(a or b * 0) / b"
    assert promql.or_zero("a") == "(a) or vector(0)"


def test_an_integer_limit_is_written_as_a_float() -> None:
    assert 'le="2.0"' in promql.share_within(TIMES, 2)


def test_labels_are_matched_as_given_and_variables_as_patterns() -> None:
    assert promql.series(LEVEL, stage="tts") == 'tested_level{stage="tts"}'
    assert promql.series(LEVEL, stage="$stage", environment="$environment") == (
        'tested_level{environment=~"$environment", stage=~"$stage"}'
    )


def test_foreign_metrics() -> None:
    assert promql.foreign("DCGM_FI_DEV_GPU_UTIL", "max", by=("gpu",)) == "max by (gpu) (DCGM_FI_DEV_GPU_UTIL)"
    assert promql.foreign("process_cpu_seconds_total", window="5m", stage="edge") == (
        'sum(rate(process_cpu_seconds_total{stage="edge"}[5m]))'
    )
    with pytest.raises(ValueError, match=r"unknown metric DCGM_FI_DEV_UTIL; known are: DCGM_FI_DEV_FB"):
        promql.foreign("DCGM_FI_DEV_UTIL")
    with pytest.raises(ValueError, match="process_open_fds has no label 'gpu'"):
        promql.foreign("process_open_fds", by=("gpu",))


def test_chosen_expressions_have_the_environment() -> None:
    assert chosen.per_minute(EVENTS, ("outcome",)) == (
        '60 * sum by (outcome) (rate(tested_events_total{environment=~"$environment"}[$__rate_interval]))'
    )
    assert list(chosen.percentiles(TIMES, (0.5, 0.999), ("protocol",))) == ["p50 {{protocol}}", "p99.9 {{protocol}}"]


SAMPLES = {
    'tested_events_total{instance="old", outcome="failed"}': "7x30",
    'tested_events_total{instance="new", outcome="failed"}': "_x24 2x5",
    'tested_events_total{instance="old", outcome="completed"}': "0+3x30",
}
"""One sample per minute. Events in the last 20 of 30 minutes: none; two, with which the series began; sixty."""


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        (promql.count(EVENTS, "20m", outcome="failed", instance="old"), 0),
        (promql.count(EVENTS, "20m", outcome="failed", instance="new"), 2),
        (promql.increase(EVENTS, "20m", outcome="failed", instance="new"), 0),
        (promql.count(EVENTS, "20m", outcome="completed"), 60),
        (promql.or_zero(promql.count(EVENTS, "20m", outcome="empty")), 0),
        (promql.share(promql.rate(EVENTS, "20m", outcome="empty"), promql.rate(EVENTS, "20m")), 0),
        (promql.share(promql.rate(EVENTS, "20m", instance="old"), promql.rate(EVENTS, "20m", instance="old")), 1),
    ],
)
def test_values_of_expressions(expression: str, value: float, tmp_path: Path) -> None:
    asked = {"expr": expression, "eval_time": "30m", "exp_samples": [{"labels": "{}", "value": value}]}
    series = [{"series": name, "values": values} for name, values in SAMPLES.items()]
    tests = {"tests": [{"interval": "1m", "input_series": series, "promql_expr_test": [asked]}]}
    file = tmp_path / "test.yaml"
    file.write_text(json.dumps(tests))  # JSON is YAML
    argv = (need("promtool"), "test", "rules", str(file))
    done = subprocess.run(argv, capture_output=True, text=True, timeout=HANG_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_unknown_label_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"tested_events has no label 'stages'; it has .*outcome.*stage"):
        promql.rate(EVENTS, by=("stages",))
    with pytest.raises(ValueError, match="tested_level has no label 'outcome'"):
        promql.gauge(LEVEL, outcome="failed")


def test_a_limit_between_bucket_boundaries_is_an_error() -> None:
    with pytest.raises(
        ValueError, match=r"tested_seconds: 0\.7 is not a bucket boundary; these are: \[0\.1, 0\.8, 2\.0"
    ):
        promql.share_within(TIMES, 0.7)


def test_a_lost_label_fails_the_build_of_its_dashboard(monkeypatch: pytest.MonkeyPatch) -> None:
    without = Gauge("parley_queue_age_seconds", "Age.", ["step"], registry=CollectorRegistry())
    monkeypatch.setattr(metrics, "queue_age", without)
    stages.build()  # the scrape configuration adds `stage` to every series
    lost = Histogram("parley_stage_duration_seconds", "Time.", ["stage"], registry=CollectorRegistry())
    monkeypatch.setattr(metrics, "stage_duration", lost)
    with pytest.raises(ValueError, match="parley_stage_duration_seconds has no label 'engine'"):
        stages.build()


def test_a_missing_metric_fails_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(metrics, "batch_size")
    with pytest.raises(AttributeError, match="batch_size"):
        stages.build()
