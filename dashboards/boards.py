"""All Grafana dashboards."""

from dashboards import broker, edge, gpu, overview, stages, waterfall


def build() -> dict[str, str]:
    built: dict[str, str] = {}
    for dashboard in (overview, waterfall, stages, gpu, broker, edge):
        built |= dashboard.build()
    return built
