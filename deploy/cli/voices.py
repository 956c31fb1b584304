"""`parley voices`: the cloned voices of a running Parley."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from deploy.cli.options import AsJson, Url, server_url

voices = typer.Typer(help="List, add and delete cloned voices.", no_args_is_help=True)


@voices.command("list")
def list_voices(
    language: Annotated[
        str, typer.Option(help="Only voices that speak it: de, en-gb.", show_default="all languages")
    ] = "",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List the voices that sessions can use, by language."""
    from deploy.client.voices import show_voices

    _run(url, lambda base: show_voices(base, language=language, as_json=as_json))


@voices.command()
def add(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="3 to 12 s of one person: WAV, FLAC, OGG, MP3.")
    ],
    name: Annotated[str, typer.Option(help="Name by which sessions select the voice.")],
    text: Annotated[str, typer.Option(help="What is said in the recording, word for word.")],
    url: Url = None,
) -> None:
    """Clone a voice from a recording."""
    from deploy.client.voices import add_voice

    _run(url, lambda base: add_voice(base, file, name, text))


@voices.command()
def delete(name: Annotated[str, typer.Argument(help="Name of the voice.")], url: Url = None) -> None:
    """Delete a cloned voice. A sentence that is being spoken with it is finished."""
    from deploy.client.voices import delete_voice

    _run(url, lambda base: delete_voice(base, name))


def _run(url: str | None, work: Callable[[str], None]) -> None:
    from deploy.monitor.client import exit_code_of

    base = server_url(url)
    raise typer.Exit(exit_code_of(base, lambda: work(base)))
