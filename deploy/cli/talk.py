"""`parley talk`: a caller whose speech comes from a file, or from a second agent."""

from pathlib import Path
from typing import Annotated

import typer

from deploy.cli.options import AsJson, Url, server_url


def talk(
    file: Annotated[
        Path | None,
        typer.Argument(
            exists=True, dir_okay=False, help="What the caller says: a WAV or a .scene.", show_default=False
        ),
    ] = None,
    url: Url = None,
    agent: Annotated[str, typer.Option(help="Id of the agent to talk with.", show_default="the default agent")] = "",
    between: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="AGENT AGENT", help="Let two agents talk with each other, instead of a file."),
    ] = None,
    utterances: Annotated[int, typer.Option(min=1, max=1000, help="With --between: when it ends.")] = 10,
    out: Annotated[
        Path | None, typer.Option(help="Write what the caller hears to this WAV file.", show_default="not written")
    ] = None,
    clips: Annotated[
        Path | None, typer.Option(help="Folder of the recordings that a scene names.", show_default="the scene's own")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Play a recording or a scripted scene to a running Parley in real time, and print the conversation.

    Exit code: 0 the conversation is over, 1 it failed, 2 the settings are wrong.
    """
    if (file is None) == (between is None):
        raise typer.BadParameter("give either a file, or two agents with --between")
    if between is not None:
        from deploy.client.duet import run_duet

        raise typer.Exit(run_duet(*between, url=server_url(url), utterances=utterances, out=out, as_json=as_json))
    assert file is not None  # noqa: S101 - one of the two is there
    from deploy.client.talk import run_talk

    raise typer.Exit(run_talk(file, url=server_url(url), agent=agent, out=out, clips=clips, as_json=as_json))
