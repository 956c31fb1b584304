"""The alert rules of Prometheus, made from the table of SLOs and the metric objects.

A page is for what callers suffer: an error budget that burns fast. Its causes, seen from inside, are tickets: they say
where to look, and wake nobody while no caller suffers.
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
"""The name that the scrape configuration gives the job."""
LONG_INTERVAL = "2m"
"""Below the 5 minutes after which Prometheus takes a series for gone."""

DEFAULTS = Settings.model_construct()  # not of this environment: the rules are the same wherever they are built
QUEUE_AGE_S = DEFAULTS.queue_age_limit_ms / 2000
"""Half of the age at which sessions are refused."""
SILENCE_S = 3 * DEFAULTS.lease_ms / 1000
"""Somebody should have taken the work over after one lease."""
LOOP_LAG_S = 0.125
CLOCK_SKEW_S = 0.25
BROKER_MEMORY = 0.8
GPU_MEMORY = 0.95
ENDPOINT_FAILURES, LEAST_REQUESTS = 0.1, 5
"""Share of the requests to an endpoint, in `ENDPOINT_WINDOW`; and of how many at least."""
ENDPOINT_WINDOW = "5m"


@dataclass(frozen=True, slots=True)
class Cause:
    """Something within that may be why callers suffer."""

    alert: str
    expr: str
    hold: str
    """It must have been so for so long."""
    summary: str
    description: str
    dashboard: str
    stage: str | None = None
    """A label that the expression cannot give."""


def build(*, runbooks: str = RUNBOOKS, hold: str | None = None) -> dict[str, str]:
    """The text of each rule file by its name. `hold`: how long causes must last, instead of each one's own time."""
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
    """More than no events within the window; also the one with which a series began, which `increase` does not see."""
    one = promql.series(counter, "_total")
    began = f"sum by ({', '.join(by)}) ({one} unless {one} offset {window})"
    return f"{promql.increase(counter, window, by)} > 0 or {began} > 0"


def failing_endpoints() -> str:
    """Share of the requests to an endpoint that failed; those that nobody wanted to the end are not among them."""
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
        "The oldest {{ $labels.stage }} work that no worker has taken is {{ $value | humanizeDuration }} old; "
        f"sessions are refused from {2 * QUEUE_AGE_S:g} s on.",
        "parley-stages",
    ),
    Cause(
        "NoReadyWorker",
        f"{promql.gauge(metrics.ready_workers, 'max', ['stage'])} < 1",
        "1m",
        "No {{ $labels.stage }} worker is ready",
        "{{ $value }} {{ $labels.stage }} workers are ready: sessions are refused, and turns wait for one.",
        "parley-stages",
    ),
    Cause(
        "LeaseSilent",
        f"label_replace({promql.gauge(metrics.oldest_pending, 'max', ['stream'])} > {SILENCE_S:g}, "
        '"stage", "$1", "stream", ".*jobs:(.+)")',
        "30s",
        "Work of the {{ $labels.stage }} stage is held by a worker that is silent",
        "A worker has been silent for {{ $value | humanizeDuration }} over work that it took from "
        "{{ $labels.stream }}, and no other worker takes it over.",
        "parley-stages",
    ),
    Cause(
        "DeadLetters",
        happened(metrics.dead_letters, "15m", ["stage"]),
        "0s",
        "The {{ $labels.stage }} stage gave up work",
        '{{ $value | printf "%.0f" }} pieces of {{ $labels.stage }} work were given up after their last attempt, '
        "in the last 15 minutes.",
        "parley-stages",
    ),
    Cause(
        "BrokerMemory",
        f"{promql.gauge(metrics.broker_memory, 'max')} / {promql.gauge(metrics.broker_memory_limit, 'max')} "
        f"> {BROKER_MEMORY:g}",
        "5m",
        "The broker's memory runs full",
        "{{ $value | humanizePercentage }} of the broker's memory is taken; when it is full, it refuses every write.",
        "parley-broker",
    ),
    Cause(
        "BrokerGone",
        f"{promql.gauge(metrics.broker_up, 'max', ['instance'])} < 1",
        "15s",
        "The broker does not answer",
        "The broker does not answer the edge {{ $labels.instance }} (parley_broker_up is {{ $value }}): every session "
        "there has ended, and new ones are refused.",
        "parley-broker",
    ),
    Cause(
        "SessionsRefused",
        happened(metrics.sessions_refused, "5m", ["reason"]),
        "5m",
        "Callers are turned away",
        '{{ $value | printf "%.0f" }} sessions were refused in the last 5 minutes, and some in the 5 minutes before: '
        "{{ $labels.reason }}.",
        "parley-edge",
    ),
    Cause(
        "EndpointFailing",
        failing_endpoints(),
        "5m",
        "An endpoint of the {{ $labels.stage }} stage fails",
        "{{ $value | humanizePercentage }} of the requests of the {{ $labels.stage }} stage to its {{ $labels.endpoint }} "
        f"endpoint failed, in the last {ENDPOINT_WINDOW}.",
        "parley-stages",
    ),
    Cause(
        "EventLoopLag",
        f"{promql.quantile(0.99, metrics.loop_lag, '5m', ['stage', 'instance'])} > {LOOP_LAG_S:g}",
        "5m",
        "A process of the {{ $labels.stage }} stage stalls",
        "The event loop of {{ $labels.instance }} wakes up {{ $value | humanizeDuration }} late (99th percentile).",
        "parley-stages",
    ),
    Cause(
        "GpuMemory",
        f"{promql.gauge(metrics.gpu_memory_used, 'max', ['stage', 'instance', 'gpu'])} / "
        f"{promql.gauge(metrics.gpu_memory_total, 'max', ['stage', 'instance', 'gpu'])} > {GPU_MEMORY:g}",
        "5m",
        "A GPU's memory is full",
        "{{ $value | humanizePercentage }} of the memory of GPU {{ $labels.gpu }} is taken, as the {{ $labels.stage }} "
        "worker {{ $labels.instance }} sees it.",
        "parley-gpu",
    ),
    Cause(
        "GpuXid",
        happened(metrics.gpu_xid_errors, "15m", ["stage", "instance", "gpu"]),
        "0s",
        "A GPU reports errors",
        'The driver reported {{ $value | printf "%.0f" }} errors of GPU {{ $labels.gpu }} to the {{ $labels.stage }} '
        "worker {{ $labels.instance }}, in the last 15 minutes.",
        "parley-gpu",
    ),
    # One rule for each stage, and of any target of it: where a stage is scaled in, the others of it still answer.
    *(
        Cause(
            "ExporterAbsent",
            f'absent(up{{job="{JOB}", stage="{stage}"}} == 1)',
            "2m",
            f"Nothing is measured of {stage}",
            f"No process of {stage} answers Prometheus: no other alert of this stage can fire.",
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
        "The clock of {{ $labels.instance }} ({{ $labels.stage }}) and the broker's are "
        "{{ $value | humanizeDuration }} apart.",
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
        f"{{{{ $value | humanizePercentage }}}} {slo.broken}, in the last {burn.long}. {100 * slo.budget:g} % may, "
        f"over 30 days: this is more than {burn.factor:g} times as fast."
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
