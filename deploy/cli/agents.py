"""`parley agents`: the agents that a client can choose."""

from pathlib import Path
from typing import Annotated

import typer

from deploy.cli.options import AsJson, exit_settings_wrong, read_settings
from shared.agents.folder import BadAgents, load_agents
from shared.settings import Settings

agents = typer.Typer(help="List and check the agents.", no_args_is_help=True)


@agents.command("list")
def list_agents(as_json: AsJson = False) -> None:
    """List the agents of PARLEY_AGENTS. An asterisk marks the one that a client gets who names none.

    Exit code: 0 the agents were listed, 2 a setting or a file is wrong.
    """
    _show(read_settings(), as_json=as_json)


@agents.command()
def check(
    path: Annotated[
        Path | None, typer.Argument(help="A file, or a folder of files.", show_default="PARLEY_AGENTS")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check the files of agents. Voice, language and models are checked at the start, when the engines are known.

    Exit code: 0 all files are good, 2 a file is wrong: each line says which, where and why.
    """
    settings = read_settings()
    if path is not None:
        settings = settings.model_copy(update={"agents": path})
    _show(settings, as_json=as_json, checked=True)


def _show(settings: Settings, *, as_json: bool, checked: bool = False) -> None:
    try:
        known = load_agents(settings)
    except BadAgents as error:
        exit_settings_wrong(error)
    from deploy.local.agents import show_agents

    show_agents(known, settings, as_json=as_json, checked=checked)
