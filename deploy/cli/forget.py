"""`parley forget`: delete what is stored about a session."""

from typing import Annotated

import typer

from deploy.cli.options import AsJson, read_settings


def forget(
    session: Annotated[str, typer.Argument(help="Id of the session, as `parley turns` shows it.")],
    as_json: AsJson = False,
) -> None:
    """Delete everything that is stored about a session, and check that it is gone.

    Run it on the machine of the edge: that has the recordings.

    Exit code: 0 nothing is left, 1 something is left or the broker cannot be asked,
    2 the id or the settings are wrong.
    """
    from deploy.local.forget import run_forget

    raise typer.Exit(run_forget(read_settings(), session, as_json=as_json))
