"""The expressions of `promql`, restricted to the environment selected in the dashboard."""

from collections.abc import Mapping, Sequence
from functools import partial

from prometheus_client import Counter, Histogram

from dashboards import promql

ENVIRONMENT, STAGE, ENGINE = "$environment", "$stage", "$engine"
RANGE = "$__range"
"""Grafana's variable for the time range of the dashboard."""

rate = partial(promql.rate, environment=ENVIRONMENT)
count = partial(promql.count, environment=ENVIRONMENT)
observed = partial(promql.observed, environment=ENVIRONMENT)
mean = partial(promql.mean, environment=ENVIRONMENT)
quantile = partial(promql.quantile, environment=ENVIRONMENT)
gauge = partial(promql.gauge, environment=ENVIRONMENT)
foreign = partial(promql.foreign, environment=ENVIRONMENT)


def per_minute(counter: Counter, by: Sequence[str] = (), **labels: str) -> str:
    """Events per minute, summed over processes."""
    return f"60 * {rate(counter, by=by, **labels)}"


def failures(counter: Counter, by: str) -> Mapping[str, str]:
    """Errors per minute, in total and by a label; the total is 0 without errors."""
    return {"all": promql.or_zero(per_minute(counter)), f"{{{{{by}}}}}": per_minute(counter, (by,))}


def percentiles(
    histogram: Histogram, shares: Sequence[float] = (0.5, 0.95, 0.99), by: Sequence[str] = (), **labels: str
) -> Mapping[str, str]:
    """Legend and expression of each percentile."""
    suffix = "".join(f" {{{{{label}}}}}" for label in by)
    return {f"p{share * 100:g}{suffix}": quantile(share, histogram, by=by, **labels) for share in shares}
