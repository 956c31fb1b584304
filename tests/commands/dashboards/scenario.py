"""Test scenarios of alerts: series and the alerts that must fire, as input of `promtool test rules`.

Series have one sample per minute. A scenario has phases; the alerts are checked at the end of some of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Labels = dict[str, str]
Fired = tuple[Labels, str]
"""The labels of a firing alert, without `alertname`, and its description."""

STEP_S = 60
ABSENT, STALE = "_", "stale"


@dataclass(frozen=True)
class Scenario:
    alert: str
    series: Mapping[str, str]
    """In the notation of promtool."""
    expected: Mapping[int, Sequence[Fired]]
    """All alerts of this name that fire at a minute."""
    values: Mapping[str, float] = field(default_factory=dict)
    """Values of expressions at the first of these minutes."""

    def as_test(self, rules: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """`rules`: the rule of each alert, from which the constant annotations are taken."""
        fixed = {key: rules[self.alert]["annotations"][key] for key in ("runbook_url", "dashboard")}
        return {
            "interval": f"{STEP_S}s",
            "input_series": [{"series": name, "values": values} for name, values in self.series.items()],
            "alert_rule_test": [
                {
                    "eval_time": f"{minute}m",
                    "alertname": self.alert,
                    "exp_alerts": [
                        {
                            "exp_labels": labels,
                            "exp_annotations": {
                                **fixed,
                                "summary": summary_of(rules[self.alert], labels),
                                "description": description,
                            },
                        }
                        for labels, description in fired
                    ],
                }
                for minute, fired in self.expected.items()
            ],
            "promql_expr_test": [
                {"eval_time": f"{min(self.expected)}m", "expr": expr, "exp_samples": [{"labels": "{}", "value": value}]}
                for expr, value in self.values.items()
            ],
        }


def summary_of(rule: Mapping[str, Any], labels: Labels) -> str:
    return str(rule["annotations"]["summary"]).replace("{{ $labels.stage }}", labels.get("stage", ""))


def holds(*phases: tuple[float | str, int]) -> str:
    """A gauge: values and their minutes. In promtool's notation `1x4` means five samples, and `_x4` four gaps."""
    return " ".join(
        STALE if value == STALE else f"{value}x{minutes if value == ABSENT else minutes - 1}"
        for value, minutes in phases
    )


def counts(*phases: tuple[float, int]) -> str:
    """A counter that starts at 0: events per minute and the number of minutes."""
    total, parts = 0.0, ["0"]
    for each, minutes in phases:
        parts.append(f"{total + each:g}+{each:g}x{minutes - 1}")
        total += each * minutes
    return " ".join(parts)


def ticket(**labels: str) -> Labels:
    return {"severity": "ticket", **labels}
