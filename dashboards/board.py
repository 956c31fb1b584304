"""Builds a dashboard from its rows, with the variables, links and settings that all dashboards share."""

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from dashboards import panels, promql
from dashboards.alerts import RUNBOOKS
from shared.observability import metrics

TAG = "parley"


@dataclass(frozen=True, slots=True)
class Row:
    number: int
    """A multiple of ten. Its panels have the numbers after it, which links contain: add new panels at the end."""
    title: str
    panels: Sequence[panels.Panel]
    collapsed: bool = False


def board(
    name: str, title: str, about: str, rows: Sequence[Row], choices: Sequence[dashboard.QueryVariable] = ()
) -> dict[str, str]:
    """Return the dashboard's JSON by its file name. `choices` are variables in addition to the environment."""
    built = dashboard.Dashboard(f"Parley: {title}").uid(f"parley-{name}").description(about).tags([TAG])
    built.refresh("10s").time("now-1h", "now").timezone("browser").readonly().tooltip(DashboardCursorSync.CROSSHAIR)
    built.with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    # Grafana adds this annotation to dashboards that lack it, and then reports unsaved changes.
    built.annotation(
        dashboard.AnnotationQuery()
        .name("Annotations & Alerts")
        .built_in(1)
        .type("dashboard")
        .datasource(DataSourceRef(type_val="grafana", uid="-- Grafana --"))
        .enable(True)
        .hide(True)
        .icon_color("rgba(0, 211, 255, 1)")
    )
    environment = f"label_values({promql.name(metrics.build_info)}, environment)"
    for variable in (choice("environment", environment), *choices):
        built.with_variable(variable)
    built.with_variable(
        dashboard.TextBoxVariable("runbooks")
        .label("Runbooks")
        .description("URL of the folder docs/runbooks, for the links of the panels.")
        .default_value(RUNBOOKS)
        .current(VariableOption(text=RUNBOOKS, value=RUNBOOKS))
    )
    others = panels.link("Dashboards", DashboardLinkType.DASHBOARDS).tags([TAG])
    built.link(others.include_vars(True).keep_time(True))
    for row in rows:
        header = dashboard.Row(row.title).id(row.number)
        for number, panel in enumerate(row.panels, row.number + 1):
            panel.id(number)
        if row.collapsed:
            for panel in row.panels:
                header.with_panel(panel)
        built.with_row(header)
        if not row.collapsed:
            for panel in row.panels:
                built.with_panel(panel)
    return {f"parley-{name}.json": JSONEncoder(sort_keys=True, indent=2).encode(built.build()) + "\n"}


def choice(name: str, query: str) -> dashboard.QueryVariable:
    """Create a multi-value variable of a label's values; all are selected initially."""
    variable = dashboard.QueryVariable(name).label(name.capitalize()).datasource(panels.SOURCE).query(query)
    variable.definition(query).refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).sort(VariableSort.ALPHABETICAL_ASC)
    variable.multi(True).include_all(True).all_value(".*")
    return variable.current(VariableOption(selected=True, text=["All"], value=["$__all"]))
