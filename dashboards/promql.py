"""Prometheus expressions, built from the metric objects, so that a renamed metric or a missing label fails the build.

A window is a Prometheus duration ("5m") or a Grafana variable. A label value is matched with `=`; a value that begins
with `$` is a Grafana variable and is matched with `=~`.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from prometheus_client import Counter, Gauge, Histogram

Instrument = Counter | Gauge | Histogram

WINDOW = "$__rate_interval"
SCRAPED = frozenset({"environment", "job", "instance", "stage"})
"""Labels that the scrape configuration adds to every series."""

_DCGM = frozenset({"gpu", "UUID", "modelName", "Hostname"})
FOREIGN: dict[str, frozenset[str]] = {
    "process_cpu_seconds_total": frozenset(),
    "process_resident_memory_bytes": frozenset(),
    "process_open_fds": frozenset(),
    "process_max_fds": frozenset(),
    "DCGM_FI_DEV_GPU_UTIL": _DCGM,
    "DCGM_FI_DEV_FB_USED": _DCGM,
    "DCGM_FI_DEV_FB_FREE": _DCGM,
    "DCGM_FI_DEV_POWER_USAGE": _DCGM,
    "DCGM_FI_DEV_GPU_TEMP": _DCGM,
    "DCGM_FI_DEV_XID_ERRORS": _DCGM,
    "DCGM_FI_PROF_GR_ENGINE_ACTIVE": _DCGM,
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": _DCGM,
}
"""Metrics of the Prometheus client and of NVIDIA's DCGM exporter, with their labels."""


def rate(counter: Counter, window: str = WINDOW, by: Sequence[str] = (), **labels: str) -> str:
    """Events per second, summed over processes."""
    return _sum(f"rate({series(counter, '_total', **labels)}[{window}])", counter, by)


def increase(counter: Counter, window: str, by: Sequence[str] = (), **labels: str) -> str:
    """Events within the window, summed over processes."""
    return _sum(f"increase({series(counter, '_total', **labels)}[{window}])", counter, by)


def count(counter: Counter, window: str, by: Sequence[str] = (), **labels: str) -> str:
    """Events within the window, including the first value of a new series, which `increase` ignores."""
    total = series(counter, "_total", **labels)
    return _sum(f"({total} unless {total} offset {window}) or increase({total}[{window}])", counter, by)


def observed(histogram: Histogram, window: str = WINDOW, by: Sequence[str] = (), **labels: str) -> str:
    """Observations per second, summed over processes."""
    return _sum(f"rate({series(histogram, '_count', **labels)}[{window}])", histogram, by)


def mean(histogram: Histogram, window: str = WINDOW, by: Sequence[str] = (), **labels: str) -> str:
    """Mean of the observations."""
    total = _sum(f"rate({series(histogram, '_sum', **labels)}[{window}])", histogram, by)
    return f"{total} / {observed(histogram, window, by, **labels)}"


def quantile(share: float, histogram: Histogram, window: str = WINDOW, by: Sequence[str] = (), **labels: str) -> str:
    """Quantile of the observations, interpolated within its bucket. `share` is 0..1."""
    buckets = f"rate({series(histogram, '_bucket', **labels)}[{window}])"
    return f"histogram_quantile({share:g}, {_sum(buckets, histogram, ('le', *by))})"


def share_within(
    histogram: Histogram, limit_s: float, window: str = WINDOW, by: Sequence[str] = (), **labels: str
) -> str:
    """Share of the observations up to `limit_s`, exact.

    Raises:
        ValueError: the limit is not a bucket boundary.
    """
    bounds = histogram._upper_bounds  # noqa: SLF001 - the library has no public name for them
    if limit_s not in bounds:
        raise ValueError(f"{name(histogram)}: {limit_s} is not a bucket boundary; these are: {bounds}")
    within = f"rate({series(histogram, '_bucket', **labels, le=f'{float(limit_s)}')}[{window}])"
    return f"{_sum(within, histogram, by)} / {observed(histogram, window, by, **labels)}"


def gauge(metric: Gauge, over: str = "sum", by: Sequence[str] = (), **labels: str) -> str:
    """Current value, aggregated over processes by `over`: sum, max, min or avg."""
    return _sum(series(metric, **labels), metric, by, over)


def foreign(metric: str, over: str = "sum", window: str = "", by: Sequence[str] = (), **labels: str) -> str:
    """A metric of `FOREIGN`: its current value or, with a window, its rate per second, aggregated by `over`.

    Raises:
        ValueError: the metric is not in `FOREIGN`, or does not have the label.
    """
    if metric not in FOREIGN:
        raise ValueError(f"unknown metric {metric}; known are: {', '.join(sorted(FOREIGN))}")
    _check(metric, FOREIGN[metric] | SCRAPED, (*labels, *by))
    selector = metric + _matching(labels)
    return _over(f"rate({selector}[{window}])" if window else selector, by, over)


def share(part: str, whole: str) -> str:
    """Share of one rate in another with the same labels: 0 if the part never happened, NaN if the whole never did."""
    return f"({part} or {whole} * 0) / {whole}"


def or_zero(expression: str) -> str:
    """The expression, which has no labels, or 0 if it has no value, such as a counter without events."""
    return f"({expression}) or vector(0)"


def series(metric: Instrument, suffix: str = "", **labels: str) -> str:
    """The selector of a metric.

    Raises:
        ValueError: the metric does not have the label.
    """
    check_labels(metric, tuple(labels))
    return name(metric) + suffix + _matching(labels)


def name(metric: Instrument) -> str:
    """The metric's exposed name, without the suffix of its samples."""
    return next(iter(metric.describe())).name


def check_labels(metric: Instrument, labels: Sequence[str]) -> None:
    """Raises `ValueError` if the metric does not have one of the labels."""
    _check(name(metric), {*metric._labelnames, *SCRAPED, "le"}, labels)  # noqa: SLF001 - as above


def _check(metric: str, known: Collection[str], labels: Iterable[str]) -> None:
    for label in labels:
        if label not in known:
            raise ValueError(f"{metric} has no label {label!r}; it has {', '.join(sorted(known))}")


def _matching(labels: Mapping[str, str]) -> str:
    matched = ", ".join(
        f'{label}{"=~" if value.startswith("$") else "="}"{value}"' for label, value in sorted(labels.items())
    )
    return f"{{{matched}}}" if matched else ""


def _sum(inner: str, metric: Instrument, by: Sequence[str], over: str = "sum") -> str:
    check_labels(metric, by)
    return _over(inner, by, over)


def _over(inner: str, by: Sequence[str], over: str) -> str:
    return f"{over} by ({', '.join(by)}) ({inner})" if by else f"{over}({inner})"
