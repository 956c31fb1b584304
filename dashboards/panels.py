"""The kinds of panels. Each panel has a description of what it shows and what to do."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from grafana_foundation_sdk.builders import bargauge, common, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders.dashboard import DashboardLink, ThresholdsConfig
from grafana_foundation_sdk.models import dashboard, units
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    GraphGradientMode,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import DashboardLinkType, DataSourceRef, Threshold, ThresholdsMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from dashboards.alerts import RUNBOOKS

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
PER_MINUTE = "suffix: / min"
SECONDS, SHARE, COUNT = units.Seconds, units.PercentUnit, units.Short
BYTES, MEBIBYTES = units.BytesIEC, units.Mebibytes
GREEN, AMBER, RED = "green", "orange", "red"

Panel = timeseries.Panel | stat.Panel | bargauge.Panel | table.Panel
AnyPanel = TypeVar("AnyPanel", timeseries.Panel, stat.Panel, bargauge.Panel, table.Panel)


def lines(
    title: str,
    about: str,
    unit: str,
    queries: Mapping[str, str],
    *,
    span: int = 8,
    stacked: bool = False,
    limit: float | None = None,
    runbooks: Sequence[str] = (),
) -> timeseries.Panel:
    """A time series. `queries` maps legends to expressions; `limit` draws a dashed red line."""
    panel = _describe(timeseries.Panel(), title, about, unit, span, 8, runbooks)
    for ref, (legend, expression) in zip(_REFS, queries.items(), strict=False):
        panel.with_target(_query(ref, expression, legend).range())
    panel.legend(
        common.VizLegendOptions()
        .show_legend(True)
        .display_mode(LegendDisplayMode.TABLE)
        .placement(LegendPlacement.BOTTOM)
        .calcs(["lastNotNull", "max"])
    )
    panel.tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    panel.line_width(1).fill_opacity(60 if stacked else 8).gradient_mode(GraphGradientMode.NONE)
    panel.show_points(VisibilityMode.NEVER).axis_soft_min(0)
    if stacked:
        panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
        panel.tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.NONE))
    if limit is not None:
        panel.thresholds(_steps((None, GREEN), (limit, RED))).axis_soft_max(limit)
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED))
    return panel


def figure(
    title: str,
    about: str,
    unit: str,
    expression: str,
    *,
    steps: Sequence[tuple[float | None, str]] = ((None, GREEN),),
    span: int = 6,
    height: int = 4,
    decimals: int | None = None,
    runbooks: Sequence[str] = (),
) -> stat.Panel:
    """A single number. `steps` are the lower bounds of its colours, `None` first."""
    panel = _describe(stat.Panel(), title, about, unit, span, height, runbooks)
    panel.with_target(_query("A", expression, title).instant())
    panel.thresholds(_steps(*steps)).reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    panel.color_mode(BigValueColorMode.BACKGROUND).graph_mode(BigValueGraphMode.NONE)
    return panel if decimals is None else panel.decimals(decimals)


def bars(title: str, about: str, unit: str, queries: Mapping[str, str]) -> bargauge.Panel:
    """A horizontal bar for each query, in order from the top."""
    panel = _describe(bargauge.Panel(), title, about, unit, 8, 8, ())
    for ref, (legend, expression) in zip(_REFS, queries.items(), strict=False):
        panel.with_target(_query(ref, expression, legend).instant())
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    return panel.orientation(VizOrientation.HORIZONTAL).thresholds(_steps((None, "blue")))


def rows(title: str, about: str, unit: str, expression: str) -> table.Panel:
    """A table of the labels and the value of each series."""
    panel = _describe(table.Panel(), title, about, unit, 24, 8, ())
    panel.with_target(_query("A", expression, "").instant().format(PromQueryFormat.TABLE))
    hidden = dashboard.DataTransformerConfig(id_val="organize", options={"excludeByName": {"Time": True}})
    return panel.with_transformation(hidden)


_NOTHING = dashboard.SpecialValueMap(
    dashboard.DashboardSpecialValueMapOptions(
        dashboard.SpecialValueMatch.NULL_AND_NAN, dashboard.ValueMappingResult(text="–")
    )
)
"""Shows a dash if there were no events to compute a share of."""
_REFS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _query(ref: str, expression: str, legend: str) -> prometheus.Dataquery:
    return prometheus.Dataquery().ref_id(ref).expr(expression).legend_format(legend).datasource(SOURCE)


def _describe(
    panel: AnyPanel, title: str, about: str, unit: str, span: int, height: int, runbooks: Sequence[str]
) -> AnyPanel:
    panel.title(title).unit(unit).span(span).height(height).datasource(SOURCE)
    # In the text, too: the links work only if the dashboard's variable `runbooks` is set.
    files = ", ".join(f"{RUNBOOKS}/{alert}.md" for alert in runbooks)
    panel.description(f"{about} Runbooks: {files}." if files else about)
    panel.links([_runbook(alert) for alert in runbooks])
    return panel.mappings([_NOTHING]).no_value("–")


def link(title: str, kind: DashboardLinkType) -> DashboardLink:
    """A link. The library's default moves it into a menu in newer Grafanas; None keeps it beside the variables."""
    return DashboardLink(title).type(kind).placement(None)  # type: ignore[arg-type]


def _runbook(alert: str) -> DashboardLink:
    runbook = link(f"Runbook: {alert}", DashboardLinkType.LINK)
    return runbook.url(f"${{runbooks:raw}}/{alert}.md").target_blank(True)


def _steps(*steps: tuple[float | None, str]) -> ThresholdsConfig:
    thresholds = [Threshold(value=value, color=color) for value, color in steps]
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(thresholds)
