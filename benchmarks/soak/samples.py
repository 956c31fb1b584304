"""What is measured of a running system, and whether it grows. The judgement is pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

import psutil

from tests.support.broker_counts import MIB, broker_counts

Sample = Mapping[str, float]
"""Figures by name: see `LIMITS`."""


@dataclass(frozen=True, slots=True)
class Limit:
    """How much a figure may grow from the second to the last third of a run."""

    share: float = 0.0
    """Growth as a share of its value."""
    extra: float = 0.0
    settles_s: float = 6.0
    """Time after which it no longer grows by itself. It is not judged in runs of less than three times that."""


LIMITS: dict[str, Limit] = {
    "MiB": Limit(share=0.04, extra=3.0),
    "files": Limit(extra=4),
    "consumers": Limit(extra=0),
    "pending": Limit(extra=16),
    "jobs": Limit(extra=16),
    "keys without TTL": Limit(extra=4),
    # What a session leaves is there for two minutes.
    "broker MiB": Limit(share=0.15, extra=3.0, settles_s=130),
    "keys": Limit(share=0.15, extra=20, settles_s=130),
}
"""By the last part of a figure's name: `vad MiB`, `edge files`, `keys`."""


class Verdict(NamedTuple):
    name: str
    early: float
    """Median of the second third."""
    late: float
    """Median of the last third."""
    grew: bool | None
    """None: the run is too short to judge."""


def judge(samples: Sequence[Sample], seconds: float) -> list[Verdict]:
    """Compare the last third of the samples with the second, figure by figure."""
    third = len(samples) // 3
    verdicts = []
    for name in samples[-1]:
        early = median(sample[name] for sample in samples[third : 2 * third])
        late = median(sample[name] for sample in samples[2 * third :])
        limit = _limit(name)
        grew = None if seconds < 3 * limit.settles_s else late > early * (1 + limit.share) + limit.extra
        verdicts.append(Verdict(name, early, late, grew))
    return verdicts


def _limit(name: str) -> Limit:
    """The limit of the longest ending of this name."""
    return LIMITS[max((ending for ending in LIMITS if name.endswith(ending)), key=len)]


async def take_sample(broker_url: str, pids: Mapping[str, int]) -> Sample:
    """Measure the processes and the broker."""
    sample: dict[str, float] = {}
    for name, pid in pids.items():
        process = psutil.Process(pid)
        with process.oneshot():
            if name != "broker":
                sample[f"{name} MiB"] = process.memory_info().rss / MIB
            sample[f"{name} files"] = process.num_fds()
    return sample | await broker_counts(broker_url)
