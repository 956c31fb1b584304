"""`parley roll`: replace the services of a running `parley up`, without ending its conversations."""

import os
from typing import Annotated

import typer

from deploy.cli.options import read_settings


def roll(
    port: Annotated[int | None, typer.Option(help="Port of the page.", show_default="PARLEY_PORT, or 8000")] = None,
) -> None:
    """Replace every service of the `parley up` on this machine by a new process, one by one, while it serves.

    Use it after an update of the code. Calls go on. When the edge is replaced, each client connects again after a reply, and
    resumes its conversation; a call of a protocol that cannot resume ends there.

    Exit code: 0 all services are replaced, 1 a successor did not become ready, or no `parley up` answers,
    2 the settings are wrong.
    """
    if port is not None:
        os.environ["PARLEY_PORT"] = str(port)
    settings = read_settings()
    from deploy.local.roll import run_roll

    raise typer.Exit(run_roll(settings))
