"""`parley keys`: the keys of those who may use the edge. A running edge notices a change by itself."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from deploy.cli.options import AsJson, exit_settings_wrong, read_settings
from services.edge.access.keys import BadKeys, Key, KeyFile
from shared.agents.folder import BadAgents, load_agents

keys = typer.Typer(help="Create, list and revoke the keys of those who may use Parley.", no_args_is_help=True)


@keys.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose key it is: a name for people.")],
    days: Annotated[
        float | None, typer.Option(min=0.001, help="It expires after these days.", show_default="never")
    ] = None,
    sessions: Annotated[
        int | None, typer.Option(min=1, help="Most sessions at the same time, on one edge.", show_default="no limit")
    ] = None,
    agent: Annotated[
        list[str] | None, typer.Option(help="An agent that it may talk with; repeat it.", show_default="all")
    ] = None,
    operator: Annotated[
        bool, typer.Option("--operator", help="It also opens the monitor, and may add and delete voices.")
    ] = False,
) -> None:
    """Create a key and print it. It is not stored, so nobody can print it again.

    Exit code: 0 created, 2 the settings or the options are wrong.
    """
    settings = read_settings()
    try:
        unknown = set(agent or ()) - set(load_agents(settings).by_id)
        if unknown:
            raise typer.BadParameter(f"there is no agent {', '.join(sorted(unknown))}: see `parley agents list`")
        secret, key = KeyFile(settings).create(
            name, days=days, sessions=sessions, agents=tuple(agent or ()), operator=operator
        )
    except (BadAgents, BadKeys) as error:
        exit_settings_wrong(error)
    typer.echo(f"Key {key.id} of {name}. Keep it: it is not shown again.", err=True)
    print(secret)


@keys.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """List the keys: who has one, until when, and for what."""
    try:
        known = KeyFile(read_settings()).read().values()
    except BadKeys as error:
        exit_settings_wrong(error)
    if as_json:
        print(json.dumps([asdict(key) for key in known], indent=2))
    elif not known:
        print("No keys yet. Create one: parley keys create NAME")
    else:
        for key in known:
            print("  ".join((key.id, key.name, *_facts(key))))


@keys.command()
def revoke(which: Annotated[str, typer.Argument(help="Id or name of the key.")]) -> None:
    """Delete a key. Its sessions end within seconds.

    Exit code: 0 deleted, 1 there is no such key, 2 the settings are wrong.
    """
    try:
        revoked = KeyFile(read_settings()).revoke(which)
    except BadKeys as error:
        exit_settings_wrong(error)
    for key in revoked:
        print(f"revoked {key.id} of {key.name}")
    if not revoked:
        typer.echo(f"there is no key {which!r}: see `parley keys list`", err=True)
        raise typer.Exit(1)


def _facts(key: Key) -> list[str]:
    facts = [f"created {_day(key.created_s)}"]
    if key.expires_s is not None:
        facts.append(f"expires {_day(key.expires_s)}")
    if key.sessions is not None:
        facts.append(f"at most {key.sessions} sessions")
    if key.agents:
        facts.append(f"agents {', '.join(key.agents)}")
    if key.operator:
        facts.append("operator")
    return facts


def _day(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d")
