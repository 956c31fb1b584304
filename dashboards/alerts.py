"""The Prometheus alert rules, built from the SLO table and the metric objects.

Only SLO burn-rate alerts page, because they show that callers are affected. Internal causes open tickets: they help to
find the reason, and wake nobody while callers are not affected.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client import Counter

from dashboards import promql
from dashboards.slo import (
    LONG_WINDOWS,
    SHORT_WINDOWS,
    SLOS,
    Burn,
    Slo,
    burns,
    errors_record,
    events_record,
    least_events,
    recorded_errors,
    recorded_events,
    threshold,
)
from shared.observability import metrics
from shared.settings import STAGES, Settings

RUNBOOKS = "docs/runbooks"
JOB = "parley"
"""The job name in the scrape configuration."""
LONG_INTERVAL = "2m"
"""Evaluation interval of the long windows; less than the 5 minutes after which Prometheus treats a series as stale."""

DEFAULTS = Settings.model_construct()  # independent of the environment in which the rules are built
QUEUE_AGE_S = DEFAULTS.queue_age_limit_ms / 1000
"""The age from which on sessions are refused."""
SILENCE_S = 2 * DEFAULTS.lease_ms / 1000
"""Another worker should take a job over after one lease time."""
LOOP_LAG_S = 0.125
CLOCK_SKEW_S = 0.25
BROKER_MEMORY = 0.8
GPU_MEMORY = 0.95
ENDPOINT_FAILURES, LEAST_REQUESTS = 0.1, 5
"""Share of failed requests within `ENDPOINT_WINDOW`, and the minimum number of requests for the alert."""
ENDPOINT_WINDOW = "5m"


@dataclass(frozen=True, slots=True)
class Cause:
    """An internal condition that may affect callers."""

    alert: str
    expr: str
    hold: str
    """How long the expression must be true before the alert fires."""
    summary: str
    description: str
    dashboard: str
    stage: str | None = None
    """The label `stage`, if the expression does not have it."""


def build(*, runbooks: str = RUNBOOKS, hold: str | None = None) -> dict[str, str]:
    """Return the contents of the rule file by its name. `hold` overrides the `hold` of every cause."""
    import yaml

    groups = [
        {"name": "parley-slo", "rules": [*_recorded(SHORT_WINDOWS), *_budgets(SHORT_WINDOWS, runbooks)]},
        {
            "name": "parley-slo-long",
            "interval": LONG_INTERVAL,
            "rules": [*_recorded(LONG_WINDOWS), *_budgets(LONG_WINDOWS, runbooks)],
        },
        {"name": "parley-causes", "rules": [_cause(cause, runbooks, hold or cause.hold) for cause in CAUSES]},
    ]
    text = yaml.safe_dump({"groups": groups}, sort_keys=False, width=120, allow_unicode=True)
    return {"alerts.yaml": f"# Built by `python -m dashboards`; change dashboards/alerts.py instead.\n{text}"}


def happened(counter: Counter, window: str, by: Sequence[str]) -> str:
    """Expression: any event within the window, including the first one of a new series, which `increase` misses."""
    one = promql.series(counter, "_total")
    began = f"sum by ({', '.join(by)}) ({one} unless {one} offset {window})"
    return f"{promql.increase(counter, window, by)} > 0 or {began} > 0"


def failing_endpoints() -> str:
    """Expression: the share of failed requests per endpoint, without cancelled requests, is above the limit."""
    by, requests = ("stage", "endpoint"), metrics.endpoint_requests
    done = promql.increase(requests, ENDPOINT_WINDOW, by, outcome="done")
    cancelled = promql.increase(requests, ENDPOINT_WINDOW, by, outcome="cancelled")
    wanted = f"({promql.increase(requests, ENDPOINT_WINDOW, by)} - {cancelled})"
    return f"1 - {done} / {wanted} > {ENDPOINT_FAILURES:g} and {wanted} >= {LEAST_REQUESTS}"


CAUSES = (
    Cause(
        "QueueTooOld",
        f"{promql.gauge(metrics.queue_age, 'max', ['stage'])} > {QUEUE_AGE_S:g}",
        "1m",
        "The {{ $labels.stage }} stage does not keep up",
        "The oldest waiting {{ $labels.stage }} job is {{ $value | humanizeDuration }} old. "
        f"New sessions are refused from {QUEUE_AGE_S:g} s on.",
        "parley-stages",
    ),
    Cause(
        "NoReadyWorker",
        f"{promql.gauge(metrics.ready_workers, 'max', ['stage'])} < 1",
        "1m",
        "No {{ $labels.stage }} worker is ready",
        "{{ $value }} {{ $labels.stage }} workers are ready. New sessions are refused, and turns wait.",
        "parley-stages",
    ),
    Cause(
        "LeaseSilent",
        f"label_replace({promql.gauge(metrics.oldest_pending, 'max', ['stream'])} > {SILENCE_S:g}, "
        '"stage", "$1", "stream", ".*jobs:(.+)")',
        "30s",
        "A job of the {{ $labels.stage }} stage is stuck",
        "A worker has not renewed the lease of a job in {{ $labels.stream }} for {{ $value | humanizeDuration }}, "
        "and no other worker has taken the job over.",
        "parley-stages",
    ),
    Cause(
        "DeadLetters",
        happened(metrics.dead_letters, "15m", ["stage"]),
        "0s",
        "The {{ $labels.stage }} stage gave up jobs",
        '{{ $value | printf "%.0f" }} {{ $labels.stage }} jobs were given up after their last attempt, in the last 15 '
        "minutes.",
        "parley-stages",
    ),
    Cause(
        "BrokerMemory",
        f"{promql.gauge(metrics.broker_memory, 'max')} / {promql.gauge(metrics.broker_memory_limit, 'max')} "
        f"> {BROKER_MEMORY:g}",
        "5m",
        "The broker's memory is almost full",
        "{{ $value | humanizePercentage }} of the broker's memory is used. When it is full, the broker refuses all "
        "writes.",
        "parley-broker",
    ),
    Cause(
        "BrokerGone",
        f"{promql.gauge(metrics.broker_up, 'max', ['instance'])} < 1",
        "15s",
        "The broker does not answer",
        "The broker does not answer the edge {{ $labels.instance }} (parley_broker_up is {{ $value }}). All sessions "
        "of this edge have ended, and new sessions are refused.",
        "parley-broker",
    ),
    Cause(
        "SessionsRefused",
        happened(metrics.sessions_refused, "5m", ["reason"]),
        "5m",
        "Sessions are refused",
        '{{ $value | printf "%.0f" }} sessions were refused in the last 5 minutes, for at least 5 minutes. Reason: '
        "{{ $labels.reason }}.",
        "parley-edge",
    ),
    Cause(
        "EndpointFailing",
        failing_endpoints(),
        "5m",
        "An endpoint of the {{ $labels.stage }} stage fails",
        "{{ $value | humanizePercentage }} of the requests of the {{ $labels.stage }} stage to its "
        f"{{{{ $labels.endpoint }}}} endpoint failed, in the last {ENDPOINT_WINDOW}.",
        "parley-stages",
    ),
    Cause(
        "EventLoopLag",
        f"{promql.quantile(0.99, metrics.loop_lag, '5m', ['stage', 'instance'])} > {LOOP_LAG_S:g}",
        "5m",
        "The event loop of a {{ $labels.stage }} process is blocked",
        "The event loop of {{ $labels.instance }} wakes up {{ $value | humanizeDuration }} late (99th percentile).",
        "parley-stages",
    ),
    Cause(
        "GpuMemory",
        f"{promql.gauge(metrics.gpu_memory_used, 'max', ['stage', 'instance', 'gpu'])} / "
        f"{promql.gauge(metrics.gpu_memory_total, 'max', ['stage', 'instance', 'gpu'])} > {GPU_MEMORY:g}",
        "5m",
        "A GPU's memory is full",
        "{{ $value | humanizePercentage }} of the memory of GPU {{ $labels.gpu }} is used, according to the "
        "{{ $labels.stage }} worker {{ $labels.instance }}.",
        "parley-gpu",
    ),
    Cause(
        "GpuXid",
        happened(metrics.gpu_xid_errors, "15m", ["stage", "instance", "gpu"]),
        "0s",
        "A GPU reports errors",
        'The driver reported {{ $value | printf "%.0f" }} Xid errors of GPU {{ $labels.gpu }} in the last 15 minutes, '
        "according to the {{ $labels.stage }} worker {{ $labels.instance }}.",
        "parley-gpu",
    ),
    # One rule per stage, for all of its targets together: scaling a stage in must not fire the alert.
    *(
        Cause(
            "ExporterAbsent",
            f'absent(up{{job="{JOB}", stage="{stage}"}} == 1)',
            "2m",
            f"No metrics from {stage}",
            f"Prometheus reaches no process of {stage}. No other alert of this stage can fire.",
            "parley-overview",
            stage,
        )
        for stage in (*STAGES, "edge")
    ),
    Cause(
        "ClockSkew",
        f"max by (stage, instance) (abs({promql.series(metrics.clock_skew)})) > {CLOCK_SKEW_S:g}",
        "5m",
        "A host's clock is wrong",
        "The clock of {{ $labels.instance }} ({{ $labels.stage }}) differs from the broker's by "
        "{{ $value | humanizeDuration }}.",
        "parley-broker",
    ),
)


def _recorded(windows: Sequence[str]) -> list[dict[str, Any]]:
    rules = []
    for slo in SLOS:
        for window in windows:
            labels = {"slo": slo.name}
            rules.append({"record": errors_record(window), "expr": slo.errors(window), "labels": labels.copy()})
            if any(window == burn.long for burn in burns(slo)):
                rules.append({"record": events_record(window), "expr": slo.events(window), "labels": labels.copy()})
    return rules


def _budgets(windows: Sequence[str], runbooks: str) -> list[dict[str, Any]]:
    return [_budget(slo, burn, runbooks) for slo in SLOS for burn in burns(slo) if burn.long in windows]


def _budget(slo: Slo, burn: Burn, runbooks: str) -> dict[str, Any]:
    limit = f"{threshold(slo, burn):g}"
    conditions = (
        f"{recorded_errors(slo, burn.long)} > {limit}",
        f"{recorded_errors(slo, burn.short)} > {limit}",
        f"{recorded_events(slo, burn.long)} > {least_events(slo, burn)}",
    )
    description = (
        f"{{{{ $value | humanizePercentage }}}} {slo.broken} in the last {burn.long}. The error budget is "
        f"{100 * slo.budget:g} % over 30 days; it burns more than {burn.factor:g} times too fast."
    )
    return {
        "alert": slo.alert,
        "expr": " and ".join(conditions),
        "labels": {"severity": burn.severity, "slo": slo.name, "window": burn.long},
        "annotations": _annotations(slo.alert, slo.summary, description, slo.dashboard, runbooks),
    }


def _cause(cause: Cause, runbooks: str, hold: str) -> dict[str, Any]:
    labels = {"severity": "ticket"} | ({"stage": cause.stage} if cause.stage else {})
    return {
        "alert": cause.alert,
        "expr": cause.expr,
        "for": hold,
        "labels": labels,
        "annotations": _annotations(cause.alert, cause.summary, cause.description, cause.dashboard, runbooks),
    }


def _annotations(alert: str, summary: str, description: str, dashboard: str, runbooks: str) -> dict[str, str]:
    return {
        "summary": summary,
        "description": description,
        "runbook_url": f"{runbooks}/{alert}.md",
        "dashboard": dashboard,
    }
