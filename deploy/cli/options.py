"""What several commands share: their options, the settings, and the exit code for wrong ones."""

import sys
from typing import Annotated, NoReturn

import typer

from shared.settings import BadSettings, Settings, load_settings

SETTINGS_WRONG = 2
"""Exit code: the settings or the options are wrong, and starting again will not help."""

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Url = Annotated[
    str | None, typer.Option(help="URL of the running Parley.", show_default="from PARLEY_HOST and PARLEY_PORT")
]


def read_settings() -> Settings:
    """The settings of the environment. Prints wrong ones and exits with `SETTINGS_WRONG`."""
    try:
        return load_settings()
    except BadSettings as error:
        exit_settings_wrong(error)


def server_url(url: str | None) -> str:
    """The URL given on the command line, or the edge's URL that follows from the settings."""
    from deploy.local.address import edge_url

    settings = read_settings()
    return url or edge_url(settings)


def exit_settings_wrong(error: Exception) -> NoReturn:
    print(error, file=sys.stderr)
    raise typer.Exit(SETTINGS_WRONG) from None
