"""GPU: what each process has of it, as it sees it itself; and on clusters what NVIDIA's DCGM exporter says."""

from grafana_foundation_sdk.models import units

from dashboards.board import Row, board
from dashboards.chosen import foreign, gauge, per_minute
from dashboards.panels import BYTES, COUNT, MEBIBYTES, PER_MINUTE, SHARE, Panel, lines
from dashboards.promql import or_zero
from shared.observability import metrics

_GPU = ("instance", "gpu")
_SEES = "{{instance}} GPU {{gpu}}"


def build() -> dict[str, str]:
    """Its file name and its JSON."""
    return board(
        "gpu",
        "GPU",
        "Load, memory, power and errors of the GPUs that Parley's models run on.",
        [
            Row(10, "As Parley's processes see them", _ours()),
            Row(20, "As the DCGM exporter sees them, on a cluster", _dcgm(), collapsed=True),
        ],
    )


def _ours() -> list[Panel]:
    used, total = gauge(metrics.gpu_memory_used, "max", _GPU), gauge(metrics.gpu_memory_total, "max", _GPU)
    return [
        lines(
            11,
            "Running",
            "Share of time in which the GPU ran anything at all. 100 % does not mean that nothing more fits: queue age "
            "and real-time factor say that.",
            SHARE,
            {_SEES: gauge(metrics.gpu_utilization, "max", _GPU)},
        ),
        lines(
            12,
            "Memory in use",
            "Of the whole GPU, by all that use it. Above the line the next model call may fail: lower device_memory, "
            "cache_memory or batch.",
            SHARE,
            {_SEES: f"{used} / {total}"},
            limit=0.95,
            runbooks=["GpuMemory"],
        ),
        lines(
            13,
            "Memory of each process",
            "What each worker has. It grows with its batches and conversations to a limit, not beyond.",
            BYTES,
            {"{{stage}} {{instance}} GPU {{gpu}}": gauge(metrics.gpu_process_memory, "max", ("stage", *_GPU))},
            runbooks=["GpuMemory"],
        ),
        lines(
            14,
            "Power",
            "What the GPU draws. Far below its limit under full load: it waits for the processor or for work.",
            units.Watt,
            {_SEES: gauge(metrics.gpu_power, "max", _GPU)},
        ),
        lines(
            15,
            "Temperature",
            "Above some 85 °C a GPU slows itself down: see to its cooling.",
            units.Celsius,
            {_SEES: gauge(metrics.gpu_temperature, "max", _GPU)},
        ),
        lines(
            16,
            "Errors of the driver, per minute",
            "Any at all is serious: take the machine out, and read its kernel log for the number (Xid).",
            PER_MINUTE,
            {"all": or_zero(per_minute(metrics.gpu_xid_errors)), _SEES: per_minute(metrics.gpu_xid_errors, _GPU)},
            runbooks=["GpuXid"],
        ),
    ]


def _dcgm() -> list[Panel]:
    panels = (
        ("Running", "A kernel ran in this share of the time, however small.", units.Percent, "DCGM_FI_DEV_GPU_UTIL"),
        ("Engine active", "Share of time in which it computed: the load.", SHARE, "DCGM_FI_PROF_GR_ENGINE_ACTIVE"),
        (
            "Tensor cores active",
            "Share of cycles in which they worked. Low under load: small batches, or numbers of 32 bits.",
            SHARE,
            "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
        ),
        ("Power", "Far below its limit under full load: it waits.", units.Watt, "DCGM_FI_DEV_POWER_USAGE"),
        ("Temperature", "Above some 85 °C it slows itself down.", units.Celsius, "DCGM_FI_DEV_GPU_TEMP"),
        (
            "Last error",
            "Number of the last Xid error; 0: none. Look the number up in NVIDIA's list, and take the machine out.",
            COUNT,
            "DCGM_FI_DEV_XID_ERRORS",
        ),
    )
    memory = lines(
        27,
        "Memory",
        "Used and free, in MiB. Little free: the next model call may fail.",
        MEBIBYTES,
        {
            "used {{Hostname}} GPU {{gpu}}": foreign("DCGM_FI_DEV_FB_USED", "max", by=("Hostname", "gpu")),
            "free {{Hostname}} GPU {{gpu}}": foreign("DCGM_FI_DEV_FB_FREE", "max", by=("Hostname", "gpu")),
        },
        runbooks=["GpuMemory"],
    )
    return [
        *(
            lines(
                21 + place,
                title,
                f"{about} {metric} of the DCGM exporter.",
                unit,
                {"{{Hostname}} GPU {{gpu}}": foreign(metric, "max", by=("Hostname", "gpu"))},
                runbooks=["GpuXid"] if metric.endswith("XID_ERRORS") else [],
            )
            for place, (title, about, unit, metric) in enumerate(panels)
        ),
        memory,
    ]
