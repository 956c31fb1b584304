"""Expressions of Prometheus, made from the metric objects: what is renamed, or has lost a label, does not build.

A window is a duration of Prometheus ("5m") or a variable of Grafana. Labels are matched as they are given: `"tts"` by
`=`, and what begins with `$` as a variable of Grafana, by `=~`.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from prometheus_client import Counter, Gauge, Histogram

Instrument = Counter | Gauge | Histogram

WINDOW = "$__rate_interval"
SCRAPED = frozenset({"environment", "job", "instance", "stage"})
"""Labels that the scrape configuration gives to every series, whether the metric has them or not."""

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
"""Metrics that are not ours, and the labels of each: of the Prometheus client, and of NVIDIA's DCGM exporter."""


def rate(counter: Counter, window: str = WINDOW, by: Sequence[str] = (), **labels: str) -> str:
    """Events per second, summed over processes."""
    return _sum(f"rate({series(counter, '_total', **labels)}[{window}])", counter, by)


def increase(counter: Counter, window: str, by: Sequence[str] = (), **labels: str) -> str:
    """Events within the window, summed over processes."""
    return _sum(f"increase({series(counter, '_total', **labels)}[{window}])", counter, by)


def count(counter: Counter, window: str, by: Sequence[str] = (), **labels: str) -> str:
    """Events within the window, also those with which a series began: `increase` takes a first value for an old one."""
    total = series(counter, "_total", **labels)
    return _sum(f"({total} unless {total} offset {window}) or increase({total}[{window}])", counter, by)


def observed(histogram: Histogram, window: str = WINDOW, by: Sequence[str] = (), **labels: str) -> str:
    """Observations per second, summed over processes."""
    return _sum(f"rate({series(histogram, '_count', **labels)}[{window}])", histogram, by)


def mean(histogram: Histogram, window: str = WINDOW, by: Sequence[str] = (), **labels: str) -> str:
    """Mean of what was observed."""
    total = _sum(f"rate({series(histogram, '_sum', **labels)}[{window}])", histogram, by)
    return f"{total} / {observed(histogram, window, by, **labels)}"


def quantile(share: float, histogram: Histogram, window: str = WINDOW, by: Sequence[str] = (), **labels: str) -> str:
    """The value that this share of the observations does not exceed, interpolated within its bucket."""
    buckets = f"rate({series(histogram, '_bucket', **labels)}[{window}])"
    return f"histogram_quantile({share:g}, {_sum(buckets, histogram, ('le', *by))})"


def share_within(
    histogram: Histogram, limit_s: float, window: str = WINDOW, by: Sequence[str] = (), **labels: str
) -> str:
    """Share of the observations up to `limit_s`: exact, without interpolation.

    Raises:
        ValueError: the limit is not the edge of a bucket.
    """
    edges = histogram._upper_bounds  # noqa: SLF001 - the library has no other name for them
    if limit_s not in edges:
        raise ValueError(f"{name(histogram)}: {limit_s} is no edge of a bucket; these are: {edges}")
    within = f"rate({series(histogram, '_bucket', **labels, le=f'{float(limit_s)}')}[{window}])"
    return f"{_sum(within, histogram, by)} / {observed(histogram, window, by, **labels)}"


def gauge(metric: Gauge, over: str = "sum", by: Sequence[str] = (), **labels: str) -> str:
    """The value now; `over` processes: sum, max, min or avg."""
    return _sum(series(metric, **labels), metric, by, over)


def foreign(metric: str, over: str = "sum", window: str = "", by: Sequence[str] = (), **labels: str) -> str:
    """A metric that is not ours: its value now or, with a window, its rate per second; `over` processes or GPUs.

    Raises:
        ValueError: it is none of `FOREIGN`, or has no such label.
    """
    if metric not in FOREIGN:
        raise ValueError(f"{metric} is no metric that is known here; these are: {', '.join(sorted(FOREIGN))}")
    _check(metric, FOREIGN[metric] | SCRAPED, (*labels, *by))
    selector = metric + _matching(labels)
    return _over(f"rate({selector}[{window}])" if window else selector, by, over)


def share(part: str, whole: str) -> str:
    """Share of one rate in another with the same labels: 0 where the part never happened, NaN where nothing did."""
    return f"({part} or {whole} * 0) / {whole}"


def or_zero(expression: str) -> str:
    """Of a single number without labels: 0 where there is none, as with errors that have not happened yet."""
    return f"({expression}) or vector(0)"


def series(metric: Instrument, suffix: str = "", **labels: str) -> str:
    """The selector of one metric.

    Raises:
        ValueError: it has no such label.
    """
    check_labels(metric, tuple(labels))
    return name(metric) + suffix + _matching(labels)


def name(metric: Instrument) -> str:
    """As it is exposed, less the suffix of its samples."""
    return next(iter(metric.describe())).name


def check_labels(metric: Instrument, labels: Sequence[str]) -> None:
    """Raises `ValueError` where a label is none of the metric's."""
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
