"""`parley replay`: run a recorded session through the present code."""

from typing import Annotated

import typer

from deploy.cli.options import AsJson, Url, read_settings, server_url


def replay(
    session: Annotated[str, typer.Argument(help="Id of a recorded session, or the file of a recording.")],
    real_time: Annotated[
        bool, typer.Option("--real-time", help="Play it to a running Parley; takes as long as the session.")
    ] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Run the input of a recorded session through the present code, and compare with what happened.

    Without --real-time: through the detector, the turn-taking and the recogniser of the settings, as fast as they go; of the
    times, only the endpoint is compared. With it: through everything, with all times.

    PARLEY_RECORD says which sessions are recorded.

    Exit code: 0 the decisions about turns are the same, 1 they differ,
    2 the session cannot be replayed, or the settings are wrong.
    """
    from deploy.replay.replay import run_replay

    raise typer.Exit(run_replay(read_settings(), session, server_url(url), real_time=real_time, as_json_=as_json))
