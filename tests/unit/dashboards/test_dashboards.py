"""The dashboards: complete, well-formed, and equal to the committed files."""

import json
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.metrics import MetricWrapperBase

from dashboards import __main__ as command
from dashboards import boards, overview, promql
from dashboards.alerts import CAUSES
from dashboards.chosen import RANGE
from dashboards.slo import SLOS
from shared.observability import metrics
from tests.conftest import need
from tests.support.waiting import HANG_S

UIDS = [f"parley-{name}" for name in ("overview", "waterfall", "stages", "gpu", "broker", "edge")]
KINDS = {"timeseries", "stat", "bargauge", "table"}
ON_NO_PANEL: dict[str, str] = {}
"""Metrics without a panel, and the reason."""


@cache
def built() -> dict[str, dict[str, Any]]:
    return {json.loads(text)["uid"]: json.loads(text) for text in boards.build().values()}


def panels(board: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The panels of all rows, including collapsed ones."""
    for panel in board["panels"]:
        if panel["type"] == "row":
            yield from panel["panels"]
        else:
            yield panel


def expressions() -> Iterator[tuple[str, str]]:
    """The place of each expression, and the expression."""
    for uid, board in built().items():
        for panel in panels(board):
            for target in panel["targets"]:
                yield f"{uid} {panel['id']} {target['refId']}", target["expr"]


def test_each_is_a_file_named_as_its_uid() -> None:
    assert list(boards.build()) == [f"{uid}.json" for uid in UIDS]
    assert list(built()) == UIDS


def test_keys_are_sorted() -> None:
    for text in boards.build().values():
        assert text == json.dumps(json.loads(text), indent=2, sort_keys=True) + "\n"


@pytest.mark.parametrize("uid", UIDS)
def test_every_panel_is_complete(uid: str) -> None:
    for panel in panels(built()[uid]):
        where = f"{uid} {panel.get('id')} {panel.get('title')}"
        assert panel["type"] in KINDS, where
        assert panel["title"].strip(), where
        assert panel["description"].strip().endswith("."), where
        assert panel["fieldConfig"]["defaults"]["unit"], where
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, where
        refs = [target["refId"] for target in panel["targets"]]
        assert refs, where
        assert len(set(refs)) == len(refs), where
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"], where
            assert target["expr"], where
            assert target["range"] != target["instant"], where
        if panel["type"] == "timeseries":
            assert panel["options"]["legend"]["showLegend"] is True, where
            legends = [target["legendFormat"] for target in panel["targets"]]
            assert all(legends), where
            assert len(set(legends)) == len(legends), where


@pytest.mark.parametrize("uid", UIDS)
def test_numbers_follow_their_row_and_are_unique(uid: str) -> None:
    row, seen = 0, []
    for panel in built()[uid]["panels"]:
        seen.append(panel["id"])
        if panel["type"] == "row":
            row = panel["id"]
            assert row % 10 == 0
        for inner in [panel, *panel.get("panels", ())]:
            assert row <= inner["id"] < row + 10
        seen += [inner["id"] for inner in panel.get("panels", ())]
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("uid", UIDS)
def test_panels_do_not_overlap(uid: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in built()[uid]["panels"]:
        for one in [panel, *panel.get("panels", ())]:
            at = one["gridPos"]
            cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
            assert at["x"] + at["w"] <= 24, one["title"]
            assert not cells & taken, one["title"]
            taken |= cells


@pytest.mark.parametrize("uid", UIDS)
def test_variables_and_links(uid: str) -> None:
    board = built()[uid]
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert {"datasource", "environment", "runbooks"} <= variables.keys()
    for name in ("environment", "stage", "engine"):
        if name in variables:
            assert variables[name]["allValue"] == ".*"
            assert variables[name]["current"]["value"] == ["$__all"]
            assert variables[name]["query"].startswith("label_values(parley_")
    used = set(
        re.findall(r"\$(\w+)", " ".join(target["expr"] for panel in panels(board) for target in panel["targets"]))
    )
    assert used <= variables.keys() | {"__range", "__rate_interval"}
    assert variables.keys() <= used | {"datasource", "runbooks"}
    (link,) = board["links"]
    assert (link["type"], link["tags"], link["includeVars"], link["keepTime"]) == ("dashboards", ["parley"], True, True)
    assert board["tags"] == link["tags"]
    assert '"placement"' not in json.dumps(board["links"])


def test_every_selector_has_the_environment() -> None:
    selector = re.compile(r"\b(?:parley|process|DCGM)_\w+(\{[^}]*\})?")
    for where, expression in expressions():
        found = list(selector.finditer(expression))
        for match in found:
            assert 'environment=~"$environment"' in (match[1] or ""), f"{where}: {match[0]}"
        assert found, where


def test_every_metric_is_on_a_panel() -> None:
    shown = set(re.findall(r"\bparley_\w+", " ".join(expression for _, expression in expressions())))
    suffixes = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            name = promql.name(metric)  # type: ignore[arg-type]
            is_shown = any(f"{name}{suffix}" in shown for suffix in suffixes[str(metric._type)])
            assert is_shown != (name in ON_NO_PANEL), name


def test_every_alert_names_a_dashboard_with_its_runbook() -> None:
    for alert, uid in [
        *((slo.alert, slo.dashboard) for slo in SLOS),
        *((cause.alert, cause.dashboard) for cause in CAUSES),
    ]:
        links = [link for panel in panels(built()[uid]) for link in panel["links"]]
        assert f"${{runbooks:raw}}/{alert}.md" in [link["url"] for link in links], f"{alert} on {uid}"


def test_runbook_links_name_alerts() -> None:
    known = {slo.alert for slo in SLOS} | {cause.alert for cause in CAUSES}
    for board in built().values():
        for panel in panels(board):
            for link in panel["links"]:
                alert = link["url"].removeprefix("${runbooks:raw}/").removesuffix(".md")
                assert alert in known, panel["title"]
                assert f"/{alert}.md" in panel["description"]


def test_the_overview_shows_the_slos_of_the_alerts() -> None:
    assert list(overview.GOOD) == [slo.name for slo in SLOS]
    for slo in SLOS:
        shown = re.sub(r'environment=~"\$environment"(, )?', "", overview.GOOD[slo.name]).replace("{}", "")
        assert _bare(f"1 - ({slo.errors(RANGE)})") in (_bare(shown), _bare(f"1 - (1 - {shown})"))


def _bare(expression: str) -> str:
    """The expression without parentheses and spaces, for comparison."""
    return re.sub(r"[()\s]", "", expression)


def test_every_expression_parses(tmp_path: Path) -> None:
    promtool = need("promtool")
    rules = [
        {"record": f"parley:test:{number}", "expr": filled(expression)}
        for number, (_, expression) in enumerate(expressions())
    ]
    assert len(rules) > 100
    file = tmp_path / "rules.yaml"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))  # JSON is YAML
    argv = (promtool, "check", "rules", str(file))
    done = subprocess.run(argv, capture_output=True, text=True, timeout=HANG_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"SUCCESS: {len(rules)} rules found" in done.stdout


def filled(expression: str) -> str:
    """The expression with values instead of Grafana's variables."""
    for variable, value in (("$__rate_interval", "5m"), ("$__range", "1h")):
        expression = expression.replace(variable, value)
    return re.sub(r"\$\w+", ".*", expression)


# -- the command ----------------------------------------------------------------------------------


def test_the_committed_dashboards_are_up_to_date() -> None:
    assert not [line for line in command.differences(command.build(), command.BUILT) if "parley-" in line]


def test_check_lists_the_differences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "built"
    assert command.main([], folder) == 0
    assert command.main(["--check"], folder) == 0
    assert capsys.readouterr().err == ""
    changed = folder / "parley-gpu.json"
    changed.write_text(changed.read_text() + " ")
    (folder / "parley-edge.json").unlink()
    (folder / "parley-old.json").write_bytes(b"\xff")
    assert command.main(["--check"], folder) == 1
    assert capsys.readouterr().err.splitlines() == [
        "parley-edge.json: missing",
        "parley-gpu.json: differs; run `python -m dashboards`",
        "parley-old.json: superfluous",
    ]
    assert command.main([], folder) == 0
    assert command.main(["--check"], folder) == 0


def test_in_a_missing_folder_all_files_are_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--check"], tmp_path / "none") == 1
    assert len(capsys.readouterr().err.splitlines()) == len(command.build())


def test_two_builders_with_the_same_file_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "BUILDERS", (boards.build, boards.build))
    with pytest.raises(ValueError, match=r"built twice: parley-broker\.json, "):
        command.build()
