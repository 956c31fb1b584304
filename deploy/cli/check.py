"""`parley config` and `parley doctor`: what is configured, and what is wrong."""

import json
import os
from typing import Any

import typer

from deploy.cli.options import AsJson, Url, read_settings
from shared.protocol.session import SESSION_TABLE
from shared.settings import PROFILES, TABLE, Settings


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
    """Each setting as JSON: its variable, value, default, what is allowed, who may set it, and what it does."""
    values = settings.flat()
    defaults = Settings.model_construct(profile=settings.profile).flat() | PROFILES[settings.profile]
    return [
        {
            "name": row.variable,
            "value": values[name],
            "default": defaults[name],
            "is_default": values[name] == defaults[name],
            "allowed": row.allowed,
            "unit": row.setting.unit,
            "client": name in SESSION_TABLE,
            "description": row.setting.text,
        }
        for name, row in TABLE.items()
    ]


def doctor(url: Url = None, as_json: AsJson = False) -> None:
    """Check this machine and the running system; print what is wrong and how to fix it.

    With --url, it is an error if no Parley answers there.

    Exit code: 0 no check failed, 1 a check failed, 2 the settings are wrong.
    """
    settings = read_settings()
    from deploy.local.doctor import run_doctor

    raise typer.Exit(run_doctor(settings, os.environ, url=url, as_json=as_json))
