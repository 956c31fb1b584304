"""Python imports this before anything else where this folder is on PYTHONPATH: metrics that cost nothing.

Every method by which `prometheus_client` is told something does nothing, and `labels` finds nothing.
"""

from typing import Any

from prometheus_client import Counter, Gauge, Histogram, Info, Summary
from prometheus_client.metrics import MetricWrapperBase


def _nothing(*_: Any, **__: Any) -> None:
    return


def _itself(metric: Any, *_: Any, **__: Any) -> Any:
    return metric


for _kind, _names in (
    (Counter, ("inc", "reset")),
    (Gauge, ("inc", "dec", "set", "set_function")),
    (Histogram, ("observe",)),
    (Summary, ("observe",)),
    (Info, ("info",)),
    (MetricWrapperBase, ("remove", "clear")),
):
    for _name in _names:
        setattr(_kind, _name, _nothing)
MetricWrapperBase.labels = _itself  # type: ignore[assignment]
