"""The alert rules: each fires, stays silent and resolves according to promtool, and has a runbook."""

import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards import alerts, slo
from deploy.cli.__main__ import app
from shared.settings import TABLE
from tests.commands.dashboards.budget_scenarios import BUDGETS
from tests.commands.dashboards.cause_scenarios import CAUSES
from tests.commands.dashboards.scenario import Scenario
from tests.conftest import need
from tests.support.waiting import HANG_S

REPOSITORY = Path(__file__).parents[3]
BUILT = REPOSITORY / "dashboards/built/alerts.yaml"
RUNBOOKS = REPOSITORY / "docs/runbooks"
ALERTMANAGER = REPOSITORY / "deploy/alertmanager/alertmanager.yml"
BOARDS = {"parley-overview", "parley-stages", "parley-broker", "parley-gpu", "parley-edge"}

GROUPS = yaml.safe_load(alerts.build()["alerts.yaml"])["groups"]
ALERTS: list[dict[str, Any]] = [rule for group in GROUPS for rule in group["rules"] if "alert" in rule]
NAMES = sorted({rule["alert"] for rule in ALERTS})


def run(*argv: str) -> str:
    """Run a program, which must succeed, and return its output."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=HANG_S, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def test_the_committed_rules_are_up_to_date() -> None:
    assert alerts.build() == {"alerts.yaml": BUILT.read_text()}


def test_prometheus_accepts_the_rules() -> None:
    assert "SUCCESS" in run(need("promtool"), "check", "rules", "--lint=all", "--lint-fatal", str(BUILT))


@pytest.mark.parametrize(
    ("groups", "scenarios", "pace"),
    [(("parley-causes",), CAUSES, "1m"), (("parley-slo", "parley-slo-long"), BUDGETS, "2m")],
    ids=["causes", "budgets"],
)
def test_each_alert_fires_stays_silent_and_resolves(
    groups: tuple[str, ...], scenarios: Sequence[Scenario], pace: str, tmp_path: Path
) -> None:
    asked = [group for group in yaml.safe_load(BUILT.read_text())["groups"] if group["name"] in groups]
    rules = {rule["alert"]: rule for group in asked for rule in group["rules"] if "alert" in rule}
    assert {scenario.alert for scenario in scenarios} == set(rules)
    if "ExporterAbsent" in rules:
        rules["ExporterAbsent"] = _absent("tts")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": asked}))
    document = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": pace,
        "group_eval_order": list(groups),
        "tests": [scenario.as_test(rules) for scenario in scenarios],
    }
    file = tmp_path / "scenarios.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))
    run(need("promtool"), "test", "rules", str(file))


def test_every_rule_is_tested() -> None:
    assert [group["name"] for group in GROUPS] == ["parley-slo", "parley-slo-long", "parley-causes"]


def _absent(stage: str) -> dict[str, Any]:
    return next(rule for rule in ALERTS if rule["alert"] == "ExporterAbsent" and rule["labels"]["stage"] == stage)


@pytest.mark.parametrize("name", NAMES)
def test_each_alert_says_what_happened_and_what_to_do(name: str) -> None:
    for rule in (rule for rule in ALERTS if rule["alert"] == name):
        notes = rule["annotations"]
        assert set(notes) == {"summary", "description", "runbook_url", "dashboard"}
        assert notes["runbook_url"] == f"docs/runbooks/{name}.md"
        assert notes["dashboard"] in BOARDS
        assert "$value" in notes["description"] or name == "ExporterAbsent"
        assert rule["labels"]["severity"] == "page" or rule["labels"]["severity"] == "ticket"
        assert rule["labels"]["severity"] == "ticket" or rule["labels"]["slo"]


def test_each_alert_has_a_runbook_and_each_runbook_an_alert() -> None:
    pages = {page.stem for page in RUNBOOKS.glob("*.md")} - {"README"}
    assert pages == set(NAMES)
    index = (RUNBOOKS / "README.md").read_text()
    for name in NAMES:
        page = (RUNBOOKS / f"{name}.md").read_text()
        assert page.startswith(f"# {name}\n")
        for part in ("## What it means", "## Where to look", "## What to do", "## When it is over", "## Causes"):
            assert part in page, f"{name}: {part}"
        assert f"({name}.md)" in index


def test_runbooks_name_only_existing_keys_and_metrics() -> None:
    from prometheus_client import REGISTRY

    known = {sample for family in REGISTRY.collect() for sample in (family.name, f"{family.name}_total")}
    for page in RUNBOOKS.glob("*.md"):
        text = page.read_text()
        for metric in set(re.findall(r"\bparley_[a-z_]+", text)):
            assert metric in known or re.sub(r"_(bucket|count|sum)$", "", metric) in known, f"{page.name}: {metric}"
        for key in set(re.findall(r"parley:\{0\}:([a-z]+)", text)):
            assert key in {"jobs", "dead", "ready", "in", "out", "speech", "session", "history"}, f"{page.name}: {key}"


def test_runbooks_name_only_existing_panels_settings_and_commands() -> None:
    titles = {title for board in BUILT.parent.glob("*.json") for title in _titles(json.loads(board.read_text()))}
    settings = {row.variable for row in TABLE.values()}
    commands = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    commands |= {group.name for group in app.registered_groups}
    for page in RUNBOOKS.glob("*.md"):
        text = page.read_text()
        assert set(re.findall(r"\bPARLEY_[A-Z_]+", text)) <= settings, page.name
        assert set(re.findall(r"`(?:PARLEY\S+ )?parley ([a-z]+)", text)) <= commands, page.name
        if page.stem != "README":
            assert {" ".join(title.split()) for title in re.findall(r"\*\*(.+?)\*\*", text, re.DOTALL)} <= titles, (
                page.name
            )


def _titles(board: dict[str, Any]) -> Iterator[str]:
    for panel in board.get("panels") or ():
        yield panel.get("title", "")
        yield from _titles(panel)


def test_only_burn_rate_alerts_page() -> None:
    paged = {rule["alert"] for rule in ALERTS if rule["labels"]["severity"] == "page"}
    assert paged == {one.alert for one in slo.SLOS}


def test_an_impossible_burn_rate_has_no_alert() -> None:
    lax = replace(slo.SLOS[0], objective=0.9)
    assert [burn.factor for burn in slo.burns(slo.SLOS[0])] == [14.4, 6, 3, 1]
    assert [burn.factor for burn in slo.burns(lax)] == [6, 3, 1]


def test_a_single_bad_event_raises_no_alert() -> None:
    for one in slo.SLOS:
        for burn in slo.burns(one):
            assert slo.least_events(one, burn) >= one.least
            assert 1 / (slo.least_events(one, burn) + 1) < slo.threshold(one, burn)


def test_runbook_url_and_hold_can_be_set() -> None:
    document = yaml.safe_load(alerts.build(runbooks="https://wiki.example/parley", hold="2s")["alerts.yaml"])
    built = [rule for group in document["groups"] for rule in group["rules"] if "alert" in rule]
    assert {rule["for"] for rule in built if "slo" not in rule["labels"]} == {"2s"}
    assert all(rule["annotations"]["runbook_url"].startswith("https://wiki.example/parley/") for rule in built)


def test_alertmanager_accepts_its_configuration_and_routes_alerts() -> None:
    amtool = need("amtool")
    run(amtool, "check-config", str(ALERTMANAGER))
    for severity in ("page", "ticket"):
        receiver = run(amtool, "config", "routes", "test", f"--config.file={ALERTMANAGER}", f"severity={severity}")
        assert receiver.strip() == severity
