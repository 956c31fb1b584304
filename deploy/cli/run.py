"""`parley up` and `parley observe`: run several programs on this machine until a signal stops them."""

import os
from typing import Annotated

import typer

from deploy.cli.options import exit_settings_wrong, read_settings
from services.edge.access.mode import mode_of
from shared.agents.folder import load_agents
from shared.settings import BadSettings


def up(
    port: Annotated[int | None, typer.Option(help="Port of the page.", show_default="PARLEY_PORT, or 8000")] = None,
    profile: Annotated[
        str | None, typer.Option(help="Set of engines and models.", show_default="PARLEY_PROFILE, or light")
    ] = None,
) -> None:
    """Run everything on this machine: broker, four stages, edge. Ctrl-C stops it.

    Models that this machine lacks are downloaded first.

    Exit code: 0 stopped by a signal, 1 no broker or a port is in use,
    2 the settings are wrong.
    """
    given = {"PARLEY_PORT": port, "PARLEY_PROFILE": profile}
    os.environ.update({name: str(value) for name, value in given.items() if value is not None})
    settings = read_settings()
    try:  # before anything is downloaded or started
        load_agents(settings)
        mode_of(settings)
    except BadSettings as error:
        exit_settings_wrong(error)
    from deploy.local.up import up as run_up

    raise typer.Exit(run_up(settings, os.environ))


def observe(
    prometheus_port: Annotated[
        int | None, typer.Option(min=1, max=65535, show_default="9090, or a free port if that is in use")
    ] = None,
    alertmanager_port: Annotated[
        int | None, typer.Option(min=1, max=65535, show_default="9093, or a free port if that is in use")
    ] = None,
) -> None:
    """Run Prometheus and Alertmanager beside `parley up`, with Parley's alert rules.

    It runs those of the two that are installed.

    Exit code: 0 stopped by a signal, 1 neither can be run here,
    2 the settings are wrong.
    """
    settings = read_settings()
    from deploy.local.observe import run_observe

    raise typer.Exit(run_observe(settings, os.environ, prometheus_port, alertmanager_port))
