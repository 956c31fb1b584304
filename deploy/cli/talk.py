"""`parley talk`: a caller whose speech comes from a file."""

from pathlib import Path
from typing import Annotated

import typer

from deploy.cli.options import AsJson, Url, server_url


def talk(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="What the caller says: a WAV or a .scene.")],
    url: Url = None,
    agent: Annotated[str, typer.Option(help="Id of the agent to talk with.", show_default="the default agent")] = "",
    out: Annotated[Path, typer.Option(help="File for the audio of the replies.")] = Path("reply.wav"),
    clips: Annotated[
        Path | None, typer.Option(help="Folder of the recordings that a scene names.", show_default="the scene's own")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Play a recording or a scripted scene to a running Parley in real time; print and record the conversation.

    Exit code: 0 the conversation is over, 1 it failed, 2 the settings are wrong.
    """
    from deploy.client.talk import run_talk

    raise typer.Exit(run_talk(file, url=server_url(url), agent=agent, out=out, clips=clips, as_json=as_json))
