"""Percentiles of measured values."""

from collections.abc import Sequence

import numpy as np


def summary(values: Sequence[float]) -> dict[str, float]:
    """Count, p50, p95, p99 and max; only the count where there are no values."""
    if not values:
        return {"n": 0}
    p50, p95, p99 = np.percentile(np.asarray(values, dtype=float), (50, 95, 99))
    return {"n": len(values), "p50": float(p50), "p95": float(p95), "p99": float(p99), "max": float(max(values))}
