"""The GPU dashboard: figures from Parley's own processes and, on clusters, from NVIDIA's DCGM exporter."""

from grafana_foundation_sdk.models import units

from dashboards.board import Row, board
from dashboards.chosen import foreign, gauge, per_minute
from dashboards.panels import BYTES, COUNT, MEBIBYTES, PER_MINUTE, SHARE, Panel, lines
from dashboards.promql import or_zero
from shared.observability import metrics

_GPU = ("instance", "gpu")
_SEES = "{{instance}} GPU {{gpu}}"


def build() -> dict[str, str]:
    return board(
        "gpu",
        "GPU",
        "Load, memory, power and errors of the GPUs that Parley's models run on.",
        [
            Row(10, "Reported by Parley's processes", _ours()),
            Row(20, "Reported by the DCGM exporter", _dcgm(), collapsed=True),
        ],
    )


def _ours() -> list[Panel]:
    used, total = gauge(metrics.gpu_memory_used, "max", _GPU), gauge(metrics.gpu_memory_total, "max", _GPU)
    return [
        lines(
            "Utilisation",
            "Share of time in which any kernel ran. 100 % does not mean that the GPU is full: queue age and real-time "
            "factor show that.",
            SHARE,
            {_SEES: gauge(metrics.gpu_utilization, "max", _GPU)},
        ),
        lines(
            "Memory in use",
            "Share of the GPU's memory that all processes use. Above the line the next model call may fail: lower "
            "device_memory, cache_memory or batch.",
            SHARE,
            {_SEES: f"{used} / {total}"},
            limit=0.95,
            runbooks=["GpuMemory"],
        ),
        lines(
            "Memory by process",
            "GPU memory of each worker. It grows with batches and conversations up to a limit.",
            BYTES,
            {"{{stage}} {{instance}} GPU {{gpu}}": gauge(metrics.gpu_process_memory, "max", ("stage", *_GPU))},
            runbooks=["GpuMemory"],
        ),
        lines(
            "Power",
            "Power draw. If it is far below the card's limit under full load, the GPU waits for the CPU or for work.",
            units.Watt,
            {_SEES: gauge(metrics.gpu_power, "max", _GPU)},
        ),
        lines(
            "Temperature",
            "Above about 85 °C a GPU throttles: check its cooling.",
            units.Celsius,
            {_SEES: gauge(metrics.gpu_temperature, "max", _GPU)},
        ),
        lines(
            "Xid errors, per minute",
            "Errors reported by the driver. Every one is serious: take the machine out of service, and find the Xid "
            "number in its kernel log.",
            PER_MINUTE,
            {"all": or_zero(per_minute(metrics.gpu_xid_errors)), _SEES: per_minute(metrics.gpu_xid_errors, _GPU)},
            runbooks=["GpuXid"],
        ),
    ]


def _dcgm() -> list[Panel]:
    panels = (
        ("Utilisation", "Share of time in which any kernel ran.", units.Percent, "DCGM_FI_DEV_GPU_UTIL"),
        ("Engine active", "Share of time in which the GPU computed.", SHARE, "DCGM_FI_PROF_GR_ENGINE_ACTIVE"),
        (
            "Tensor cores active",
            "Share of cycles in which they worked. Low under load: small batches, or models in float32.",
            SHARE,
            "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
        ),
        (
            "Power",
            "Power draw. If it is far below the card's limit under full load, the GPU waits.",
            units.Watt,
            "DCGM_FI_DEV_POWER_USAGE",
        ),
        ("Temperature", "Above about 85 °C a GPU throttles.", units.Celsius, "DCGM_FI_DEV_GPU_TEMP"),
        (
            "Last Xid error",
            "Number of the latest Xid error; 0: none. Take the machine out of service, and look the number up.",
            COUNT,
            "DCGM_FI_DEV_XID_ERRORS",
        ),
    )
    memory = lines(
        "Memory",
        "Used and free memory, in MiB. If little is free, the next model call may fail.",
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
                title,
                f"{about} {metric} of the DCGM exporter.",
                unit,
                {"{{Hostname}} GPU {{gpu}}": foreign(metric, "max", by=("Hostname", "gpu"))},
                runbooks=["GpuXid"] if metric.endswith("XID_ERRORS") else [],
            )
            for title, about, unit, metric in panels
        ),
        memory,
    ]
