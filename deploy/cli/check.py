"""`parley config` and `parley doctor`: what is configured, and what is wrong."""

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.cli.options import AsJson, Url, read_settings
from shared.protocol.session import SESSION_TABLE
from shared.settings import PROFILES, TABLE, Settings

if TYPE_CHECKING:
    from rich.console import Console


def config(
    words: Annotated[
        list[str] | None, typer.Argument(help="Show only settings that contain all of these words.")
    ] = None,
    changed: Annotated[
        bool, typer.Option("--changed", help="Show only settings that differ from the default.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the settings by section, with secrets masked. A star marks a setting that differs from the default."""
    rows = [row for row in config_rows(read_settings()) if _matches(row, words or (), changed=changed)]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    from rich.console import Console

    console = Console(highlight=False)
    for section in dict.fromkeys(row["section"] for row in rows):
        console.print(f"\n{section}", style="bold", markup=False)
        for row in rows:
            if row["section"] == section:
                _print_row(row, console)
    if not rows:
        console.print("no setting " + ("differs from its default" if changed else "contains these words"))


def _matches(row: dict[str, Any], words: Sequence[str], *, changed: bool) -> bool:
    text = f"{row['name']} {row['section']} {row['description']}".lower()
    return all(word.lower() in text for word in words) and not (changed and row["is_default"])


def _print_row(row: dict[str, Any], console: "Console") -> None:
    from rich.padding import Padding
    from rich.text import Text

    line = Text("  " if row["is_default"] else "* ")
    line.append(row["name"], style="" if row["is_default"] else "bold green")
    line.append(f" = {_shown(row['value'], row['unit'])}")
    if not row["is_default"]:
        line.append(f"  (default {_shown(row['default'], row['unit'])})", style="dim")
    console.print(line, overflow="fold")
    console.print(Padding(Text(row["description"], style="dim"), (0, 0, 0, 6)))


def _shown(value: object, unit: str) -> str:
    if value in (None, ""):
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value} {unit}".rstrip()


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
            "section": row.section,
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
