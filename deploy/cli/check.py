"""`parley config` and `parley doctor`: what is configured, and what is wrong."""

import json
import os
from typing import Any

import typer

from deploy.cli.options import AsJson, Url, read_settings
from shared.settings import PROFILES, Settings


def config(as_json: AsJson = False) -> None:
    """Show every setting, with secrets masked."""
    rows = config_rows(read_settings())
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for heading in ("setting", "value", "default?", "what it is"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "setting")
    for row in rows:
        mark = "yes" if row["is_default"] else "set"
        table.add_row(row["name"], "–" if row["value"] in (None, "") else str(row["value"]), mark, row["description"])
    Console(highlight=False, markup=False).print(table)


def config_rows(settings: Settings) -> list[dict[str, Any]]:
    """Each setting as JSON has it: name in the environment, value, default, description."""
    values = settings.model_dump(mode="json")  # masks every SecretStr
    defaults = Settings.model_construct(**PROFILES[settings.profile]).model_dump(mode="json")
    return [
        {
            "name": f"PARLEY_{name.upper()}",
            "value": values[name],
            "default": defaults[name],
            "is_default": values[name] == defaults[name],
            "description": field.description,
        }
        for name, field in Settings.model_fields.items()
    ]


def doctor(url: Url = None, as_json: AsJson = False) -> None:
    """Check this machine and the running system; print what is wrong and how to fix it.

    With --url, it is an error if no Parley answers there.

    Exit code: 0 no check failed, 1 a check failed, 2 the settings are wrong.
    """
    settings = read_settings()
    from deploy.local.doctor import run_doctor

    raise typer.Exit(run_doctor(settings, os.environ, url=url, as_json=as_json))
